"""No number below zero."""

import jax.numpy as jnp

from medjax.functionals.box import box
from medjax.typing import Functional


def nonnegative() -> Functional:
    r"""The constraint x >= 0: value 0 inside, infinite outside.

    .. math:: \mathrm{prox}_\tau(v) = \max(v, 0)

    Returns:
      A `Functional` of real x of any shape.

    Raises:
      ValueError: for a complex x.
    """
    return box(0.0, jnp.inf)
