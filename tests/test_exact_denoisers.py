"""Exact denoisers of a field and a mixture: against matrices, against the derivative of their own density, and their draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.diffusion.gaussian import gaussian
from medjax.diffusion.gaussian_field import draw_gaussian_field, gaussian_field, matern_spectrum
from medjax.diffusion.mixture import draw_mixture, mixture, mixture_log_density

WEIGHTS = jnp.array([1.0, 2.0, 0.5])


def dense(spectrum):
    """Covariance matrix of the field: the circulant matrix of the inverse transform of its spectrum."""
    kernel = np.fft.ifftn(np.asarray(spectrum)).real
    rows = [np.roll(kernel, shift, tuple(range(kernel.ndim))).ravel() for shift in np.ndindex(*kernel.shape)]
    return jnp.asarray(rows)


def parts(key, form, shape=(2, 3)):
    """Means `[3, ...]`, covariances in one of the four forms, and the same as full matrices `[3, n, n]`."""
    means = 2 * jax.random.normal(key, (3, *shape))
    size = means[0].size
    root = jax.random.normal(jax.random.fold_in(key, 1), (3, size, size))
    covariances = {
        "number": jnp.asarray(0.4),
        "scalars": jnp.array([0.3, 0.02, 1.0]),
        "diagonals": jax.random.uniform(jax.random.fold_in(key, 2), (3, *shape)),
        "matrices": root @ jnp.swapaxes(root, 1, 2) / size,
    }[form]
    if form == "matrices":
        return means, covariances, covariances
    spread = covariances if covariances.ndim != 1 else covariances[:, None, None]
    return means, covariances, jax.vmap(jnp.diag)(jnp.broadcast_to(spread, means.shape).reshape(3, -1))


@pytest.mark.parametrize("shape", [(6, 5), (4, 8), (7,), (2, 3, 4)], ids=str)
def test_field_is_the_dense_gaussian(key, shape):
    """FFT and matrix agree at every level, on odd and even grids, with and without channels; the diagonal is the variance."""
    spectrum = matern_spectrum(shape, 1.5, 0.7, 2.0)
    covariance = dense(spectrum)
    assert np.allclose(jnp.diag(covariance), 2.0, rtol=0, atol=1e-12)
    mean, x = jax.random.normal(key, (2, *shape))
    field, exact = jax.jit(gaussian_field(mean, spectrum)), jax.jit(gaussian(mean, covariance))
    for sigma in (1e-3, 0.3, 1.0, 20.0):
        assert np.allclose(field(x, sigma), exact(x, sigma), rtol=0, atol=1e-10)
    channels = gaussian_field(jnp.stack([mean, 2 * mean], -1), spectrum)(jnp.stack([x, 2 * x], -1), 1.0)
    assert np.allclose(channels, jnp.stack([exact(x, 1.0), 2 * exact(x, 1.0)], -1), rtol=0, atol=1e-10)


def test_draws_of_the_field(key):
    """Mean and covariance of 20,000 draws."""
    spectrum, mean = matern_spectrum((4, 3), 1.0), jnp.arange(12.0).reshape(4, 3)
    draws = jax.jit(jax.vmap(lambda k: draw_gaussian_field(k, mean, spectrum)))(jax.random.split(key, 20_000)).reshape(-1, 12)
    assert np.allclose(draws.mean(0), mean.ravel(), atol=4 / 141)  # four standard errors at variance 1
    assert np.allclose(np.cov(draws.T), dense(spectrum), atol=4 * 1.41 / 141)  # and of a variance


def test_matern_is_known_where_it_has_a_closed_form():
    """nu = 3/2 in one dimension is (1 + a) exp(-a), a = sqrt(3) r / l, and a large nu exp(-r^2 / (2 l^2)), on a grid fine and long against l."""
    r = np.arange(30)
    a = 3**0.5 * r / 12
    rough = np.fft.ifft(matern_spectrum((4000,), 12.0, 1.5)).real[:30]
    assert np.allclose(rough, (1 + a) * np.exp(-a), atol=1e-4)  # the spectrum is cut at the highest frequency
    smooth = np.fft.ifft(matern_spectrum((4000,), 12.0, 1e5)).real[:30]
    assert np.allclose(smooth, np.exp(-(r**2) / 288), atol=1e-4)  # nu is not infinite


def test_field_keeps_single_precision_and_refuses_bad_spectra():
    """float32 in, float32 out, finite where S and sigma are 0 together; one line for what does not fit."""
    mean = jnp.zeros((4, 4), jnp.float32)
    spectrum = jnp.zeros((4, 4), jnp.float32).at[0, 0].set(1.0)
    assert gaussian_field(mean, spectrum)(mean + 1, jnp.float64(0.5)).dtype == jnp.float32
    assert np.allclose(gaussian_field(mean, spectrum)(mean + 1, 0.0), 1.0)
    assert draw_gaussian_field(jax.random.key(0), mean, spectrum).dtype == jnp.float32
    with pytest.raises(ValueError, match=r"spectrum is \[4, 3\], the mean \[4, 4\] needs"):
        gaussian_field(mean, jnp.ones((4, 3)))
    with pytest.raises(ValueError, match="spectrum is -1, at least 0"):
        gaussian_field(mean, -jnp.ones((4, 4)))
    with pytest.raises(ValueError, match="mirror image"):
        draw_gaussian_field(jax.random.key(0), mean, jnp.ones((4, 4)).at[0, 1].set(2.0))
    with pytest.raises(ValueError, match="length of matern_spectrum is 0"):
        matern_spectrum((4, 4), 0)


@pytest.mark.parametrize("form", ["number", "scalars", "diagonals", "matrices"])
def test_mixture_obeys_tweedie_and_its_parts(key, form):
    """D = x + sigma^2 grad log p; the density is the weighted sum of normal ones; one component is `gaussian`."""
    means, covariances, full = parts(key, form)
    x = jax.random.normal(key, means.shape[1:])
    denoise, log_density = jax.jit(mixture(WEIGHTS, means, covariances)), mixture_log_density(WEIGHTS, means, covariances)
    alone = jax.jit(mixture(WEIGHTS[:1], means[1:2], covariances[1:2] if covariances.ndim else covariances))
    with_score = jax.jit(jax.value_and_grad(log_density))
    for sigma in (0.1, 1.0, 15.0):
        value, score = with_score(x, sigma)
        assert np.allclose(denoise(x, sigma), x + sigma**2 * score, rtol=0, atol=1e-10)
        spread, offsets = np.asarray(full) + sigma**2 * np.eye(6), np.asarray(x[None] - means).reshape(3, 6)
        distances = np.einsum("ki,kij,kj->k", offsets, np.linalg.inv(spread), offsets)
        densities = np.exp(-distances / 2) / np.sqrt(np.linalg.det(2 * np.pi * spread))
        assert np.allclose(value, np.log(np.dot(WEIGHTS / WEIGHTS.sum(), densities)), rtol=1e-9, atol=0)
        assert np.allclose(alone(x, sigma), gaussian(means[1], full[1])(x, sigma), rtol=0, atol=1e-10)
    assert np.allclose(log_density(x, 0.0), log_density(x, 1e-7), rtol=0, atol=1e-6)


def test_mixture_is_the_quadrature_of_its_prior():
    """E[x0 | x] in one dimension by the trapezoidal rule over 40,000 points."""
    means, variances = jnp.array([[-2.0], [0.5], [3.0]]), jnp.array([0.3, 0.02, 1.0])
    z = np.linspace(-15, 15, 40_001)
    prior = sum(float(w) * np.exp(-((z - m) ** 2) / (2 * v)) / np.sqrt(v) for w, m, v in zip(WEIGHTS, means[:, 0], variances, strict=True))
    for x, sigma in ((0.1, 0.5), (2.0, 1.5), (-1.0, 8.0)):
        joint = prior * np.exp(-((x - z) ** 2) / (2 * sigma**2))
        assert np.allclose(mixture(WEIGHTS, means, variances)(jnp.array([x]), sigma), (joint @ z) / joint.sum(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("form", ["number", "diagonals", "matrices"])
def test_draws_of_the_mixture(key, form):
    """Mean and covariance of 40,000 draws against the law of total variance."""
    means, covariances, full = parts(key, form)
    draws = jax.jit(jax.vmap(lambda k: draw_mixture(k, WEIGHTS, means, covariances)))(jax.random.split(key, 40_000)).reshape(-1, 6)
    weights, flat = WEIGHTS / WEIGHTS.sum(), means.reshape(3, 6)
    mean = weights @ flat
    covariance = jnp.einsum("k,kij->ij", weights, full + jnp.einsum("ki,kj->kij", flat - mean[None], flat - mean[None]))
    largest = float(jnp.diag(covariance).max())
    assert np.allclose(draws.mean(0), mean, atol=4 * largest**0.5 / 200)  # four standard errors
    assert np.allclose(np.cov(draws.T), covariance, atol=4 * 1.5 * largest / 200)


def test_mixture_of_images_and_bad_input(key):
    """Covariance 0 is the denoiser of a set of images: the softmax of their distances; far away it stays finite; what does not fit is named."""
    images = jax.random.normal(key, (3, 4, 4))
    x = images[0] + 0.3 * jax.random.normal(jax.random.fold_in(key, 1), (4, 4))
    share = jax.nn.softmax(-jnp.sum((x[None] - images) ** 2, (1, 2)) / (2 * 0.5**2))
    denoise = mixture(jnp.ones(3), images, 0.0)
    assert np.allclose(denoise(x, 0.5), jnp.einsum("k,kij->ij", share, images), rtol=0, atol=1e-10)
    assert jnp.all(jnp.isfinite(denoise(1e3 * x, 1e-2))) and denoise(x.astype(jnp.float32), jnp.float64(0.5)).dtype == jnp.float32
    with pytest.raises(ValueError, match=r"3 means need 3 weights, got \[2\]"):
        mixture(jnp.ones(2), images, 1.0)
    with pytest.raises(ValueError, match=r"means \[3, 4, 4\] need covariances a number, \[3\], \[3, 4, 4\] or \[3, 16, 16\], got \[4\]"):
        mixture_log_density(jnp.ones(3), images, jnp.ones(4))
    with pytest.raises(ValueError, match="weights of the mixture is 0"):
        mixture(jnp.array([1.0, 0.0, 1.0]), images, 1.0)
    with pytest.raises(ValueError, match="covariances of the mixture is -1"):
        draw_mixture(key, jnp.ones(3), images, -1.0)
    with pytest.raises(ValueError, match="eigenvalue -1"):
        mixture(jnp.ones(3), images[:, 0, :2], jnp.stack([-jnp.eye(2)] * 3))
