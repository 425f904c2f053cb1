"""Euler's method, for the probability-flow ODE and for the reverse SDE."""

import jax
import jax.numpy as jnp

from medjax import checks
from medjax.samplers.ddim import ddim
from medjax.typing import Kernel


def euler(noise: float = 0.0) -> Kernel:
    r"""Euler's method for the ODE and Euler-Maruyama for the SDEs of the same law.

    .. math::
        x' = x + (\sigma' - \sigma) \Bigl(1 + \lambda^2 \frac{\sigma'}{\sigma}\Bigr) \frac{x - D(x, \sigma)}{\sigma}
            + \lambda \sqrt{\sigma^2 - \sigma'^2} \, n

    lambda = 0 is the probability-flow ODE, the same as `ddim(0.0)`; lambda = 1 is the reverse SDE in the time sigma^2. No noise is added where
    sigma' = 0, and x' = D there.

    Args:
      noise: lambda >= 0.

    Returns:
      A `Kernel` without state, one denoiser call a step.

    Raises:
      ValueError: for a lambda below 0.

    Reference:
      Song et al. (2021), algorithm 2 (its predictor is lambda = 1), https://arxiv.org/abs/2011.13456; the family in lambda: Zhang & Chen (2023),
      https://arxiv.org/abs/2204.13902. The ODE's share of a step is taken in sigma, where its solution is straightest; with lambda = 1 the whole
      drift is one in sigma^2.
    """
    if checks.is_concrete(checks.nonnegative(noise, "noise")) and noise == 0:
        return ddim(0.0)

    def step(key, x, state, sigma, sigma_next, denoise):
        slope = (x - denoise(x, sigma)) / sigma
        drift = (sigma_next - sigma) * (1 + noise**2 * sigma_next / sigma)
        spread = jnp.where(sigma_next > 0, noise, 0) * jnp.sqrt(sigma**2 - sigma_next**2)
        return x + drift * slope + spread * jax.random.normal(key, x.shape, x.dtype), state

    return Kernel(lambda x: (), step)
