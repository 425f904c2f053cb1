"""The straight path of flow matching."""

import jax.numpy as jnp

from medjax.typing import Schedule


def rectified_flow() -> Schedule:
    r"""Straight line from data to noise, whose velocity n - x0 does not change along the way.

    .. math::
        \alpha(t) = 1 - t, \quad \sigma(t) = t

    so that t = s / (1 + s) at the noise level s.

    Returns:
      A `Schedule`.

    Reference:
      Liu, Gong & Liu (2023), eq. 1, https://arxiv.org/abs/2209.03003, whose time runs from noise to data.
    """

    def time(sigma):
        low, high = jnp.where(sigma < 1, sigma, 1), jnp.where(sigma < 1, 1, sigma)
        return jnp.where(sigma < 1, low / (1 + low), 1 / (1 + 1 / high))  # 1 at an infinite level

    return Schedule(lambda t: 1 - jnp.asarray(t), jnp.asarray, time)
