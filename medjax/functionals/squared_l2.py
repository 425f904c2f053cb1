"""Half the squared distance to a point."""

import jax.numpy as jnp

from medjax import checks, linalg
from medjax.functionals.length import squares
from medjax.typing import Functional


def squared_l2(strength, center=0.0) -> Functional:
    r"""Half the squared distance to a point, weighted.

    .. math:: \tfrac12 \sum_i \lambda_i |x_i - c_i|^2, \quad \mathrm{prox}_\tau(v) = \frac{v + \tau \lambda c}{1 + \tau \lambda}

    Args:
      strength: lambda >= 0, a scalar or like x.
      center: c, a scalar or like x; where a strength like x is 0 it may be anything.

    Returns:
      A `Functional` of real or complex x of any shape; tau may be like x, too.

    Raises:
      ValueError: for a strength below 0 or NaN.
    """
    checks.nonnegative(strength, "strength of squared_l2")
    center = jnp.where(jnp.asarray(strength) > 0, center, 0) if jnp.ndim(strength) else center

    def value(x):
        return jnp.sum(jnp.asarray(strength, linalg.real_dtype(x)) * squares(x - jnp.asarray(center, x.dtype))) / 2

    def prox(v, tau):
        pull = jnp.asarray(strength * tau, linalg.real_dtype(v))
        return (v + pull * jnp.asarray(center, v.dtype)) / (1 + pull)

    return Functional(value, prox)
