"""Cartesian MRI: the centred transform, its masks and its noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import linalg
from medjax.operators.complex_channels import complex_channels
from medjax.operators.masked_fourier import masked_fourier
from medjax.physics.equispaced_lines import equispaced_lines
from medjax.physics.gaussian_noise import gaussian_noise
from medjax.physics.random_lines import random_lines
from medjax.physics.variable_density import variable_density


def _dft(n):
    """Orthonormal DFT matrix with both origins at n // 2."""
    k = np.arange(n) - n // 2
    return np.exp(-2j * np.pi * np.outer(k, k) / n) / np.sqrt(n)


@pytest.mark.parametrize("shape", [(5, 5), (6, 8), (8, 5), (10, 7)])
def test_equals_the_centred_dft_matrix(key, shape):
    x = jax.random.normal(key, shape, jnp.complex128)
    mask = jax.random.uniform(jax.random.fold_in(key, 1), shape)
    A = masked_fourier(mask)
    assert np.allclose(A(x), mask * (_dft(shape[0]) @ x @ _dft(shape[1]).T), rtol=0, atol=1e-13)
    assert np.allclose(A.adjoint(x), _dft(shape[0]).conj().T @ (mask * x) @ _dft(shape[1]).conj(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(5, 6), (6, 10)])
def test_full_mask_is_unitary(key, shape):
    x = jax.random.normal(key, shape, jnp.complex128)
    A = masked_fourier(jnp.ones(shape))
    assert np.allclose(A.adjoint(A(x)), x, rtol=0, atol=1e-14)
    assert np.isclose(linalg.norm(A(x)), linalg.norm(x), rtol=1e-14)


def test_point_at_the_centre_is_flat_and_real():
    A = masked_fourier(jnp.ones((6, 9)))
    point = jnp.zeros((6, 9), jnp.complex128).at[3, 4].set(1)
    assert np.allclose(A(point), 1 / np.sqrt(54), rtol=0, atol=1e-15)


def test_differentiates_for_the_mask(key):
    """d/dm ||m F x||^2 / 2 = m |F x|^2."""
    x, mask = jax.random.normal(key, (6, 5), jnp.complex128), jax.random.uniform(key, (6, 5))
    gradient = jax.grad(lambda m: linalg.vdot(masked_fourier(m)(x), masked_fourier(m)(x)) / 2)(mask)
    assert np.allclose(gradient, mask * jnp.abs(masked_fourier(jnp.ones((6, 5)))(x)) ** 2, rtol=0, atol=1e-13)


def test_a_mask_in_double_precision_does_not_widen_the_data(key):
    x, mask = jax.random.normal(key, (4, 5), jnp.complex64), jax.random.uniform(key, (4, 5))
    for weights in (mask, mask * 1j):
        A = masked_fourier(weights)
        assert all(jax.eval_shape(f, x).dtype == jnp.complex64 for f in (A, A.adjoint, A.normal))
    gradient = jax.grad(lambda m: linalg.vdot(masked_fourier(m)(x), masked_fourier(m)(x)) / 2)(mask)
    assert gradient.dtype == jnp.float64
    assert np.allclose(gradient, mask * jnp.abs(masked_fourier(jnp.ones((4, 5)))(x)) ** 2, rtol=0, atol=1e-5)  # float32


@pytest.mark.parametrize("mask", [jnp.ones(4), jnp.ones((2, 3, 4)), jnp.zeros((4, 4)), jnp.zeros((3, 4), bool), jnp.full((4, 4), jnp.nan)])
def test_refuses_masks(mask):
    with pytest.raises(ValueError, match="masked_fourier needs a mask"):
        masked_fourier(mask)


def test_can_be_built_while_tracing(key):
    """From a traced mask, and from a known one inside a jitted function."""
    x, mask = jax.random.normal(key, (4, 5), jnp.complex128), jnp.eye(4, 5)
    wanted = masked_fourier(mask)(x)
    assert np.allclose(jax.jit(lambda m, x: masked_fourier(m)(x))(mask, x), wanted, rtol=0, atol=1e-15)
    assert np.allclose(jax.jit(lambda x: masked_fourier(mask)(x))(x), wanted, rtol=0, atol=1e-15)


def test_complex_channels_is_an_isometry(key):
    C = complex_channels()
    x, z = jax.random.normal(key, (4, 3, 2)), jax.random.normal(key, (4, 3), jnp.complex128)
    assert C(x)[1, 2] == x[1, 2, 0] + 1j * x[1, 2, 1]
    assert np.isclose(linalg.vdot(C(x), z), linalg.vdot(x, C.adjoint(z)), rtol=1e-13)
    assert np.array_equal(C.adjoint(C(x)), x)


