"""Cartesian parallel MRI: centring without shifts, several sets of maps, the normal operator and conjugate gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows_mri import dft, draw

from medjax import linalg
from medjax.operators.centred_fft import centred_fft, centred_ifft
from medjax.operators.coil_sensitivities import coil_sensitivities
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.sense import sense

_apply, _adjoint, _normal = jax.jit(lambda A, x: A(x)), jax.jit(lambda A, y: A.adjoint(y)), jax.jit(lambda A, x: A.normal(x))

SIZES = [(7, 9), (6, 8), (6, 10), (9, 14), (8, 12), (1, 6), (2, 5)]  # odd, 0 and 2 mod 4, mixed, degenerate


@pytest.mark.parametrize("shape", SIZES)
def test_centred_transform_of_every_size(key, shape):
    x = draw(key, (2, *shape))
    y = centred_fft(x)
    assert np.allclose(y, np.stack([dft(each) for each in x]), rtol=0, atol=1e-13)
    assert np.allclose(centred_ifft(y), x, rtol=0, atol=1e-13)


def test_centred_transform_of_volumes(key):
    x = draw(key, (5, 6, 7))
    axes = (0, 1, 2)
    wanted = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(x, axes), axes=axes, norm="ortho"), axes)
    assert np.allclose(centred_fft(x, 3), wanted, rtol=0, atol=1e-13)
    assert np.allclose(centred_ifft(jnp.asarray(wanted), 3), x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [jnp.complex64, jnp.complex128])
@pytest.mark.parametrize("shape", [(6, 8), (5, 8)])
def test_keeps_the_dtype(key, shape, dtype):
    x = draw(key, shape).astype(dtype)
    A = sense(draw(key, (3, *shape)), jnp.ones(shape, bool))
    assert all(jax.eval_shape(f, x).dtype == dtype for f in (centred_fft, centred_ifft, A, lambda x: A.adjoint(A(x)), A.normal))


@pytest.mark.parametrize("sets, coils, shape", [((), 1, (7, 9)), ((), 5, (6, 8)), ((2,), 3, (6, 10)), ((2,), 4, (9, 14))])
def test_normal_is_the_adjoint_after_the_operator(key, sets, shape, coils):
    mask = draw(jax.random.fold_in(key, 1), shape) * jax.random.bernoulli(key, 0.6, shape)  # complex weights have a phase to cancel
    A = sense(draw(key, (*sets, coils, *shape)), mask)
    x = draw(jax.random.fold_in(key, 2), (*sets, *shape))
    found, wanted = _normal(A, x), _adjoint(A, _apply(A, x))
    assert found.shape == x.shape
    assert np.linalg.norm(found - wanted) <= 1e-13 * np.linalg.norm(wanted)


def test_masked_fourier_has_the_normal_operator(key):
    for shape in SIZES[:2]:
        A, x = masked_fourier(draw(key, shape)), draw(jax.random.fold_in(key, 1), shape)
        found = _normal(A, x)
        assert np.linalg.norm(found - _adjoint(A, _apply(A, x))) <= 1e-13 * np.linalg.norm(found)


def test_one_flat_coil_is_masked_fourier(key):
    mask = jax.random.uniform(key, (6, 7))
    x = draw(key, (6, 7))
    assert np.allclose(sense(jnp.ones((1, 6, 7)), mask)(x)[0], masked_fourier(mask)(x), rtol=0, atol=1e-14)


def test_one_set_is_no_set(key):
    maps, mask, x = draw(key, (3, 6, 7)), jax.random.uniform(key, (6, 7)), draw(jax.random.fold_in(key, 1), (6, 7))
    A, B = sense(maps, mask), sense(maps[None], mask)
    y = _apply(A, x)
    assert np.allclose(y, _apply(B, x[None]), rtol=0, atol=1e-13)
    assert np.allclose(_adjoint(A, y), _adjoint(B, y)[0], rtol=0, atol=1e-12)


def test_conjugate_gradient_solves_the_dense_normal_equations(key):
    """Tikhonov SENSE with every other line against the pseudo-inverse of the matrix."""
    shape, mask = (6, 8), jnp.zeros((6, 8)).at[::2].set(1)
    A = sense(draw(key, (4, *shape)), mask)
    basis = jnp.eye(48, dtype=jnp.complex128).reshape(48, *shape)
    matrix = np.asarray(jax.jit(jax.vmap(A))(basis)).reshape(48, -1).T
    y = draw(jax.random.fold_in(key, 3), (4, *shape))
    wanted = np.linalg.solve(matrix.conj().T @ matrix + 0.1 * np.eye(48), matrix.conj().T @ np.asarray(y).ravel())
    x = linalg.conjugate_gradient(lambda x: A.normal(x) + 0.1 * x, A.adjoint(y), num_steps=200, tolerance=1e-13)
    assert np.linalg.norm(np.asarray(x).ravel() - wanted) <= 1e-10 * np.linalg.norm(wanted)


def test_learns_maps(key):
    """The gradient for complex maps: ||A x||^2 grows fastest along F^H M F x_c conj(x)."""
    maps, mask, x = draw(key, (2, 4, 6)), jnp.ones((4, 6)), draw(jax.random.fold_in(key, 1), (4, 6))
    gradient = jax.jit(jax.grad(lambda maps: linalg.norm(sense(maps, mask)(x)) ** 2 / 2))(maps)
    assert np.allclose(jnp.conj(gradient), maps * jnp.abs(x)[None] ** 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("maps, mask", [((3, 4, 5), (4, 6)), ((4, 5), (4, 5)), ((3, 4, 5), (3, 4, 5)), ((1, 2, 3, 4, 5), (4, 5))])
def test_refuses_maps_that_do_not_fit(maps, mask):
    with pytest.raises(ValueError, match="sense needs maps"):
        sense(jnp.ones(maps), jnp.ones(mask))


def test_refuses_an_empty_mask_and_wrong_images():
    with pytest.raises(ValueError, match="samples at least one point"):
        sense(jnp.ones((2, 4, 4)), jnp.zeros((4, 4)))
    A = sense(jnp.ones((2, 3, 4, 4)), jnp.ones((4, 4)))
    for x in (jnp.ones((4, 4), complex), jnp.ones((3, 4, 4), complex), jnp.ones((2, 4, 1), complex)):
        with pytest.raises(ValueError, match="sense of maps"):
            A(x)
    for y in (jnp.ones((3, 4, 1), complex), jnp.ones((1, 4, 4), complex), jnp.ones((2, 3, 4, 4), complex)):
        with pytest.raises(ValueError, match="needs data"):
            A.adjoint(y)
    with pytest.raises(ValueError, match="coil_sensitivities needs maps"):
        coil_sensitivities(jnp.ones((4, 4)))
    with pytest.raises(ValueError, match="needs an image"):
        coil_sensitivities(jnp.ones((2, 4, 4)))(jnp.ones((1, 4)))
    with pytest.raises(ValueError, match="as many images"):
        coil_sensitivities(jnp.ones((2, 4, 4))).adjoint(jnp.ones((1, 4, 4)))


def test_real_image_is_one_without_phase():
    """For even and odd sizes, whose phases are signs and are not."""
    for n in (8, 9):
        rng = np.random.default_rng(n)
        maps, x = jnp.asarray(rng.normal(size=(2, n, n)) + 1j * rng.normal(size=(2, n, n))), jnp.asarray(rng.normal(size=(n, n)))
        for A in (sense(maps, jnp.ones((n, n))), masked_fourier(jnp.ones((n, n)))):
            assert jnp.array_equal(A(x), A(x + 0j)) and jnp.array_equal(A.normal(x), A.normal(x + 0j))
