"""The least value of a function of one positive number that may have several minima."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from medjax.checks import is_concrete


def grid_minimum(fn: Callable, strengths: Array) -> tuple[Array, Array]:
    """Where fn of a strength is least, and fn at the strengths `[num]`: their best, then golden sections of the logarithm between its neighbours.

    Where fn is NaN at any of the strengths, or finite at none, the minimum is NaN.

    Raises:
      ValueError: for strengths that are known and not positive and ascending.
    """
    if strengths.ndim != 1 or (is_concrete(strengths) and not (np.all(np.diff(strengths) > 0) and np.all(np.asarray(strengths) > 0))):
        raise ValueError(f"strengths [num] > 0, ascending, are needed, got shape {list(strengths.shape)} from {np.min(strengths):.3g}")
    values = jax.vmap(fn)(strengths)
    best = jnp.argmin(values)
    logs = jnp.log(strengths)
    low, high = logs[jnp.maximum(best - 1, 0)], logs[jnp.minimum(best + 1, strengths.shape[0] - 1)]
    share = (5**0.5 - 1) / 2

    def shrink(_, bracket):
        low, high = bracket
        left, right = high - share * (high - low), low + share * (high - low)
        lower = fn(jnp.exp(left)) <= fn(jnp.exp(right))
        return jnp.where(lower, low, left), jnp.where(lower, right, high)

    low, high = lax.fori_loop(0, 50, shrink, (low, high))
    known = jnp.any(jnp.isfinite(values)) & ~jnp.any(jnp.isnan(values))
    return jnp.where(known, jnp.exp((low + high) / 2), jnp.nan), values
