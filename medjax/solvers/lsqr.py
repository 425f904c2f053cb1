"""Least squares by bidiagonalisation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import checks, linalg
from medjax.solvers.measured import measured
from medjax.typing import Info, Operator, Solver


class LsqrState(NamedTuple):
    """x: iterate; u, v: left and right Lanczos vectors; w: direction; alpha: the last diagonal entry; rho_bar, phi_bar: of the QR factorisation."""

    x: Any
    u: Any
    v: Any
    w: Any
    alpha: Array
    rho_bar: Array
    phi_bar: Array


def lsqr(A: Operator, y, sigma_y=1.0, damping=0.0) -> Solver:
    r"""Paige and Saunders' LSQR for damped least squares.

    .. math:: \min_x \left\| \frac{A x - y}{\sigma_y} \right\|^2 + \delta^2 \|x\|^2

    Golub and Kahan's bidiagonalisation of :math:`\bar A = (\sigma_y^{-1} A, \delta I)` with a QR factorisation that goes along; in exact arithmetic
    the iterates of `cgls`, more accurate where A is ill-conditioned. A Lanczos vector that is nothing but rounding ends the bidiagonalisation.

    Args:
      A: operator.
      y: data, real or complex.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured.
      damping: delta >= 0, scalar.

    Returns:
      A `Solver`, whose `change` is the norm of the gradient, as the factorisation tells it, over that at x = 0. From x0 = 0 without damping it goes
      to the solution of minimum norm.

    Raises:
      ValueError: for a known sigma_y that is not positive, or damping below 0.

    Reference:
      Paige & Saunders (1982), LSQR, section 4.1, https://doi.org/10.1145/355984.355989
    """
    y, root = measured(y, sigma_y)
    checks.nonnegative(damping, "damping")
    first = linalg.norm(A.adjoint(root**2 * y))
    eps = jnp.finfo(linalg.real_dtype(y)).eps

    def residual(x):
        return jax.tree.map(lambda a, b: a + damping**2 * b, A.adjoint(root**2 * (A(x) - y)), x)

    def forward(x):
        return root * A(x), jax.tree.map(lambda u: damping * u, x)

    def adjoint(u):
        return jax.tree.map(lambda back, low: back + damping * low, A.adjoint(root * u[0]), u[1])

    def minus(a, scale, b):
        """a - scale b as a unit vector, zero where that is rounding, and its norm."""
        rest = jax.tree.map(lambda s, t: s - scale * t, a, b)
        size = linalg.norm(rest)
        kept = ~(size <= 10 * eps * linalg.norm(a))  # NaN is
        return jax.tree.map(lambda s: jnp.where(kept, s / jnp.where(kept, size, 1), 0), rest), jnp.where(kept, size, 0)

    def init(x0):
        start = jax.tree.map(jnp.subtract, (root * y, jax.tree.map(jnp.zeros_like, x0)), forward(x0))
        u, beta = minus(start, 0.0, start)
        back = adjoint(u)
        v, alpha = minus(back, 0.0, back)
        return LsqrState(x0, u, v, v, alpha, alpha, beta)

    def step(state):
        u, beta = minus(forward(state.v), state.alpha, state.u)
        v, alpha = minus(adjoint(u), beta, state.v)
        rho = jnp.sqrt(state.rho_bar**2 + beta**2)
        going = rho > 0
        safe = jnp.where(going, rho, 1)
        c, s = state.rho_bar / safe, beta / safe
        along, turn = jnp.where(going, c * state.phi_bar / safe, 0), s * alpha / safe
        x = jax.tree.map(lambda a, b: a + along * b, state.x, state.w)
        w = jax.tree.map(lambda a, b: a - turn * b, v, state.w)
        phi_bar = jnp.where(going, s * state.phi_bar, state.phi_bar)
        change = jnp.abs(phi_bar * alpha * c) / jnp.where(first > 0, first, 1)
        return LsqrState(x, u, v, w, alpha, -c * alpha, phi_bar), Info(change, jnp.zeros_like(change))

    return Solver(init, step, residual)
