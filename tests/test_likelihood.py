"""The probability flow and the densities along it, against closed forms of a Gaussian and a mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.diffusion.consistency_function import consistency_function
from medjax.diffusion.gaussian import gaussian
from medjax.diffusion.gaussian_field import draw_gaussian_field, gaussian_field, matern_spectrum
from medjax.diffusion.karras import karras
from medjax.diffusion.likelihood import likelihood
from medjax.diffusion.mixture import draw_mixture, mixture, mixture_log_density
from medjax.diffusion.probability_flow import probability_flow

MEAN = jnp.array([1.0, -2.0, 0.0, 3.0])
VARIANCES = jnp.array([0.01, 0.3, 1.0, 4.0])
PRIOR = (jnp.array([0.2, 0.5, 0.3]), jnp.array([[-2.0, 1.0], [0.5, 0.0], [3.0, -1.0]]), jnp.array([0.3, 0.02, 1.0]))


def denoise(x, sigma):
    return gaussian(MEAN, jnp.diag(VARIANCES))(x, sigma)


def growing(num_steps, low=1e-2, high=300.0):
    return jnp.geomspace(low, high, num_steps + 1)


def moved(x, sigma, sigma_next):
    """The point at sigma_next of the path of a Gaussian through x at sigma."""
    return MEAN + jnp.sqrt((VARIANCES + sigma_next**2) / (VARIANCES + sigma**2)) * (x - MEAN)


def test_flow_of_a_gaussian(key):
    """The path's closed form, its order 4, and back again, in either direction; mean and variance change nothing but the error."""
    x = jax.random.normal(key, (4,))
    flow = jax.jit(lambda sigmas, x: probability_flow(denoise, sigmas, x))
    errors = [jnp.linalg.norm(flow(growing(num), x) - moved(x, 1e-2, 300.0)) for num in (30, 60)]
    assert abs(jnp.log2(errors[0] / errors[1]) - 4) < 0.3  # the next order's share at 30 steps
    up = flow(growing(60), x)
    assert np.allclose(up, moved(x, 1e-2, 300.0), rtol=1e-4) and np.allclose(flow(growing(60)[::-1], up), x, rtol=0, atol=1e-4)  # 60 steps
    aware = jax.jit(lambda sigmas, x: probability_flow(lambda x, s: gaussian(MEAN, 2 * jnp.eye(4))(x, s), sigmas, x, mean=MEAN, variance=2.0))
    exact = MEAN + jnp.sqrt((2 + 300.0**2) / (2 + 1e-4)) * (x - MEAN)
    assert np.allclose(aware(growing(1), x), exact, rtol=1e-10)  # one step: in z its path is a point


def test_likelihood_of_a_gaussian(key):
    """Within 1e-3 nat per dimension of the exact density for variances a factor 400 apart, in 25 steps, that is 100 denoiser calls."""
    x = MEAN[None] + jnp.sqrt(VARIANCES)[None] * jax.random.normal(key, (50, 4))
    sigmas = growing(25)
    got = jax.jit(jax.vmap(lambda x: likelihood(None, denoise, sigmas, x, mean=MEAN)))(x)
    total = VARIANCES + sigmas[0] ** 2
    exact = -jnp.sum((x - MEAN[None]) ** 2 / total[None] + jnp.log(2 * jnp.pi * total)[None], 1) / 2
    assert np.max(np.abs(got - exact)) / 4 < 1e-3


def test_likelihood_of_a_mixture(key):
    """The same for draws of three modes in 50 steps, that is 200 calls; its gradient is the score."""
    weights, means, _ = PRIOR
    x = jax.jit(jax.vmap(lambda k: draw_mixture(k, *PRIOR)))(jax.random.split(key, 40))
    sigmas, prior = growing(50), mixture(*PRIOR)
    got, slope = jax.jit(jax.vmap(jax.value_and_grad(lambda x: likelihood(None, prior, sigmas, x, mean=weights @ means))))(x)
    exact, score = jax.jit(jax.vmap(jax.value_and_grad(mixture_log_density(*PRIOR)), (0, None)))(x, sigmas[0])
    assert np.max(np.abs(got - exact)) / 2 < 1e-3
    assert np.allclose(slope, score, rtol=1e-2, atol=1e-2)  # derivative of the error of 50 steps


