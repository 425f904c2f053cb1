"""Derivatives of a prox that is found by a loop of unknown length."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from medjax import linalg


def symmetric_jacobian(run: Callable, v, *parameters):
    r"""`run(v, *parameters)`, whose Jacobian in v is symmetric, with reverse mode without a tape.

    A prox is the gradient of a convex function, hence

    .. math:: \langle u, \partial_v x \, dv \rangle = \langle \partial_v x \, u, dv \rangle

    and one forward-mode run gives the product with the transpose, also inside other linear solves, as of `implicit.solution`. Parameters take one
    such run each. The derivatives are those of the iterate, which near convergence are those of the prox.

    Args:
      run: `(v, *parameters) -> x`, by any loop that has forward mode, such as a `while_loop`; it closes over nothing differentiated.
      v: real or complex array.
      parameters: real scalars.

    Returns:
      x, like v.

    Reference:
      Moreau (1965), proposition 7.d, https://doi.org/10.24033/bsmf.1625
    """
    fn = jax.custom_jvp(run)

    def jvp(primals, tangents):
        (v, *parameters), (dv, *dparameters) = primals, tangents
        _, unflat = linalg.flattening(v)

        def product(d):
            return linalg.flat(jax.jvp(lambda u: run(u, *parameters), (v,), (unflat(d),))[1])

        x = fn(*primals)
        dx = 0 if isinstance(dv, SymbolicZero) else unflat(_symmetric_product(product, linalg.flat(dv)))
        for i, d in enumerate(dparameters):
            if not isinstance(d, SymbolicZero):
                column = jax.jvp(lambda a, i=i: run(v, *parameters[:i], a, *parameters[i + 1 :]), (parameters[i],), (jnp.ones_like(parameters[i]),))[
                    1
                ]
                dx = dx + column * d
        return x, dx

    fn.defjvp(jvp, symbolic_zeros=True)
    return fn(v, *parameters)


def _symmetric_product(product, d):
    """J d for a J that is its own transpose: a block of the inverse of the symmetric [[0, I], [I, -J]]."""

    def matvec(z):
        return z[1], z[0] - product(z[1])

    def solve(_, b):
        return b[1] + product(b[0]), b[0]

    def nothing(d):
        """0, but linear in d: a transpose wants all of the right side so, and that of a transpose, as GMRES takes it, all of the solution."""
        return jnp.where(False, d, 0)

    found, rest = lax.custom_linear_solve(matvec, (d, nothing(d)), solve, symmetric=True)
    return found + nothing(rest)
