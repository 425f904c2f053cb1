"""Non-Cartesian MRI: accuracy, scaling, gradients for the trajectory, the Toeplitz form and density compensation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows_mri import draw, nudft, points, toeplitz_matrix

from medjax import linalg
from medjax.operators.algebra import compose
from medjax.operators.coil_sensitivities import coil_sensitivities
from medjax.operators.density_compensation import density_compensation, radial_density
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.nufft import nufft
from medjax.operators.toeplitz import toeplitz

_apply, _adjoint, _toeplitz = jax.jit(lambda A, x: A(x)), jax.jit(lambda A, y: A.adjoint(y)), jax.jit(toeplitz)


def _relative(a, b):
    return np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(b)


def _spokes(count, samples, size):
    angles, radius = np.pi * np.arange(count) / count, (np.arange(samples) - samples // 2) * size / samples
    return np.stack([np.outer(np.sin(angles), radius), np.outer(np.cos(angles), radius)], -1)


# the documented error, with some room: random points are a fair mean, small sizes scatter by a factor below 2
@pytest.mark.parametrize("width, oversampling, error", [(4, 1.5, 4e-3), (7, 1.5, 1e-5), (9, 2.0, 2e-8), (14, 2.0, 3e-12)])
def test_error_at_every_width(key, width, oversampling, error):
    k = points(key, (300,), (30, 21))
    x = draw(key, (30, 21))
    assert _relative(_apply(nufft(k, (30, 21), width, oversampling), x), nudft(k, x)) < error


@pytest.mark.parametrize("shape", [(7, 9), (6, 8), (1, 10)])
def test_full_cartesian_samples_are_masked_fourier(key, shape):
    k = np.stack(np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij"), -1)  # integers
    x = draw(key, shape)
    assert _relative(_apply(nufft(k, shape, 10, 2.0), x), masked_fourier(jnp.ones(shape))(x)) < 5e-9  # the kernel's error


def test_edges_and_beyond_are_periodic(key):
    """Samples whose kernel wraps round the padded grid, and those a whole period away."""
    k = np.array([[-4.0, 3.5], [4.0, -3.5], [3.999, 0.0], [0.0, 0.0], [12.3, -10.2], [-19.7, 24.8]])
    x = draw(key, (8, 7))
    assert _relative(_apply(nufft(k, (8, 7), 10, 2.0), x), nudft(k, x)) < 5e-9  # the kernel's error


def test_far_beyond_is_periodic(key):
    """Further than 32-bit integers reach; multiples of the sizes, so that double precision holds k."""
    k, x = points(key, (20,), (8, 6)), draw(key, (8, 6))
    far = 24.0 * 2**30
    assert _relative(_apply(nufft(k + jnp.array([[far, -far]]), (8, 6)), x), _apply(nufft(k, (8, 6)), x)) < 1e-4  # k is rounded to 4e-6


def test_single_precision_loses_no_digit_of_k(key):
    """At 1.5-fold oversampling k times the ratio would be rounded to 1e-5 of a cycle at the rim; a fifth of the kernel's error is the limit."""
    shape = (300, 6)
    k = points(key, (100,), shape).at[:, 0].add(jnp.linspace(-20, 20, 100)).astype(jnp.float32)
    x = draw(key, shape).astype(jnp.complex64)
    y = _apply(nufft(k, shape, 9, 1.5), x)
    assert y.dtype == jnp.complex64
    assert _relative(y, nudft(k.astype(jnp.float64), x.astype(jnp.complex128))) < 1.5e-6


def test_coils_together_are_coils_apart(key):
    A = nufft(points(key, (5, 4), (6, 7)), (6, 7))
    x, y = draw(key, (2, 3, 6, 7)), draw(key, (2, 3, 5, 4))
    data, images = _apply(A, x), _adjoint(A, y)
    assert data.shape == (2, 3, 5, 4) and images.shape == (2, 3, 6, 7)
    assert _relative(data[1, 2], _apply(A, x[1, 2])) < 1e-14
    assert _relative(images[1, 2], _adjoint(A, y[1, 2])) < 1e-14


