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
      has converged.
    * ``"unroll"``: through all `max_steps` steps, that of the iterate itself; memory grows with their square root, for one more forward run.
    * ``"jfb"``: through the last step alone, Jacobian-free: a direction, not the gradient.

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
      ValueError: for another `backward`.

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
      tolerance: relative residual of the linear solve; where the precision does not reach it, 10 times its spacing.
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
            return linalg.conjugate_gradient(matvec, b, num_steps=num_krylov * restarts, tolerance=tolerance)
        return gmres(matvec, b, tol=tolerance, restart=min(num_krylov, size), maxiter=restarts, solve_method="incremental")[0]

    def tangent_solve(matvec, b):
        return lax.custom_linear_solve(matvec, b, krylov, krylov, symmetric=symmetric)

    def residual(v):
        return linalg.flat(fn(theta, unflat(v)))

    start = jnp.zeros((size,), linalg.real_dtype(like))
    return unflat(lax.custom_root(residual, start, lambda *_: linalg.flat(solve(jax.tree.map(lax.stop_gradient, theta))), tangent_solve))


def _unrolled(solver, x0, num_steps):
    """`iterate` by scans of scans: backpropagation keeps about 2 sqrt(num_steps) states."""
    inner = max(1, math.isqrt(num_steps))

    def steps(state, count):
        return lax.scan(lambda s, _: (solver.step(s)[0], None), state, length=count)[0]

    segment = jax.checkpoint(lambda state, _: (steps(state, inner), None))
    state = lax.scan(segment, solver.init(x0), length=num_steps // inner)[0]
    return steps(state, num_steps % inner)
