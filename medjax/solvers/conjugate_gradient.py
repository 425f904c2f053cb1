"""Conjugate gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import linalg
from medjax.typing import Info, Solver


class ConjugateGradientState(NamedTuple):
    """x: iterate; r: residual b - M x; p: direction; square: ||r||^2."""

    x: Any
    r: Any
    p: Any
    square: Array


def conjugate_gradient(matvec: Callable, b) -> Solver:
    r"""Solve M x = b for a symmetric positive definite M.

    .. math:: x_{k+1} = x_k + \frac{\|r_k\|^2}{\langle p_k, M p_k \rangle} p_k, \quad p_{k+1} = r_{k+1} + \frac{\|r_{k+1}\|^2}{\|r_k\|^2} p_k

    Once ||r|| is below the rounding of b no step is taken any more: the quotients would become 0 / 0. Nor is one along a direction of negative
    curvature, which shows that M is not positive definite.

    Args:
      matvec: `x -> M x`, self-adjoint in the inner product `linalg.vdot`.
      b: array or pytree.

    Returns:
      A `Solver`, whose `change` is ||r|| / ||b||. The derivative of the iterates comes near that of the solution only late: prefer
      `backward="implicit"`. For inner solves there is `linalg.conjugate_gradient`.

    Reference:
      Hestenes & Stiefel (1952), eq. 3:1, https://doi.org/10.6028/jres.049.044
    """
    size = linalg.norm(b)
    smallest = (jnp.finfo(linalg.real_dtype(b)).eps * size) ** 2

    def init(x0):
        r = jax.tree.map(jnp.subtract, b, matvec(x0))
        return ConjugateGradientState(x0, r, r, linalg.vdot(r, r))

    def step(state):
        x, r, p, square = state
        Mp = matvec(p)
        curvature = linalg.vdot(p, Mp)
        going = (square > smallest) & (curvature > 0)
        alpha = jnp.where(going, square / jnp.where(going, curvature, 1), 0)
        x = jax.tree.map(lambda u, v: u + alpha * v, x, p)
        r = jax.tree.map(lambda u, v: u - alpha * v, r, Mp)
        following = jnp.where(going, linalg.vdot(r, r), square)
        beta = jnp.where(going, following / jnp.where(going, square, 1), 0)
        p = jax.tree.map(lambda u, v: jnp.where(going, u + beta * v, v), r, p)
        change = jnp.sqrt(jnp.where(following <= 0, 0, following)) / jnp.where(size > 0, size, 1)
        return ConjugateGradientState(x, r, p, following), Info(change, jnp.zeros_like(change))

    return Solver(init, step, lambda x: jax.tree.map(jnp.subtract, matvec(x), b))
