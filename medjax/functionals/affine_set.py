"""Linear equations that hold exactly."""

from typing import Any

import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from medjax import checks, linalg
from medjax.typing import Functional


def affine_set(B: Any, b, tolerance=1e-6, max_steps: int = 200) -> Functional:
    r"""The constraint B x = b, which has solutions: value 0 where it holds, infinite elsewhere.

    .. math:: \mathrm{prox}_\tau(v) = v - B^+ (B v - b), \quad B^+ = B^H (B B^H)^+

    Args:
      B: a small dense matrix `[m, n]`, by its pseudo-inverse, x then being taken as a vector; or an operator, by conjugate gradients that are
        differentiated as the solution of their system. A complex B wants complex x.
      b: right side, `[m]` or like B x, in the range of B.
      tolerance: for an operator, relative bound on ||B x - b|| against that of v.
      max_steps: for an operator, the most steps.

    Returns:
      A `Functional`. The value allows ||x - prox(x)|| / ||x|| of rounding, or of 100 tolerances of an operator.

    Raises:
      ValueError: for a matrix that does not fit b, a tolerance below 0 or NaN, no steps.

    Reference:
      Parikh & Boyd (2014), Proximal algorithms, section 6.2.1, https://doi.org/10.1561/2400000003
    """
    checks.nonnegative(tolerance, "tolerance of affine_set")
    checks.positive(max_steps, "max_steps of affine_set")
    is_matrix = not callable(B)
    if is_matrix and (jnp.ndim(B) != 2 or jnp.shape(b) != jnp.shape(B)[:1]):
        raise ValueError(f"affine_set needs B [m, n] and b [m], got {list(jnp.shape(B))} and {list(jnp.shape(b))}")
    inverse = jnp.linalg.pinv(B) if is_matrix else None

    def prox(v, tau):
        if inverse is not None:
            if jnp.iscomplexobj(inverse) and not jnp.iscomplexobj(v):
                raise ValueError(f"affine_set has a complex matrix, x is {v.dtype}: a complex one is needed")
            matrix, back = jnp.asarray(B, v.dtype), jnp.asarray(inverse, v.dtype)
            return v - (back @ (matrix @ v.ravel() - jnp.asarray(b, v.dtype))).reshape(v.shape)
        found: Any = B(v)
        residual = found - jnp.asarray(b, found.dtype)
        step = B.adjoint(cg(lambda q: B(B.adjoint(q)), residual, tol=tolerance, maxiter=max_steps)[0])
        return v - (step if jnp.iscomplexobj(v) else jnp.real(step))

    def value(x):
        dtype = linalg.real_dtype(x)
        allowed = jnp.maximum(float(jnp.finfo(dtype).eps) ** 0.75, 0 if is_matrix else 100 * jnp.asarray(tolerance, dtype))
        return jnp.where(linalg.norm(x - prox(x, 1.0)) <= allowed * linalg.norm(x), 0.0, jnp.inf).astype(dtype)

    return Functional(value, prox)
