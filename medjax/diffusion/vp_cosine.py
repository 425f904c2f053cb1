"""The variance-preserving path along a cosine."""

import math

import jax.numpy as jnp

from medjax import checks
from medjax.typing import Schedule


def vp_cosine(offset: float = 0.008) -> Schedule:
    r"""Variance-preserving path that loses the data evenly.

    .. math::
        \alpha(t) = \frac{\cos \phi(t)}{\cos \phi(0)}, \quad \sigma(t)^2 = 1 - \alpha(t)^2, \quad \phi(t) = \frac{t + o}{1 + o} \frac{\pi}{2}

    alpha(1) is 0; the paper's cap on beta, which keeps DDPM from it, is in `ddpm.cosine_betas`.

    Args:
      offset: o, which makes the first levels larger.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: for a negative offset.

    Reference:
      Nichol & Dhariwal (2021), eq. 17, https://arxiv.org/abs/2102.09672
    """
    checks.nonnegative(offset, "offset")
    rate = math.pi / 2 / (1 + offset)
    first = rate * offset

    def alpha(t):
        return jnp.sin(rate * (1 - t)) / math.cos(first)  # cos phi, exactly 0 at t = 1

    def sigma(t):
        return jnp.sqrt(jnp.sin(rate * t) * jnp.sin(rate * t + 2 * first)) / math.cos(first)  # 1 - alpha^2 without cancellation

    def time(level):
        return (jnp.arctan(jnp.sqrt(level**2 + math.sin(first) ** 2) / math.cos(first)) - first) / rate

    return Schedule(alpha, sigma, time)
