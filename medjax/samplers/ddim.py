"""Denoising diffusion implicit models, between the deterministic and the ancestral sampler."""

import jax
import jax.numpy as jnp

from medjax.typing import Kernel


def ddim(eta: float = 0.0) -> Kernel:
    r"""DDIM in variance-exploding coordinates.

    .. math::
        x' = D + \sqrt{\sigma'^2 - v} \, \frac{x - D}{\sigma} + \sqrt{v} \, n, \quad
        v = \eta^2 \frac{\sigma'^2 (\sigma^2 - \sigma'^2)}{\sigma^2}

    with D = D(x, sigma). eta = 0 is Euler's method for the probability-flow ODE, eta = 1 ancestral sampling.

    Args:
      eta: share of the ancestral noise, in [0, 1].

    Returns:
      A `Kernel` without state, one denoiser call a step.

    Reference:
      Song, Meng & Ermon (2021), eq. 12 and 16, https://arxiv.org/abs/2010.02502, after x -> x / sqrt(alpha).
    """

    def step(key, x, state, sigma, sigma_next, denoise):
        denoised = denoise(x, sigma)
        variance = (eta * sigma_next) ** 2 * (1 - (sigma_next / sigma) ** 2)
        direction = jnp.sqrt(jnp.maximum(sigma_next**2 - variance, 0)) / sigma
        noise = jax.random.normal(key, x.shape, x.dtype)
        return denoised + direction * (x - denoised) + jnp.sqrt(variance) * noise, state

    return Kernel(lambda x: (), step)
