"""Conjugate gradients for least squares."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import checks, linalg
from medjax.solvers.measured import measured
from medjax.typing import Info, Operator, Solver


class CglsState(NamedTuple):
    """x: iterate; r: weighted residual (y - A x) / sigma_y; p: direction; square: the squared norm of the gradient of half the objective."""

    x: Any
    r: Any
    p: Any
    square: Array


def cgls(A: Operator, y, sigma_y=1.0, damping=0.0) -> Solver:
    r"""Conjugate gradients on the normal equations of damped least squares, without forming them.

    .. math:: \min_x \left\| \frac{A x - y}{\sigma_y} \right\|^2 + \delta^2 \|x\|^2

    The iterates are those of `conjugate_gradient` and `lsqr`, for one product by A and one by its adjoint a step. Where the gradient has come down
    to its rounding no step is taken any more.

    Args:
      A: operator.
      y: data, real or complex.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured.
      damping: delta >= 0, scalar.

    Returns:
      A `Solver`, whose `change` is the norm of the gradient over that at x = 0. From x0 = 0 without damping it goes to the solution of minimum norm.
      The derivative of the iterates comes near that of the solution only late: prefer `backward="implicit"`.

    Raises:
      ValueError: for a known sigma_y that is not positive, or damping below 0.

    Reference:
      Bjorck (1996), Numerical Methods for Least Squares Problems, algorithm 7.4.1, https://doi.org/10.1137/1.9781611971484
    """
    (y, root), damp = measured(y, sigma_y), checks.nonnegative(damping, "damping") ** 2
    first = linalg.norm(A.adjoint(root**2 * y))
    eps = jnp.finfo(linalg.real_dtype(y)).eps

    def residual(x):
        return jax.tree.map(jnp.negative, descent(x, root * (y - A(x))))

    def descent(x, r):
        return jax.tree.map(lambda back, u: back - damp * u, A.adjoint(root * r), x)

    def init(x0):
        r = root * (y - A(x0))
        p = descent(x0, r)
        return CglsState(x0, r, p, linalg.vdot(p, p))

    def step(state):
        x, r, p, square = state
        q = root * A(p)
        length, bent = linalg.vdot(p, p), linalg.vdot(q, q)
        curvature = bent + damp * length
        rounding = eps * (first + jnp.sqrt(bent / jnp.where(length > 0, length, 1)) * linalg.norm(r))  # of the gradient, by ||A|| ||r||
        going = (square > rounding**2) & (curvature > 0)
        alpha = jnp.where(going, square / jnp.where(going, curvature, 1), 0)
        x = jax.tree.map(lambda u, v: u + alpha * v, x, p)
        r = r - alpha * q
        s = descent(x, r)
        following = jnp.where(going, linalg.vdot(s, s), square)
        beta = jnp.where(going, following / jnp.where(going, square, 1), 0)
        p = jax.tree.map(lambda u, v: jnp.where(going, u + beta * v, v), s, p)
        change = jnp.sqrt(jnp.where(following <= 0, 0, following)) / jnp.where(first > 0, first, 1)
        return CglsState(x, r, p, following), Info(change, jnp.zeros_like(change))

    return Solver(init, step, residual)
