"""At most a given distance from a point."""

import jax.numpy as jnp

from medjax import checks, linalg
from medjax.functionals.length import length
from medjax.typing import Functional


def l2_ball(radius, center=0.0) -> Functional:
    r"""The constraint :math:`\|x - c\|_2 \le \rho`: value 0 inside, infinite outside by more than rounding.

    .. math:: \mathrm{prox}_\tau(v) = c + (v - c) \min(1, \rho / \|v - c\|_2)

    Args:
      radius: rho >= 0, a scalar.
      center: c, a scalar or like x.

    Returns:
      A `Functional` of real or complex x of any shape.

    Raises:
      ValueError: for a radius below 0 or NaN.
    """
    checks.nonnegative(radius, "radius of l2_ball")

    def measured(x):
        offset = x - jnp.asarray(center, x.dtype)
        return offset, length(offset, tuple(range(x.ndim))), jnp.asarray(radius, linalg.real_dtype(x))

    def value(x):
        offset, size, most = measured(x)
        slack = float(jnp.finfo(size.dtype).eps) ** 0.75 * (most + jnp.max(jnp.abs(x)))
        return jnp.where(jnp.sum(size) <= most + slack, 0.0, jnp.inf).astype(size.dtype)

    def prox(v, tau):
        offset, size, most = measured(v)
        outside = size > most
        return jnp.where(outside, v - offset * (1 - most / jnp.where(outside, size, 1)), v)

    return Functional(value, prox)
