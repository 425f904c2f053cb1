"""One driver for all solvers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax.typing import Solver


class Outcome(NamedTuple):
    """How a run of `iterate_until` ended; scalars, `[batch]` under `vmap`.

    num_steps: steps taken.
    change: `info.change` of the last step.
    step_ratio: the largest `info.step_ratio` of all steps; above 1 a step size was beyond its bound.
    converged: change is at most the tolerance.
    diverged: a step gave numbers that are not finite; it was not taken, the state is the one before it.
    history: what `record` returned, `[max_steps, ...]`, rows after the last step are NaN (0 for integers); None without `record`.
    told: what a learned method tells of its lower problem, for `implicit.trouble`; None of a solver.
    """

    num_steps: Array
    change: Array
    step_ratio: Array
    converged: Array
    diverged: Array
    history: Any
    told: Any = None


def iterate(solver: Solver, x0, num_steps: int):
    """Run `num_steps` steps from `x0`; memory does not grow with the number of steps, but under reverse-mode differentiation.

    Args:
      solver: a `Solver`.
      x0: what `solver.init` takes.
      num_steps: number of steps, static or traced; static for reverse-mode differentiation.

    Returns:
      The last state; its field `x` is the estimate.
    """
    return jax.lax.fori_loop(0, num_steps, lambda _, state: solver.step(state)[0], solver.init(x0))


def iterate_until(solver: Solver, x0, tolerance, max_steps: int, record: Callable | None = None):
    """Run until `info.change <= tolerance` or `max_steps` steps are done, in one `while_loop`.

    A step whose change, or whose record, is not finite is not taken: the run ends with the state before it and says `diverged`.

    Args:
      solver: a `Solver` with `Info` of its steps.
      x0: what `solver.init` takes.
      tolerance: bound on `info.change`; below 0 all steps are taken.
      max_steps: the most steps taken, static.
      record: `(state, info) -> pytree of arrays` of each step, such as the objective, kept as the history.

    Returns:
      `(state, outcome)`: the last state and an `Outcome`.
    """
    state = solver.init(x0)
    _, info = jax.eval_shape(solver.step, state)
    rows = jax.eval_shape(lambda s: record(*solver.step(s)), state) if record else None
    history = jax.tree.map(lambda r: jnp.full((max_steps, *r.shape), jnp.nan if jnp.issubdtype(r.dtype, jnp.inexact) else 0, r.dtype), rows)
    zero = jnp.zeros((), int)
    start = Outcome(zero, jnp.full((), jnp.inf, info.change.dtype), jnp.zeros((), info.step_ratio.dtype), zero > 0, zero > 0, history)

    def unfinished(carry):
        _, outcome = carry
        return (outcome.num_steps < max_steps) & ~outcome.converged & ~outcome.diverged

    def body(carry):
        state, outcome = carry
        following, info = solver.step(state)
        row = record(following, info) if record else None
        finite = jnp.isfinite(info.change) & _all_finite(row)
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), following, state)
        history = jax.tree.map(lambda h, r: h.at[outcome.num_steps].set(r), outcome.history, row)
        change, ratio = jnp.where(finite, info.change, outcome.change), jnp.fmax(outcome.step_ratio, info.step_ratio)
        return state, Outcome(outcome.num_steps + finite, change, ratio, finite & (info.change <= tolerance), ~finite, history)

    return jax.lax.while_loop(unfinished, body, (state, start))


def _all_finite(tree):
    """Whether all numbers of a pytree are."""
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)], bool))