@pytest.mark.parametrize("width, acceleration", [(32, 4), (33, 4), (30, 1), (50, 6.5)])
def test_random_lines_counts(key, width, acceleration):
    draw = jax.jit(jax.vmap(lambda k: random_lines(k, (5, width), acceleration)))
    masks = draw(jax.random.split(key, 200))
    assert np.array_equal(masks.sum(2), np.full((200, 5), round(width / acceleration)))
    assert np.array_equal(np.unique(masks), [0, 1] if acceleration > 1 else [1])
    center = round(0.08 * width)
    first = width // 2 - center // 2
    assert masks[:, :, first : first + center].all() and first <= width // 2 < first + center
    if acceleration > 1:
        # outside the centre every column is equally likely; 4.5 standard deviations of a mean of 200
        rate = (round(width / acceleration) - center) / (width - center)
        outside = np.delete(np.asarray(masks[:, 0].mean(0)), np.arange(first, first + center))
        assert np.abs(outside - rate).max() < 4.5 * np.sqrt(rate * (1 - rate) / 200)


@pytest.mark.parametrize("width, offset", [(16, 0), (17, 1), (18, 3)])
def test_equispaced_lines(width, offset):
    mask = np.asarray(equispaced_lines((3, width), 4, center_fraction=0.0, offset=offset))
    assert np.array_equal(np.flatnonzero(mask[0]) % 4, np.full(int(mask[0].sum()), (width // 2 + offset) % 4))
    assert mask[0].sum() in (width // 4, width // 4 + 1) and (mask == mask[:1]).all()
    full = np.asarray(equispaced_lines((3, width), 4, center_fraction=0.3, offset=offset))
    center = round(0.3 * width)
    assert full[0, width // 2 - center // 2 :][:center].all() and (full >= mask).all()


@pytest.mark.parametrize("shape", [(24, 30), (25, 25)])
def test_variable_density(key, shape):
    masks = jax.jit(jax.vmap(lambda k: variable_density(k, shape, 5.0)))(jax.random.split(key, 200))
    assert np.array_equal(masks.sum((1, 2)), np.full(200, round(shape[0] * shape[1] / 5)))
    rate = np.asarray(masks.mean(0))
    assert rate[shape[0] // 2, shape[1] // 2] == 1
    y, x = np.meshgrid(*(2 * (np.arange(n) - n // 2) / n for n in shape), indexing="ij")
    radius = np.hypot(y, x)
    assert (rate[radius <= 0.1] == 1).all()
    rings = [rate[(radius > a) & (radius <= a + 0.2)].mean() for a in (0.1, 0.3, 0.5, 0.7)]
    assert all(a > 1.3 * b for a, b in zip(rings[:-1], rings[1:], strict=True))


@pytest.mark.parametrize(
    "build",
    [
        lambda key: random_lines(key, (8, 8), 0.5),
        lambda key: random_lines(key, (8, 8), np.nan),
        lambda key: variable_density(key, (8, 8), np.nan),
        lambda key: random_lines(key, (8, 32), 8, center_fraction=0.5),
        lambda key: equispaced_lines((8, 8), 0),
        lambda key: equispaced_lines((8, 8), 2.5),
        lambda key: equispaced_lines((8, 8), 2, center_fraction=1.5),
        lambda key: variable_density(key, (8, 8), 0.9),
        lambda key: variable_density(key, (16, 16), 8.0, center_fraction=0.9),
    ],
)
def test_masks_refuse_what_cannot_be(key, build):
    with pytest.raises(ValueError, match="needs"):
        build(key)


def test_gaussian_noise_of_complex_data(key):
    """Each component has standard deviation sigma where the mask samples, and there is none elsewhere."""
    support = jnp.zeros((100, 100)).at[:, ::2].set(1)
    noise = gaussian_noise(0.3, support)
    z = jnp.full((100, 100), 1 + 2j)
    n = noise.sample(key, z) - z
    assert np.all(n[:, 1::2] == 0)
    parts = np.stack([n.real[:, ::2], n.imag[:, ::2]])
    # of 5000 draws: 4.5 standard deviations of their standard deviation, 0.3 / sqrt(10000), and of their correlation, 1 / sqrt(5000)
    assert np.abs(parts.std((1, 2)) - 0.3).max() < 4.5 * 0.3 / 100
    assert abs(np.corrcoef(parts.reshape(2, -1))[0, 1]) < 4.5 / np.sqrt(5000)
    assert noise.sigma(z) == 0.3


def test_gaussian_likelihood_is_the_density(key):
    support = jnp.array([[1.0, 0.0, 1.0]])
    y, z = jax.random.normal(key, (2, 1, 3), jnp.complex128)
    wanted = -sum(abs(y[0, i] - z[0, i]) ** 2 for i in (0, 2)) / (2 * 0.4**2)
    assert np.isclose(gaussian_noise(0.4, support).log_likelihood(y, z), wanted, rtol=1e-13)
    assert np.isclose(gaussian_noise(0.4).log_likelihood(jnp.ones(3), jnp.zeros(3)), -3 / 0.32, rtol=1e-13)
    real = gaussian_noise(0.4).sample(key, jnp.zeros(4))
    assert real.dtype == jnp.float64
    with pytest.raises(ValueError, match="sigma > 0"):
        gaussian_noise(0.0)
