"""Sum of the lengths of groups."""

import jax.numpy as jnp

from medjax import checks, linalg
from medjax.functionals.length import length
from medjax.functionals.soft_threshold import soft_threshold
from medjax.typing import Functional


def group_l1(strength, axes=-1) -> Functional:
    r"""Sum of the Euclidean lengths of groups, weighted: whole groups vanish.

    .. math:: \sum_g \lambda_g \|x_g\|_2, \quad \mathrm{prox}_\tau(v)_g = v_g \max(0, 1 - \tau \lambda_g / \|v_g\|_2)

    Args:
      strength: lambda >= 0, a scalar, or one a group: like x with size 1 along `axes`.
      axes: those that a group runs over, an integer or a tuple; all of them give the Euclidean norm of x.

    Returns:
      A `Functional` of real or complex x.

    Raises:
      ValueError: for a strength below 0 or NaN.
    """
    checks.nonnegative(strength, "strength of group_l1")
    axes = (axes,) if isinstance(axes, int) else tuple(axes)

    def value(x):
        return jnp.sum(jnp.asarray(strength, linalg.real_dtype(x)) * length(x, axes))

    def prox(v, tau):
        return soft_threshold(v, jnp.asarray(strength * tau, linalg.real_dtype(v)), axes)

    return Functional(value, prox)
