"""Bounds on every number."""

import jax.numpy as jnp
import numpy as np

from medjax import checks
from medjax.functionals.refuse_complex import refuse_complex
from medjax.typing import Functional


def box(lower=0.0, upper=1.0) -> Functional:
    r"""The constraint lower <= x <= upper: value 0 inside, infinite outside.

    .. math:: \mathrm{prox}_\tau(v) = \min(\max(v, l), u)

    Args:
      lower: l, a scalar or like x; may be -inf.
      upper: u, a scalar or like x; may be inf.

    Returns:
      A `Functional` of real x of any shape.

    Raises:
      ValueError: where a lower bound is above its upper one or NaN; for a complex x.
    """
    if checks.is_concrete(lower, upper) and not np.all(np.asarray(lower) <= np.asarray(upper)):
        raise ValueError(f"box is from {np.max(np.asarray(lower)):.4g} to {np.min(np.asarray(upper)):.4g}, lower <= upper is needed")

    def bounds(x):
        refuse_complex(x, "box")
        return jnp.asarray(lower, x.dtype), jnp.asarray(upper, x.dtype)

    def value(x):
        low, high = bounds(x)
        return jnp.where(jnp.all((x >= low) & (x <= high)), 0.0, jnp.inf).astype(x.dtype)

    def prox(v, tau):
        return jnp.clip(v, *bounds(v))

    return Functional(value, prox)
