"""Nonnegative numbers of a given sum."""

from typing import Any

import jax.numpy as jnp
from jax import lax

from medjax import checks
from medjax.functionals.refuse_complex import refuse_complex
from medjax.typing import Functional


def simplex(total: Any = 1.0, axis: int | None = None) -> Functional:
    r"""The constraint :math:`x \ge 0, \sum_i x_i = s`: value 0 where it holds, infinite where it fails by more than rounding.

    .. math:: \mathrm{prox}_\tau(v)_i = \max(v_i - \theta, 0), \quad \theta = \frac{\sum_{i \le k} v_{(i)} - s}{k}, \quad
        k = \max \Big\{ j : v_{(j)} > \tfrac1j \Big( \sum_{i \le j} v_{(i)} - s \Big) \Big\}

    with :math:`v_{(1)} \ge v_{(2)} \ge \dots` in order.

    Args:
      total: s >= 0, a scalar.
      axis: along which the sum is taken, one for each position of the others (probabilities of labels); over all of x if None.

    Returns:
      A `Functional` of real x.

    Raises:
      ValueError: for a total below 0 or NaN; for a complex x.

    Reference:
      Duchi, Shalev-Shwartz, Singer & Chandra (2008), Efficient projections onto the l1-ball for learning in high dimensions, figure 1,
      https://doi.org/10.1145/1390156.1390191
    """
    checks.nonnegative(total, "total of simplex")

    def value(x):
        refuse_complex(x, "simplex")
        gap = jnp.abs(jnp.sum(x, axis) - jnp.asarray(total, x.dtype))
        near = jnp.all(gap <= float(jnp.finfo(x.dtype).eps) ** 0.75 * jnp.sum(jnp.abs(x), axis))
        return jnp.where(near & (jnp.min(x) >= 0), 0.0, jnp.inf).astype(x.dtype)

    def prox(v, tau):
        refuse_complex(v, "simplex")
        rows = v.ravel() if axis is None else jnp.moveaxis(v, axis, -1)
        out = _project(rows, jnp.asarray(total, v.dtype))
        return out.reshape(v.shape) if axis is None else jnp.moveaxis(out, -1, axis)

    return Functional(value, prox)


def _project(v, total):
    """Onto the simplex along the last axis; the support is a constant for autodiff, which makes the derivative that of the projection."""
    falling = -jnp.sort(-lax.stop_gradient(v), axis=-1)
    count = jnp.arange(1, v.shape[-1] + 1, dtype=v.dtype).reshape(*(1,) * (v.ndim - 1), -1)
    inside = falling * count > jnp.cumsum(falling, axis=-1) - lax.stop_gradient(total)
    least = jnp.min(jnp.where(inside, falling, falling[..., :1]), axis=-1, keepdims=True)
    support = lax.stop_gradient(v) >= least
    theta = (jnp.sum(jnp.where(support, v, 0), -1, keepdims=True) - total) / jnp.sum(support, -1, keepdims=True, dtype=v.dtype)
    return jnp.maximum(v - theta, 0)
