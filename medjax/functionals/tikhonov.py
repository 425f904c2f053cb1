"""Half the squared distance of G x to a target."""

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from medjax import checks, linalg
from medjax.typing import Functional, Operator


def tikhonov(G: Operator, strength, target=None, tolerance=1e-6, max_steps: int = 200) -> Functional:
    r"""Tikhonov's penalty with any operator.

    .. math:: \tfrac12 \sum_i \lambda_i |(G x - b)_i|^2, \quad
        \mathrm{prox}_\tau(v) = v + d, \; (I + \tau G^H \Lambda G) d = \tau G^H \Lambda (b - G v)

    The prox is solved by conjugate gradients and differentiated as the solution of its system, whatever the number of steps.

    Args:
      G: operator; by its `normal` where it has one and the strength is a scalar.
      strength: lambda >= 0, a scalar or like G x.
      target: b, like G x; 0 if None. Where a strength like G x is 0 it may be anything.
      tolerance: relative bound on the residual of the system for d, so that ||d|| is found to about `tolerance`.
      max_steps: the most steps of the prox.

    Returns:
      A `Functional` of real or complex x.

    Raises:
      ValueError: for a strength or tolerance below 0 or NaN, no steps.

    Reference:
      Hestenes & Stiefel (1952), eq. 3:1.
    """
    checks.nonnegative(strength, "strength of tikhonov")
    checks.nonnegative(tolerance, "tolerance of tikhonov")
    checks.positive(max_steps, "max_steps of tikhonov")
    if target is not None and jnp.ndim(strength):
        target = jnp.where(jnp.asarray(strength) > 0, target, 0)

    def missing(x):
        """b - G x."""
        negative = jax.tree.map(jnp.negative, G(x))
        return negative if target is None else jax.tree.map(lambda a, b: a + jnp.asarray(b, a.dtype), negative, target)

    def weighted(residual, factor):
        return jax.tree.map(lambda a: jnp.asarray(strength * factor, linalg.real_dtype(a)) * a, residual)

    def value(x):
        residual = missing(x)
        return jnp.asarray(linalg.vdot(residual, weighted(residual, 1.0)) / 2, linalg.real_dtype(x))

    def prox(v, tau):
        weight = jnp.asarray(strength * tau, linalg.real_dtype(v))
        gram = linalg.gram(G, weight) if weight.ndim else lambda d: weight * linalg.gram(G)(d)

        def part(u):
            return u if jnp.iscomplexobj(v) else jnp.real(u)  # of a complex G on real x

        right = part(G.adjoint(weighted(missing(v), tau)))
        return v + cg(lambda d: d + part(gram(d)), right, tol=tolerance, maxiter=max_steps)[0]

    return Functional(value, prox)
