"""Sum of singular values."""

import jax.numpy as jnp

from medjax import checks, linalg
from medjax.functionals.singular_value_threshold import singular_value_threshold
from medjax.typing import Functional


def nuclear_norm(strength) -> Functional:
    r"""Sum of the singular values of a matrix: low rank.

    .. math:: \lambda \sum_i \sigma_i(X), \quad \mathrm{prox}_\tau(V) = U \max(\Sigma - \tau \lambda, 0) W^H \text{ of } V = U \Sigma W^H

    Args:
      strength: lambda >= 0, a scalar.

    Returns:
      A `Functional` of real or complex `[..., m, n]`, summed over matrices. Derivatives of the prox are finite at equal and zero singular values.

    Raises:
      ValueError: for a strength below 0 or NaN.

    Reference:
      Cai, Candes & Shen (2010), A singular value thresholding algorithm for matrix completion, theorem 2.1, https://doi.org/10.1137/080738970
    """
    checks.nonnegative(strength, "strength of nuclear_norm")

    def value(x):
        return jnp.asarray(strength, linalg.real_dtype(x)) * jnp.sum(jnp.linalg.svd(x, compute_uv=False))

    def prox(v, tau):
        return singular_value_threshold(v, strength * tau)

    return Functional(value, prox)
