"""Inversion, editing, interpolation, and the step at which a run broke."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_samplers import CENTRES, MEAN, VARIANCES, WEIGHTS, WIDTHS, gaussian_pixels, mixed_path, mixed_pixels

from medjax.diffusion.karras import karras
from medjax.samplers.ddim import ddim
from medjax.samplers.dpmpp_2m import dpmpp_2m
from medjax.samplers.dpmpp_sde import dpmpp_sde
from medjax.samplers.euler import euler
from medjax.samplers.first_non_finite import first_non_finite
from medjax.samplers.heun import heun
from medjax.samplers.interpolate import interpolate
from medjax.samplers.invert import invert
from medjax.samplers.langevin import langevin
from medjax.samplers.sample import sample
from medjax.samplers.sdedit import sdedit
from medjax.samplers.unipc import unipc

# name -> (kernel, steps that reach a relative round trip of 1e-3 on the mixture)
DETERMINISTIC = {"ddim": (ddim(0.0), 4000), "heun": (heun(), 64), "dpmpp_2m": (dpmpp_2m(), 128), "unipc": (unipc(3), 40)}


def mixed_draw(key, num):
    """Pixels of the mixture of `mixed_pixels`."""
    key_which, key_noise = jax.random.split(key)
    which = jax.random.categorical(key_which, jnp.log(WEIGHTS), shape=(num,))
    return CENTRES[which] + jnp.sqrt(WIDTHS[which]) * jax.random.normal(key_noise, (num,))


@pytest.mark.parametrize("kernel, num_steps", DETERMINISTIC.values(), ids=DETERMINISTIC)
def test_inversion_and_back(key, kernel, num_steps):
    """Round trip to 1e-3, and the latent against the exact path, which a kernel that goes nowhere would miss."""
    sigmas, x = karras(num_steps, 0.02, 20.0)[:-1], mixed_draw(key, 64)
    latent, back = jax.jit(lambda x: (z := invert(mixed_pixels, sigmas, x, kernel), sample(key, kernel, mixed_pixels, sigmas, z)))(x)
    exact = mixed_path(x, 0.02, 20.0)
    assert jnp.linalg.norm(back - x) < 1e-3 * jnp.linalg.norm(x)
    assert jnp.linalg.norm(latent - exact) < 1e-2 * jnp.linalg.norm(exact)  # the integrator's error, which the way back undoes in part


def test_a_last_level_of_zero_is_left_out(key):
    """Inside `jit` as well; known levels alone can be cut."""
    x, sigmas = jax.random.normal(key, (4, 8)), karras(6, 0.1, 5.0)
    expected = jax.jit(lambda x: invert(gaussian_pixels, sigmas[:-1], x))(x)  # cut here: traced, and so not looked at
    got = jax.jit(lambda x: invert(gaussian_pixels, sigmas, x))(x)
    assert jnp.all(jnp.isfinite(got)) and np.allclose(got, expected, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="at least 2 noise levels"):
        invert(gaussian_pixels, sigmas[-2:], x)


@pytest.mark.parametrize("strength, start", [(0.5, 20), (1.0, 0), (0.01, 39)])
def test_sdedit_starts_on_the_way(key, strength, start):
    """Mean and spread in closed form: a guide with noise of the level, carried along the exact path of the Gaussian prior."""
    sigmas, guide = jnp.geomspace(10.0, 0.1, 41), MEAN + jnp.linspace(-3, 3, 8)[None]
    keys = jax.random.split(key, 4000)
    end = jax.jit(jax.vmap(lambda k: sdedit(k, heun(), gaussian_pixels, sigmas, guide, strength)))(keys)
    gain = jnp.sqrt((VARIANCES + 0.1**2) / (VARIANCES + sigmas[start] ** 2))
    spread = jnp.broadcast_to(gain * sigmas[start], guide.shape)
    assert np.allclose((end.mean(0) - MEAN - gain * (guide - MEAN)) / spread, 0, atol=0.06)  # standard error .016
    assert np.allclose(end.std(0) / spread, 1, atol=0.06)  # standard error .011


@pytest.mark.parametrize("strength", [0.0, 1.2, float("nan")])
def test_sdedit_needs_a_strength(key, strength):
    """One line."""
    with pytest.raises(ValueError, match="strength is .*, a number above 0 and at most 1 is needed"):
        sdedit(key, heun(), gaussian_pixels, jnp.array([1.0, 0.5]), MEAN, strength)


def test_interpolation_on_the_circle(key):
    """For a white Gaussian prior the path is a scaling, so images lie on their own circle; ends are the images; one direction is a line."""
    x_a, x_b = jax.random.normal(key, (2, 4, 8))
    weights, sigmas = jnp.array([0.0, 0.3, 1.0]), karras(60, 0.01, 20.0)[:-1]

    def white(x, sigma):
        return x / (1 + sigma**2)

    run = jax.jit(lambda a, b: interpolate(white, sigmas, a, b, weights))
    theta = np.arccos(np.sum(x_a * x_b) / np.linalg.norm(x_a) / np.linalg.norm(x_b))
    share = np.stack([np.sin((1 - weights) * theta), np.sin(weights * theta)]) / np.sin(theta)
    exact = share[0][:, None, None] * x_a[None] + share[1][:, None, None] * x_b[None]
    assert np.allclose(run(x_a, x_b), exact, atol=2e-3)  # Heun's method in 59 steps there and back
    assert np.allclose(run(x_a, 3 * x_a), (1 + 2 * weights)[:, None, None] * x_a[None], atol=6e-3)  # the same, of three times the size


def test_first_non_finite(key):
    """The step after which x is NaN, by sample; num_steps where none is."""
    sigmas, x = jnp.array([4.0, 2.0, 1.0, 0.5, 0.0]), jnp.stack([jnp.ones((4, 8)), -jnp.ones((4, 8)), jnp.full((4, 8), jnp.inf)])

    def breaks(x, sigma):
        return jnp.where((x[0, 0] > 0) & (sigma < 1.5), jnp.nan, x / (1 + sigma**2))

    found = jax.jit(jax.vmap(lambda x: first_non_finite(key, ddim(), breaks, sigmas, x)))(x)
    assert found.tolist() == [2, 4, 0]


@pytest.mark.parametrize("kernel", [euler(1.0), ddim(1.0), dpmpp_sde(), langevin()], ids=["euler", "ddim", "dpmpp_sde", "langevin"])
def test_noise_is_not_inverted(kernel):
    with pytest.raises(ValueError, match="invert needs a deterministic kernel"):
        invert(lambda x, sigma: x, jnp.array([2.0, 1.0]), jnp.ones(3), kernel)
