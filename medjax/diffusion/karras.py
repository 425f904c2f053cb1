"""The noise levels of EDM."""

import math

import jax.numpy as jnp

from medjax import checks


def karras(num_steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0):
    r"""Noise levels that are equally spaced in :math:`\sigma^{1/\rho}`, then 0.

    .. math::
        \sigma_i = \Bigl(\sigma_{max}^{1/\rho} + \tfrac{i}{N-1} (\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho})\Bigr)^{\rho}, \quad \sigma_N = 0

    Args:
      num_steps: N >= 2.
      sigma_min: last level above 0.
      sigma_max: first level.
      rho: how much the levels crowd at the low end.

    Returns:
      `[N + 1]` decreasing levels.

    Raises:
      ValueError: for fewer than 2 steps, levels not in 0 < sigma_min < sigma_max, or a rho that is not positive.

    Reference:
      Karras et al. (2022), eq. 5, https://arxiv.org/abs/2206.00364
    """
    if checks.count(num_steps, "num_steps of karras") < 2:
        raise ValueError(f"karras needs at least 2 steps, got {num_steps}")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"karras needs finite 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    checks.positive(rho, "rho of karras")
    ramp = jnp.linspace(0, 1, num_steps)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return jnp.append((high + ramp * (low - high)) ** rho, 0)
