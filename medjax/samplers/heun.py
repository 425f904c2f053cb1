"""The second-order sampler of EDM."""

import jax
import jax.numpy as jnp

from medjax import checks
from medjax.typing import Kernel


def heun(churn: float = 0.0) -> Kernel:
    r"""Heun's method for the probability-flow ODE dx/dsigma = (x - D(x, sigma)) / sigma, with optional churn.

    .. math::
        d = \frac{x - D(x, \sigma)}{\sigma}, \quad x_1 = x + (\sigma' - \sigma) d, \quad
        x' = x + \frac{\sigma' - \sigma}{2} \Bigl(d + \frac{x_1 - D(x_1, \sigma')}{\sigma'}\Bigr)

    and x' = x_1 where sigma' = 0. Churn first raises the noise level to (1 + churn) sigma with fresh noise.

    Args:
      churn: the paper's gamma, the relative rise of the noise level at each step; 0 is deterministic.

    Returns:
      A `Kernel` without state, two denoiser calls a step.

    Raises:
      ValueError: for a negative churn.

    Reference:
      Karras et al. (2022), algorithm 2, https://arxiv.org/abs/2206.00364. Gamma is the same at all levels and S_noise = 1.
    """
    checks.nonnegative(churn, "churn")

    def step(key, x, state, sigma, sigma_next, denoise):
        raised = sigma * (1 + churn)
        if not (checks.is_concrete(churn) and churn == 0):
            x = x + jnp.sqrt(raised**2 - sigma**2) * jax.random.normal(key, x.shape, x.dtype)
        slope = (x - denoise(x, raised)) / raised
        euler = x + (sigma_next - raised) * slope
        safe = jnp.where(sigma_next > 0, sigma_next, 1)
        slope_next = jax.lax.cond(sigma_next > 0, lambda: (euler - denoise(euler, safe)) / safe, lambda: slope)
        return x + (sigma_next - raised) * (slope + slope_next) / 2, state

    return Kernel(lambda x: (), step)
