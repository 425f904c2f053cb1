"""The noise levels of a path."""

import math

import jax.numpy as jnp

from medjax.typing import Schedule


def levels(schedule: Schedule, num_steps: int, sigma_min: float, sigma_max: float, zero: bool = True):
    r"""Noise levels sigma(t) / alpha(t) of a path at evenly spaced times, for `sample`.

    .. math::
        s_i = \sigma(t_i) / \alpha(t_i), \quad t_0 = t(\sigma_{max}), \; \ldots, \; t(\sigma_{min})

    Paths that reach pure noise at t = 1 have no finite level there, so the ends are told as levels.

    Args:
      schedule: a `Schedule`.
      num_steps: number of steps of `sample`.
      sigma_min: last level above 0.
      sigma_max: first level.
      zero: whether a 0 follows sigma_min, as in `karras`; without it sigma_min is the end.

    Returns:
      `[num_steps + 1]` decreasing levels.

    Raises:
      ValueError: for too few steps, or levels not in 0 < sigma_min < sigma_max.
    """
    if num_steps < 1 + zero:
        raise ValueError(f"levels needs at least {1 + zero} steps, got {num_steps}")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"levels needs finite 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    times = jnp.linspace(schedule.time(sigma_max), schedule.time(sigma_min), num_steps + 1 - zero)
    sigmas = schedule.sigma(times) / schedule.alpha(times)
    return jnp.append(sigmas, 0) if zero else sigmas
