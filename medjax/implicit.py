"""Derivatives of solutions: how to differentiate is an argument."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.sparse.linalg import gmres

from medjax import linalg
from medjax.iterate import iterate_until
from medjax.typing import Solver

BACKWARD = ("implicit", "unroll", "jfb")
_UNSOLVED = 1e-3


def solution(
    make: Callable[..., Solver],
    theta,
    x0,
    *,
    tolerance=1e-10,
    max_steps: int = 1000,
    backward: str = "implicit",
    num_krylov: int = 40,
    restarts: int = 25,
):
    r"""The last state of a solver as a differentiable function of its parameters.

    With T the step of the solver and s the state, :math:`s^* = T(\theta, s^*)`:

    * ``"implicit"``: :math:`ds = (I - \partial_s T)^{-1} \partial_\theta T \, d\theta`, by GMRES, whatever the number of steps; true where the run
      has converged. Of a solver with a `residual` F it is :math:`dx = -(\partial_x F)^{-1} \partial_\theta F \, d\theta`, by conjugate
      gradients, for x alone.
    * ``"unroll"``: through all `max_steps` steps, that of the iterate itself; memory grows with their square root, for one more forward run.
    * ``"jfb"``: through the last step alone, Jacobian-free: a direction, not the gradient; not for solvers with a `residual`.

    Args:
      make: `theta -> Solver`; nothing differentiated may come from elsewhere.
      theta: pytree: data, strengths, operators, weights of a network.
      x0: start, not differentiated.
      tolerance: of `iterate_until`; "unroll" takes all steps.
      max_steps: the most steps.
      backward: one of `BACKWARD`.
      num_krylov: vectors of GMRES held at once.
      restarts: of GMRES, the most.

    Returns:
      The last state of the solver, with the estimate in its field `x`.

    Raises:
      ValueError: for another `backward`, or "jfb" where a step is no fixed point.

    Reference:
      Blondel et al. (2022), Efficient and modular implicit differentiation, eq. 2, https://arxiv.org/abs/2105.15183; jfb: Fung et al. (2022),
      https://arxiv.org/abs/2103.12803
    """
    if backward not in BACKWARD:
        raise ValueError(f"backward is {backward!r}, one of {', '.join(BACKWARD)} is needed")
    if backward == "unroll":
        return _unrolled(make(theta), x0, max_steps)

    def run(theta):
        return iterate_until(make(theta), x0, tolerance, max_steps)[0]

    def step(theta, state):
        return make(theta).step(state)[0]

    known = make(jax.tree.map(lax.stop_gradient, theta))
    if known.residual is not None:
        if backward == "jfb":
            raise ValueError('backward is "jfb", but the solution is no smooth fixed point of this solver\'s step; "implicit" or "unroll" is needed')
        state = iterate_until(known, x0, tolerance, max_steps)[0]
        x = root(lambda theta, x: _residual(make(theta), x), theta, lambda _: state.x, symmetric=True, num_krylov=num_krylov, restarts=restarts)
        return state._replace(x=x)
    if backward == "jfb":
        return step(theta, lax.stop_gradient(run(jax.tree.map(lax.stop_gradient, theta))))
    return root(lambda theta, s: jax.tree.map(jnp.subtract, s, step(theta, s)), theta, run, num_krylov=num_krylov, restarts=restarts)


def root(fn: Callable, theta, solve: Callable, *, symmetric: bool = False, tolerance=1e-10, num_krylov: int = 40, restarts: int = 25):
    r"""s with :math:`F(\theta, s) = 0`, found by any solver, differentiated by the implicit function theorem, to any order.

    .. math:: ds = -(\partial_s F)^{-1} \partial_\theta F \, d\theta

    Complex numbers are pairs of reals: F need not be holomorphic.

    Args:
      fn: `(theta, s) -> like s`, F; the gradient of a smooth objective, or s - T(theta, s).
      theta: pytree; nothing differentiated may come from elsewhere.
      solve: `theta -> s`, pytree of floating or complex arrays.
      symmetric: that F is a gradient of a strictly convex function, so that conjugate gradients do.
      tolerance: relative residual of the linear solve, at least 10 times the spacing of the numbers; where it stays above 1e-3 the derivative is NaN.
      num_krylov: steps of conjugate gradients, or vectors of GMRES held at once.
      restarts: of GMRES, the most.

    Returns:
      s.

    Reference:
      Krantz & Parks (2003), The Implicit Function Theorem, theorem 3.3.1.
    """
    like = jax.eval_shape(solve, theta)
    size, unflat = linalg.flattening(like)
    tolerance = max(tolerance, 10 * float(jnp.finfo(linalg.real_dtype(like)).eps))

    def krylov(matvec, b):
        if symmetric:
            found = linalg.conjugate_gradient(matvec, b, num_steps=num_krylov * restarts, tolerance=tolerance)
        else:
            found = gmres(matvec, b, tol=tolerance, restart=min(num_krylov, size), maxiter=restarts, solve_method="incremental")[0]
        return jnp.where(linalg.norm(matvec(found) - b) <= _UNSOLVED * linalg.norm(b), found, jnp.nan)

    def tangent_solve(matvec, b):
        return lax.custom_linear_solve(matvec, b, krylov, krylov, symmetric=symmetric)

    def residual(v):
        return linalg.flat(fn(theta, unflat(v)))

    start = jnp.zeros((size,), linalg.real_dtype(like))
    return unflat(lax.custom_root(residual, start, lambda *_: linalg.flat(solve(jax.tree.map(lax.stop_gradient, theta))), tangent_solve))


def _residual(solver, x):
    return solver.residual(x)


def _unrolled(solver, x0, num_steps):
    """`iterate` by scans of scans: backpropagation keeps about 2 sqrt(num_steps) states."""
    inner = max(1, math.isqrt(num_steps))

    def steps(state, count):
        return lax.scan(lambda s, _: (solver.step(s)[0], None), state, length=count)[0]

    segment = jax.checkpoint(lambda state, _: (steps(state, inner), None))
    state = lax.scan(segment, solver.init(x0), length=num_steps // inner)[0]
    return steps(state, num_steps % inner)
