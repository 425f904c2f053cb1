"""Denoise, then add noise of the next level."""

import jax
import jax.numpy as jnp

from medjax import checks
from medjax.typing import Kernel


def renoise(zeta: float = 1.0) -> Kernel:
    r"""The noise of the next level is partly the estimated one, partly fresh.

    .. math::
        x' = D + \sigma' \Bigl(\sqrt{1 - \zeta} \, \frac{x - D}{\sigma} + \sqrt{\zeta} \, n\Bigr), \quad D = D(x, \sigma)

    zeta = 0 is `ddim(0.0)`. With fresh noise the samples have too little spread, the less the more steps are taken: D is a mean, which spreads less
    than x0 does, and fresh noise does not make up for it.

    Args:
      zeta: share of fresh noise, in [0, 1].

    Returns:
      A `Kernel` without state, one denoiser call a step.

    Raises:
      ValueError: for a zeta that is out of range.

    Reference:
      Zhu et al. (2023), DiffPIR, algorithm 1, last two lines, https://arxiv.org/abs/2305.08995, after x -> x / sqrt(alpha bar).
    """
    if checks.is_concrete(checks.nonnegative(zeta, "zeta")) and zeta > 1:
        raise ValueError(f"zeta is {zeta}, at most 1 is needed")

    def step(key, x, state, sigma, sigma_next, denoise):
        denoised = denoise(x, sigma)
        noise = jnp.sqrt(1 - zeta) * (x - denoised) / sigma + jnp.sqrt(zeta) * jax.random.normal(key, x.shape, x.dtype)
        return denoised + sigma_next * noise, state

    return Kernel(lambda x: (), step)