def test_sense_of_any_trajectory(key):
    """Coils by composition, and the normal operator by the Toeplitz form."""
    k, maps, x = points(key, (5, 7), (8, 9)), draw(jax.random.fold_in(key, 1), (3, 8, 9)), draw(key, (8, 9))
    F, S = nufft(k, (8, 9), 10, 2.0), coil_sensitivities(maps)
    A = compose(F, S)
    y = _apply(A, x)
    assert _relative(y, nudft(k, np.asarray(maps) * np.asarray(x))) < 5e-9  # the kernel's error
    assert _relative(S.adjoint(_toeplitz(F)(S(x))), _adjoint(A, y)) < 1e-8


def test_chunks_of_samples_add_up(key):
    """More samples than the adjoint takes at a time, and not a multiple."""
    k, y = points(key, (2500,), (6, 8)), draw(key, (2500,))
    basis = jnp.eye(48, dtype=jnp.complex128).reshape(48, 6, 8)
    wanted = (nudft(k, basis).conj() @ np.asarray(y)).reshape(6, 8)
    assert _relative(_adjoint(nufft(k, (6, 8), 10, 2.0), y), wanted) < 2e-8  # the kernel's error


def test_gradient_for_the_trajectory_is_that_of_the_sum(key):
    """d/dk of both forward and adjoint, by a traced trajectory under jit, against the derivative of the dense sum."""
    k, x, y = points(key, (12,), (6, 7)), draw(key, (6, 7)), draw(jax.random.fold_in(key, 1), (12,))

    def dense(k):
        n = jnp.stack(jnp.meshgrid(*((jnp.arange(n) - n // 2) / n for n in (6, 7)), indexing="ij"), -1).reshape(-1, 2)
        return jnp.exp(-2j * jnp.pi * k @ n.T) @ x.ravel() / np.sqrt(42)

    def wanted(k):
        return linalg.vdot(dense(k), y)

    ours = (lambda k: linalg.vdot(nufft(k, (6, 7), 10, 2.0)(x), y), lambda k: linalg.vdot(x, nufft(k, (6, 7), 10, 2.0).adjoint(y)))
    for loss in ours:
        assert _relative(jax.jit(jax.grad(loss))(k), jax.grad(wanted)(k)) < 1e-6  # a derivative of the kernel loses two digits
        direction = jnp.ones_like(k)
        curvature = jax.jit(lambda k, loss=loss: jax.jvp(jax.grad(loss), (k,), (jnp.ones_like(k),))[1])(k)
        assert _relative(curvature, jax.jvp(jax.grad(wanted), (k,), (direction,))[1]) < 1e-4  # and a second one two more


def test_real_data_have_a_gradient(key):
    """They are complex data without phase: the adjoint and its gradient are the real data's."""
    A, y = nufft(points(key, (5,), (4, 4)), (4, 4)), jax.random.normal(key, (5,))

    def energy(y):
        return linalg.vdot(A.adjoint(y), A.adjoint(y)) / 2

    assert np.allclose(jax.grad(energy)(y), jnp.real(A(A.adjoint(y + 0j))), rtol=0, atol=1e-12)


def test_toeplitz_equals_the_dense_normal_matrix(key):
    shape = (6, 7)
    k, weights, x = points(key, (50,), shape), jax.random.uniform(key, (50,)), draw(key, (2, *shape))
    A = nufft(k, shape, 10, 2.0)
    T = _toeplitz(A, weights)
    assert _relative(T(x)[1], toeplitz_matrix(k, weights, x[1])) < 1e-8  # the kernel's error
    assert _relative(T(x), _adjoint(A, weights[None] * _apply(A, x))) < 1e-8
    assert _relative(_toeplitz(A)(x[0]), toeplitz_matrix(k, np.ones(50), x[0])) < 1e-8


def test_toeplitz_of_a_volume(key):
    k, x = points(key, (40,), (4, 5, 3)), draw(key, (4, 5, 3))
    T = _toeplitz(nufft(k, (4, 5, 3), 6, 2.0))
    assert _relative(T(x), toeplitz_matrix(k, np.ones(40), x)) < 3e-5  # the kernel's error


def test_density_of_a_full_cartesian_trajectory_is_one():
    k = np.stack(np.meshgrid(np.arange(12.0) - 6, np.arange(9.0) - 4, indexing="ij"), -1)
    assert np.allclose(density_compensation(nufft(k, (12, 9))), 1, rtol=0, atol=1e-3)  # the kernel's sum over integers is flat to 1e-3


def test_density_follows_the_samples(key):
    """Columns measured twice count half, and the weights sum to the area."""
    k = np.stack(np.meshgrid(np.arange(12.0) - 6, np.arange(12.0) - 6, indexing="ij"), -1)
    weights = np.asarray(density_compensation(nufft(np.concatenate([k, k[:, 3:5]], 1), (12, 12))))
    assert np.allclose(weights[:, [3, 4, 12, 13]], 0.5, rtol=0, atol=1e-3) and np.isclose(weights.sum(), 144, rtol=1e-3)


def test_radial_density_is_the_area_and_reconstructs():
    k = _spokes(48, 64, 24)
    weights = np.asarray(radial_density(k))
    inner = weights[:, 30:35].sum()  # samples up to two steps from the centre fill the disc of two and a half
    assert np.isclose(inner, np.pi * (2.5 * 24 / 64) ** 2, rtol=1e-12)
    assert np.isclose(weights.sum(), np.pi * 12**2, rtol=1e-3)
    y, x = np.mgrid[-12:12, -12:12]
    bump = np.exp(-(x**2 + y**2) / 20) + 0j  # band-limited to 1e-6, so nothing is lost outside the disc
    A = nufft(k, (24, 24))
    assert _relative(_adjoint(A, weights * _apply(A, bump)), bump) < 0.04  # the sum over rings is no exact quadrature
    iterated = np.asarray(density_compensation(A))
    assert np.allclose(iterated[:, 40:54], weights[:, 40:54], rtol=0.06)  # between the centre and where spokes part further than the kernel reaches


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: nufft(np.zeros((5, 3)), (4, 4)), "needs samples"),
        (lambda: nufft(np.zeros((0, 2)), (4, 4)), "needs samples"),
        (lambda: nufft(np.zeros((5, 2)), (4,)), "needs samples"),
        (lambda: nufft(np.full((5, 2), np.nan), (4, 4)), "finite trajectory"),
        (lambda: nufft(np.full((5, 2), 1j), (4, 4)), "real trajectory"),
        (lambda: nufft(np.zeros((5, 2)), (4, 4), width=2), "3 <= width"),
        (lambda: nufft(np.zeros((5, 2)), (4, 4), width=6.5), "integer 3 <= width"),
        (lambda: nufft(np.zeros((5, 2)), (4.5, 4)), "whole sizes"),
        (lambda: nufft(np.zeros((5, 2)), (4, 4), oversampling=1.1), "oversampling"),
        (lambda: nufft(np.zeros((5, 2)), (4, 4), backend="fftw"), "backend"),
        (lambda: nufft(np.zeros((5, 2)), (4, 4))(jnp.zeros((4, 5), complex)), "got an array"),
        (lambda: nufft(np.zeros((5, 2)), (4, 4)).adjoint(jnp.zeros((4,), complex)), "got data"),
        (lambda: toeplitz(nufft(np.zeros((5, 2)), (4, 4)), np.zeros(4)), "real weights"),
        (lambda: _toeplitz(nufft(np.zeros((10, 2)), (6, 7)))(jnp.zeros((5, 7), complex)), "got an array"),
        (lambda: density_compensation(nufft(np.zeros((5, 2)), (4, 4)), 0), "num_steps"),
        (lambda: radial_density(np.zeros((5, 2))), "spokes, samples"),
    ],
)
def test_refuses_what_cannot_be(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_finufft_gives_the_same(key):
    """The optional backend, where it is installed; one line says what is missing where it is not."""
    k, x = points(key, (10,), (8, 10)), draw(key, (2, 8, 10))
    try:
        import jax_finufft  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="pip install jax-finufft"):
            nufft(k, (8, 10), backend="finufft")
        return
    A, B = (nufft(k, (8, 10), 10, 2.0, backend) for backend in ("gridding", "finufft"))
    assert _relative(_apply(B, x), _apply(A, x)) < 1e-7 and _relative(_adjoint(B, x[:, 0]), _adjoint(A, x[:, 0])) < 1e-7  # both kernels' errors