def test_likelihood_of_an_image(key):
    """A correlated field of 8 x 8 pixels by the exact trace; Hutchinson's estimate is unbiased."""
    spectrum, mean = matern_spectrum((8, 8), 1.5), jnp.full((8, 8), 0.5)
    x, prior, sigmas = draw_gaussian_field(key, mean, spectrum), gaussian_field(mean, spectrum), growing(25)
    total = spectrum + sigmas[0] ** 2
    power = jnp.abs(jnp.fft.fft2(x - mean, norm="ortho")) ** 2
    exact = -jnp.sum(power / total + jnp.log(2 * jnp.pi * total)) / 2
    got = jax.jit(lambda x: likelihood(None, prior, sigmas, x, mean=0.5))(x)
    assert abs(got - exact) / 64 < 1e-3
    estimate = jax.jit(jax.vmap(lambda k: likelihood(k, prior, sigmas, x, mean=0.5, num_probes=2)))
    values = estimate(jax.random.split(key, 100))
    assert 0 < values.std() < 5 and abs(values.mean() - got) < 4 * values.std() / 10


def test_probes_are_exact_for_pixels_that_do_not_meet(key):
    """A Rademacher vector has no error on a diagonal derivative."""
    x, sigmas = jax.random.normal(key, (4,)), growing(8)
    got, exact = (jax.jit(lambda x, n=num: likelihood(key, denoise, sigmas, x, num_probes=n))(x) for num in (1, 0))
    assert np.allclose(got, exact, rtol=0, atol=1e-10)


def test_likelihood_keeps_memory_and_precision(key):
    """The compiled loop of 400 steps holds what that of 10 does; a float32 image gives a float32 number."""

    def temporary_bytes(num_steps):
        run_fn = jax.jit(lambda x, sigmas: likelihood(None, lambda x, sigma: x / (1 + sigma**2), sigmas, x))
        return run_fn.lower(jnp.zeros((32, 32)), jnp.ones(num_steps + 1)).compile().memory_analysis().temp_size_in_bytes

    ten = temporary_bytes(10)
    assert temporary_bytes(400) <= ten + 4 * 8 * 400 and ten < 100 * 8 * 32**2  # some images, not the 1024 columns of the derivative
    x = MEAN.astype(jnp.float32)
    measure = jax.jit(lambda x: likelihood(None, lambda x, s: denoise(x, s).astype(x.dtype), growing(8), x))
    wide, single = measure(MEAN), measure(x)
    assert single.dtype == jnp.float32 and np.allclose(single, wide, rtol=1e-4)  # float32


@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_consistency_function(key, sigma):
    """Every point of a Gaussian's path leads to the path's own end, whatever its level, also between and above the levels."""
    x0 = jax.random.normal(key, (4,))
    consistent = jax.jit(consistency_function(denoise, growing(80, 1e-3, 80.0)[::-1]))
    assert np.allclose(consistent(moved(x0, 0.0, sigma), sigma), x0, rtol=0, atol=1e-3)  # 80 steps and sigma_last^2 / v
    assert np.allclose(consistent(x0, 1e-4), denoise(x0, 1e-4), rtol=0, atol=1e-12)


def test_bad_levels_are_named():
    """One line for what was found and what is needed."""
    x = jnp.zeros(4)
    for make, message in (
        (lambda: likelihood(None, denoise, jnp.array([1.0, 0.1]), x), "likelihood needs increasing noise levels, got 1 to 0.1 not in order"),
        (lambda: likelihood(None, denoise, jnp.array([0.0, 1.0]), x), "a noise level of likelihood is 0"),
        (lambda: likelihood(None, denoise, jnp.array([0.1, 1.0]), x, variance=0.0), "variance is 0"),
        (lambda: likelihood(None, denoise, jnp.array([0.1]), x), r"sigmas is \[1\], a vector of at least 2"),
        (lambda: likelihood(None, denoise, jnp.array([0.1, 1.0]), x, num_probes=-1), "num_probes is -1"),
        (lambda: consistency_function(denoise, jnp.array([1.0, 0.0])), "the last of sigmas is 0"),
        (lambda: gaussian(jnp.zeros(2), -jnp.eye(2)), "the covariance has the eigenvalue -1"),
        (lambda: karras(4, 0.1, jnp.inf), "finite 0 < sigma_min"),
        (lambda: karras(4.0, 0.1, 1.0), "a whole number"),
        (lambda: probability_flow(denoise, jnp.array([1.0, 0.0]), x), "a noise level of probability_flow is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
