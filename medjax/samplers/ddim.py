"""Denoising diffusion implicit models, between the deterministic and the ancestral sampler."""

import jax
import jax.numpy as jnp
import numpy as np

from medjax import checks
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

    Raises:
      ValueError: for an eta outside [0, 1].

    Reference:
      Song, Meng & Ermon (2021), eq. 12 and 16, https://arxiv.org/abs/2010.02502, after x -> x / sqrt(alpha).
    """
    checks.fraction(eta, "eta")

    def step(key, x, state, sigma, sigma_next, denoise):
        denoised = denoise(x, sigma)
        if checks.is_concrete(eta) and np.all(np.asarray(eta) == 0):  # to draw what is not used costs a sixth of a small network
            return denoised + sigma_next * (x - denoised) / sigma, state
        falls = (sigma_next > 0) & (sigma_next < sigma)  # elsewhere the root has no derivative, and no fresh noise is due
        fresh = jnp.where(falls, eta, 0) * jnp.sqrt(1 - jnp.where(falls, sigma_next / sigma, 0.5) ** 2)
        noise = jnp.sqrt(1 - fresh**2) * (x - denoised) / sigma + fresh * jax.random.normal(key, x.shape, x.dtype)
        return denoised + sigma_next * noise, state

    return Kernel(lambda x: (), step)
