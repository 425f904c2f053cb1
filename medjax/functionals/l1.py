"""Sum of magnitudes."""

import jax.numpy as jnp

from medjax import checks, linalg
from medjax.functionals.length import length
from medjax.functionals.soft_threshold import soft_threshold
from medjax.typing import Functional


def l1(strength) -> Functional:
    r"""Sum of magnitudes, weighted; of complex numbers by their modulus.

    .. math:: \sum_i \lambda_i |x_i|, \quad \mathrm{prox}_\tau(v)_i = v_i \max(0, 1 - \tau \lambda_i / |v_i|)

    Args:
      strength: lambda >= 0, a scalar or like x.

    Returns:
      A `Functional` of real or complex x of any shape; tau may be like x, too.

    Raises:
      ValueError: for a strength below 0 or NaN.
    """
    checks.nonnegative(strength, "strength of l1")

    def value(x):
        return jnp.sum(jnp.asarray(strength, linalg.real_dtype(x)) * length(x))

    def prox(v, tau):
        return soft_threshold(v, jnp.asarray(strength * tau, linalg.real_dtype(v)))

    return Functional(value, prox)
