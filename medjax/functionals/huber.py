"""Magnitudes with a rounded tip."""

import jax.numpy as jnp

from medjax import checks, linalg
from medjax.functionals.length import length, squares
from medjax.typing import Functional


def huber(strength, width) -> Functional:
    r"""Huber's function of the magnitudes: quadratic up to `width`, linear beyond.

    .. math:: \lambda \sum_i h(|x_i|), \quad h(r) = \begin{cases} r^2 / (2 w) & r \le w \\ r - w / 2 & r > w \end{cases}, \quad
        \mathrm{prox}_\tau(v) = v \left(1 - \frac{\tau \lambda}{\max(|v|, w + \tau \lambda)}\right)

    Args:
      strength: lambda >= 0, a scalar or like x.
      width: w > 0, a scalar or like x.

    Returns:
      A `Functional` of real or complex x of any shape, with a gradient of Lipschitz constant lambda / w; tau may be like x, too.

    Raises:
      ValueError: for a strength below 0 or NaN, a width that is not positive.
    """
    checks.nonnegative(strength, "strength of huber")
    checks.positive(width, "width of huber")

    def value(x):
        weight, w = jnp.asarray(strength, linalg.real_dtype(x)), jnp.asarray(width, linalg.real_dtype(x))
        size = length(x)
        return jnp.sum(weight * jnp.where(size > w, size - w / 2, squares(x) / (2 * w)))

    def prox(v, tau):
        pull, w = jnp.asarray(strength * tau, linalg.real_dtype(v)), jnp.asarray(width, linalg.real_dtype(v))
        return v * (1 - pull / jnp.maximum(length(v), w + pull))

    return Functional(value, prox)
