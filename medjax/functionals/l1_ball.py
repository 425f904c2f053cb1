"""Magnitudes of a limited sum."""

import jax.numpy as jnp

from medjax import checks, linalg
from medjax.functionals.length import length
from medjax.functionals.simplex import simplex
from medjax.typing import Functional


def l1_ball(radius) -> Functional:
    r"""The constraint :math:`\sum_i |x_i| \le \rho`: value 0 inside, infinite outside by more than rounding.

    .. math:: \mathrm{prox}_\tau(v)_i = \frac{v_i}{|v_i|} P(|v|)_i \text{ outside, with } P \text{ the projection onto the `simplex` of sum } \rho

    Args:
      radius: rho >= 0, a scalar.

    Returns:
      A `Functional` of real or complex x of any shape.

    Raises:
      ValueError: for a radius below 0 or NaN.

    Reference:
      Duchi, Shalev-Shwartz, Singer & Chandra (2008), Efficient projections onto the l1-ball for learning in high dimensions, section 4,
      https://doi.org/10.1145/1390156.1390191
    """
    checks.nonnegative(radius, "radius of l1_ball")

    def value(x):
        total, most = jnp.sum(length(x)), jnp.asarray(radius, linalg.real_dtype(x))
        return jnp.where(total <= most * (1 + float(jnp.finfo(x.dtype).eps) ** 0.75), 0.0, jnp.inf).astype(most.dtype)

    def prox(v, tau):
        size, most = length(v), jnp.asarray(radius, linalg.real_dtype(v))
        shrunk = simplex(most).prox(size, tau)
        return jnp.where(jnp.sum(size) > most, v * (shrunk / jnp.where(size > 0, size, 1)), v)

    return Functional(value, prox)
