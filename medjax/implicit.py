"""Derivatives of solutions: how to differentiate is an argument."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.sparse.linalg import gmres

from medjax import checks, descent, lanczos, linalg
from medjax.iterate import iterate_until
from medjax.typing import Info, Solver

BACKWARD = ("implicit", "unroll", "jfb")
_UNSOLVED = 1e-3
_LOOSER, _LOOSEST = 20, 1e-4  # tolerance of a linear solve beside the lower problem's, whose error counts 5 to 20 times more; the most


class Solved(NamedTuple):
    """A solution, and how its search ended: constants for autodiff but for x.

    x: the solution, differentiable. num_steps: taken. converged: whether `residual` is at most the tolerance.
    residual: ||grad E(x)|| / ||grad E(0)|| of `minimise`, ||T(x) - x|| / ||T(x)|| of `fixed_point`.
    smallest, largest: Ritz values of the Hessian at x, where they were asked for.
    """

    x: Any
    num_steps: jax.Array
    residual: jax.Array
    converged: jax.Array
    smallest: jax.Array | None = None
    largest: jax.Array | None = None


class _Point(NamedTuple):
    x: jax.Array


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
    _check(backward, BACKWARD, "backward")
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


def fixed_point(
    fn: Callable,
    x0,
    theta,
    *,
    backward: str = "implicit",
    memory: int = 0,
    tolerance=1e-6,
    max_steps: int = 1000,
    symmetric: bool = False,
    num_krylov: int = 40,
    restarts: int = 25,
    num_backward: int = 1,
) -> Solved:
    r"""x = T(x, theta), found by iteration, as a differentiable function of theta.

    * ``"implicit"``: :math:`dx = (I - \partial_x T)^{-1} \partial_\theta T \, d\theta` by GMRES, or conjugate gradients where `symmetric`.
    * ``"jfb"``: through `num_backward` = K further steps, :math:`dx = \sum_{k < K} (\partial_x T)^k \partial_\theta T \, d\theta`; what is missing
      falls like :math:`\|\partial_x T\|^K`. One step is Jacobian-free backpropagation, a direction.
    * ``"unroll"``: through all `max_steps` plain steps from x0, the derivative of the iterate; memory grows with their square root.

    Args:
      fn: `(x, theta) -> like x`, T, of an array or pytree.
      x0: start, not differentiated; that of another training step is as good as any.
      theta: pytree; nothing differentiated may come from elsewhere.
      backward: one of `BACKWARD`.
      memory: of `descent.anderson`; 0 for plain iteration.
      tolerance: of the residual and of the linear solve, may be traced; "unroll" takes all steps.
      max_steps: the most steps.
      symmetric: that the Jacobian of T for x is symmetric with eigenvalues below 1.
      num_krylov: vectors of GMRES held at once; times `restarts` the most steps of either linear solver.
      restarts: of GMRES, the most.
      num_backward: K.

    Returns:
      A `Solved`. Where the linear solve fails its derivative is NaN.

    Raises:
      ValueError: for another `backward`, counts below 1, a negative memory, or "unroll" with a memory.

    Reference:
      Bai, Kolter & Koltun (2019), Deep equilibrium models, theorem 1, https://arxiv.org/abs/1909.01377; jfb: Fung et al. (2022),
      https://arxiv.org/abs/2103.12803, with K steps Geng et al. (2021), section 3, https://arxiv.org/abs/2111.05177
    """
    _check(backward, BACKWARD, "backward", max_steps=max_steps, num_backward=num_backward, num_krylov=num_krylov, restarts=restarts)
    checks.count(memory, "memory", least=0)
    _check_unrolled(backward, not memory, f"a memory of {memory}, 0")
    start, unflat, known = _prepared(x0, theta)

    def step(theta, v):
        return linalg.flat(fn(unflat(v), theta))

    def make(theta):
        return descent.anderson(functools.partial(step, theta), memory)

    def rooted(found):
        bound: Any = jnp.minimum(tolerance, _LOOSEST)
        options = {"symmetric": symmetric, "tolerance": bound, "num_krylov": num_krylov, "restarts": restarts}
        return root(lambda theta, v: v - step(theta, v), theta, lambda _: found, **options)

    def further(found):
        return _unrolled(_plain(functools.partial(step, theta)), found, num_backward).x

    def residual_of(v):
        image = step(known, v)
        size = linalg.norm(image)
        return linalg.norm(image - v) / jnp.where(size > 0, size, 1)

    v, steps, residual = _searched(backward, make, theta, known, start, (tolerance, max_steps), (rooted, further, residual_of))
    return Solved(unflat(v), steps, residual, residual <= tolerance)


def minimise(
    energy_fn: Callable,
    x0,
    theta,
    *,
    solver: str = "lbfgs",
    backward: str = "implicit",
    tolerance=1e-6,
    max_steps: int = 1000,
    num_krylov: int = 1000,
    step_size=None,
    num_backward: int = 1,
    num_ritz: int = 0,
) -> Solved:
    r"""argmin_x E(x, theta) of a smooth E as a differentiable function of theta: the lower problem of bilevel learning.

    * ``"implicit"``: :math:`dx = -H^{-1} \partial_\theta \nabla_x E \, d\theta`, H the Hessian, by conjugate gradients; memory is that of one step.
    * ``"jfb"``: through `num_backward` = K further steps of gradient descent: H^{-1} is :math:`\tau \sum_{k < K} (I - \tau H)^k`.
    * ``"unroll"``: through all `max_steps` steps of "accelerated" or "gradient", their step size held constant; memory grows with their square root.

    Products with H are forward over reverse, by the derivative of grad E that is linearised once at x.

    Args:
      energy_fn: `(x, theta) -> real scalar`, E, twice differentiable in x, which may be complex or a pytree.
      x0: start, not differentiated; the x of another training step (`params["carried"]`) saves steps.
      theta: pytree; nothing differentiated may come from elsewhere.
      solver: one of `descent.LOWER`: `quasi_newton`, `accelerated`, `anderson` on gradient steps, `accelerated` without momentum, all of `descent`.
      backward: one of `BACKWARD`.
      tolerance: of the residual, and 20 times that, at most 1e-4, of the linear solve; may be traced, as by a schedule. "unroll" takes all steps.
      max_steps: the most steps.
      num_krylov: steps of conjugate gradients, the most.
      step_size: tau, of all but "lbfgs" and of "jfb"; found by Lanczos' method if None.
      num_backward: K.
      num_ritz: products with H that look for its extreme Ritz values at x; 0 for none.

    Returns:
      A `Solved`. Where conjugate gradients fail, as those of an indefinite H do, its derivative is NaN. x is off by up to
      ||grad E|| / lambda_min(H) and the derivative in proportion, so look at `residual` and `smallest`.

    Raises:
      ValueError: for another `solver` or `backward`, counts below 1, a negative `num_ritz`, a step size that is not positive, or "unroll" with a
        solver whose derivative does not converge.

    Reference:
      Samuel & Tappen (2009), Learning optimized MAP estimates in continuously-valued MRF models, https://doi.org/10.1109/CVPR.2009.5206774;
      jfb: Shaban et al. (2019), Truncated back-propagation for bilevel optimization, https://arxiv.org/abs/1810.10667
    """
    _check(backward, BACKWARD, "backward", max_steps=max_steps, num_krylov=num_krylov, num_backward=num_backward)
    _check(solver, descent.LOWER, "solver")
    checks.count(num_ritz, "num_ritz", least=0)
    if step_size is not None:
        checks.positive(step_size, "step_size")
    _check_unrolled(backward, solver in descent.UNROLLED, f"solver {solver!r}, one of {', '.join(descent.UNROLLED)}")
    start, unflat, known = _prepared(x0, theta)

    def energy(theta, v):
        return energy_fn(unflat(v), theta)

    force = jax.grad(energy, 1)
    size = linalg.norm(force(known, jnp.zeros_like(start)))
    size = jnp.where(size > 0, size, 1)

    def make(theta):
        return descent.lower(solver, functools.partial(energy, theta), size, start, step_size)

    def rooted(found):
        bound: Any = jnp.minimum(_LOOSER * tolerance, _LOOSEST)
        return root(force, theta, lambda _: found, symmetric=True, tolerance=bound, num_krylov=num_krylov, restarts=1)

    def further(found):
        tau = descent.longest_step(functools.partial(force, known), found) if step_size is None else step_size
        return _unrolled(_plain(lambda v: v - tau * force(theta, v)), found, num_backward).x

    def residual_of(v):
        return linalg.norm(force(known, v)) / size

    v, steps, residual = _searched(backward, make, theta, known, start, (tolerance, max_steps), (rooted, further, residual_of))
    ritz = curvature(energy_fn, unflat(v), known, num_ritz) if num_ritz else (None, None)
    return Solved(unflat(v), steps, residual, residual <= tolerance, *ritz)


def curvature(energy_fn: Callable, x, theta, num_steps: int = 50, key=None):
    """Smallest and largest Ritz value of the Hessian of `energy_fn(x, theta)` for x, by `lanczos.extreme_ritz_values`: constants for autodiff."""
    x, theta = jax.tree.map(lax.stop_gradient, (x, theta))
    hessian = jax.linearize(linalg.gradient(lambda x: energy_fn(x, theta)), x)[1]
    return jax.tree.map(lax.stop_gradient, lanczos.extreme_ritz_values(hessian, x, num_steps, key))


def told(solved: Solved) -> dict[str, jax.Array]:
    """What a `Reconstruction` tells of its lower problem, for `trouble`: real scalars whose means over a batch say something.

    Steps, residual, converged; where Ritz values were asked for, the smallest as a share of the largest, and whether it is negative.
    """
    dtype = solved.residual.dtype
    metrics = {"lower_steps": solved.num_steps.astype(dtype), "lower_residual": solved.residual, "lower_converged": solved.converged.astype(dtype)}
    if solved.smallest is None or solved.largest is None:
        return metrics
    share = solved.smallest / jnp.where(solved.largest > 0, solved.largest, 1)
    return metrics | {"lower_ritz_ratio": share, "lower_indefinite": (solved.smallest < 0).astype(dtype)}


def trouble(metrics, least_converged: float = 1.0, least_ritz: float = 1e-8) -> str:
    """What is wrong with the lower problems of a training or a reconstruction, with the numbers; empty where nothing is. On the host.

    Args:
      metrics: of a loss or of a reconstruction, known; those of `told`, and `lower_unbounded`, are read, as far as they are there.
      least_converged: share of the batch that must have reached its tolerance.
      least_ritz: smallest share of the least Ritz value in the largest; the gradient's relative error is up to the residual over this share.
    """
    usual = {"converged": 1, "residual": jnp.nan, "steps": jnp.nan, "ritz_ratio": jnp.inf, "indefinite": 0, "unbounded": 0}
    share, residual, steps, ratio, indefinite, unbounded = (float(metrics.get(f"lower_{name}", value)) for name, value in usual.items())
    if not unbounded <= 0:
        found = f"the regulariser went to minus infinity in a share of {unbounded:.3g}"
        return f"{found}; a lower strength is needed, or a regulariser that is bounded below"
    if not share >= least_converged - 1e-6:  # a mean of 41 ones in single precision is below 1
        found = f"the lower problem reached its tolerance in a share of {share:.3g}, with a residual of {residual:.3g}"
        found += f" after {steps:.4g} steps" * (steps >= 0)
        return f"{found}; {least_converged:.3g} is needed, by more steps or a looser tolerance"
    if indefinite > 0 or not ratio >= least_ritz:
        kind = "not positive definite" if indefinite > 0 else "nearly singular"
        found = f"its least Ritz value is {ratio:.3g} of the largest, negative in a share of {indefinite:.3g}"
        return f"the Hessian of the lower problem is {kind}: {found}; {least_ritz:.3g} is needed for gradients to be trusted"
    return ""


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
    bound: Any = jnp.maximum(tolerance, 10 * jnp.finfo(linalg.real_dtype(like)).eps)

    def krylov(matvec, b):
        if symmetric:
            found, left = linalg.conjugate_gradient_told(matvec, b, num_steps=num_krylov * restarts, tolerance=bound, early=True)
        else:
            found = gmres(matvec, b, tol=bound, restart=min(num_krylov, size), maxiter=restarts, solve_method="incremental")[0]
            left = linalg.norm(matvec(found) - b)
        return jnp.where(left <= _UNSOLVED * linalg.norm(b), found, jnp.nan)

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


def _check(chosen, allowed, what, **counts):
    if chosen not in allowed:
        raise ValueError(f"{what} is {chosen!r}, one of {', '.join(allowed)} is needed")
    for name, value in counts.items():
        checks.count(value, name)


def _check_unrolled(backward, fit, found):
    """Mixing divides by differences that vanish: the iterates converge and their derivatives do not (measured: 40 times the gradient off)."""
    if backward == "unroll" and not fit:
        raise ValueError(f'backward is "unroll" with {found} is needed: derivatives of quasi-Newton and mixed iterates do not converge')


def _prepared(x0, theta):
    """Of x0 the vector and the way back, and theta, both constants for autodiff."""
    x0 = jax.tree.map(linalg.inexact, x0)
    return lax.stop_gradient(linalg.flat(x0)), linalg.flattening(x0)[1], jax.tree.map(lax.stop_gradient, theta)


def _searched(backward, make, theta, known, start, options, ways):
    """`(x, steps, residual)`, x differentiated as `backward` says; `ways` are `rooted`, `further`: x -> x, and `residual_of`.

    Where x is the last iterate its residual is what the last step told: another gradient would be 2 % of a solve.
    """
    tolerance, max_steps = options
    rooted, further, residual_of = ways
    if backward == "unroll":
        v, steps = _unrolled(make(theta), start, max_steps).x, jnp.asarray(max_steps)
    else:
        state, outcome = iterate_until(make(known), start, tolerance, max_steps)
        if backward == "implicit":
            return rooted(state.x), outcome.num_steps, outcome.change
        v, steps = further(state.x), outcome.num_steps
    return v, steps, residual_of(lax.stop_gradient(v))


def _plain(step_fn):
    """x_{k+1} = T(x_k), which tells nothing."""
    return Solver(_Point, lambda state: (_Point(step_fn(state.x)), Info(jnp.ones(()), jnp.zeros(()))))
