"""What an operator does to given data, at any size: the singular system of a Krylov space."""

import jax
import jax.numpy as jnp
from jax import lax

from medjax import linalg
from medjax.operators.spectral import SingularSystem, combine, count_values, inner_products, refuse_nonfinite
from medjax.typing import Operator


def krylov_system(A: Operator, y, num_steps: int, tolerance=None) -> SingularSystem:
    r"""Golub and Kahan's bidiagonalisation of A from y, as a `SingularSystem`: one run serves all strengths of Tikhonov's regularisation.

    .. math::
        \beta_1 u_1 = y, \quad \alpha_j v_j = A^H u_j - \beta_j v_{j-1}, \quad \beta_{j+1} u_{j+1} = A v_j - \alpha_j u_j, \quad
        A V_k = U_{k+1} B_k = (U_{k+1} P) S (V_k Q)^H

    with B = P S Q^H the small bidiagonal matrix. Its `tikhonov(y, strength)` is what k steps of LSQR on the damped problem give, for each strength,
    and `pseudo_inverse(y)` what k steps of CGLS from 0 give; `tikhonov_norms(y)` are exact for these x, and all tend to those of A as k grows, large
    strengths first. It knows A along y only: not its rank, its null space, its degrees of freedom (see `influence_trace`) or other data.

    Vectors are kept orthogonal, so that k + 1 arrays like y and k like x are held.

    Args:
      A: operator, any size; real x may have complex data. To weigh data of unequal noise, give `linalg.Weighted(A, 1 / sigma_y)` and y / sigma_y.
      y: data, an array or pytree, not all zero.
      num_steps: k, each a product with A and one with A^H.
      tolerance: singular values up to this fraction of the largest count as zero; by default k times the rounding unit.

    Returns:
      A `SingularSystem` of at most k values, fewer where the Krylov space is exhausted: then it is exact. Of traced data that are not
      finite the values are NaN.

    Raises:
      ValueError: for less than one step, or data known to be not finite.

    Reference:
      Paige & Saunders (1982), LSQR, section 3, https://doi.org/10.1145/355984.355989
    """
    if num_steps < 1:
        raise ValueError(f"krylov_system needs num_steps >= 1, got {num_steps}")
    refuse_nonfinite(y, "y of krylov_system")
    like = jax.eval_shape(A.adjoint, y)
    real = not jnp.issubdtype(like.dtype, jnp.complexfloating)
    dtype = linalg.real_dtype(like)

    def column(vector, basis, scale):
        """The unit vector of what is left outside the span of the basis, and its length: 0 and 0 where that is rounding."""
        for _ in range(2):  # once leaves rounding of the length that it had before
            vector = jax.tree.map(jnp.subtract, vector, combine(basis, inner_products(basis, vector, real)))
        length = linalg.norm(vector).astype(dtype)
        none = length <= 10 * jnp.finfo(dtype).eps * scale  # not of NaN, which stays
        return jax.tree.map(lambda a: (a * jnp.where(none, 0, 1 / jnp.where(none, 1, length))).astype(a.dtype), vector), jnp.where(none, 0, length)

    def put(basis, j, vector):
        return jax.tree.map(lambda b, a: b.at[j].set(a), basis, vector)

    def empty(num, like):
        return jax.tree.map(lambda a: jnp.zeros((num, *a.shape), a.dtype), like)

    def step(carry, j):
        left, right, scale = carry
        v = A.adjoint(jax.tree.map(lambda b: b[j], left))
        scale = jnp.maximum(scale, linalg.norm(v).astype(dtype))  # at most ||A||
        v, alpha = column(v, right, scale)
        right = put(right, j, v)
        u, beta = column(A(v), left, scale)
        return (put(left, j + 1, u), right, scale), (alpha, beta)

    first, _ = column(y, empty(1, y), 0.0)
    start = (put(empty(num_steps + 1, y), 0, first), empty(num_steps, like), jnp.zeros((), dtype))
    (left, right, _), (alphas, betas) = lax.scan(step, start, jnp.arange(num_steps))
    bidiagonal = jnp.zeros((num_steps + 1, num_steps), dtype).at[:-1].set(jnp.diag(alphas))
    bidiagonal = bidiagonal.at[1:].add(jnp.diag(betas))
    p, values, qh = jnp.linalg.svd(bidiagonal, full_matrices=False)
    tolerance = num_steps * jnp.finfo(dtype).eps if tolerance is None else tolerance
    return SingularSystem(combine(left, p.T), values, combine(right, qh), count_values(values, tolerance))
