"""One driver for all solvers."""

import jax

from medjax.typing import Solver


def iterate(solver: Solver, x0, num_steps: int):
    """Run `num_steps` steps from `x0`; memory does not grow with the number of steps.

    Args:
      solver: a `Solver`.
      x0: what `solver.init` takes.
      num_steps: number of steps, static or traced.

    Returns:
      The last state; its field `x` is the estimate.
    """
    return jax.lax.fori_loop(0, num_steps, lambda _, state: solver.step(state)[0], solver.init(x0))


def iterate_until(solver: Solver, x0, tolerance, max_steps: int):
    """Run until `info.change <= tolerance` or `max_steps` steps are done, in one `while_loop`.

    Args:
      solver: a `Solver` whose info has a field `change`, a scalar.
      x0: what `solver.init` takes.
      tolerance: bound on `info.change`.
      max_steps: the most steps taken.

    Returns:
      `(state, num_steps)`: the last state and how many steps were taken.
    """
    state = solver.init(x0)
    _, info = jax.eval_shape(solver.step, state)

    def unfinished(carry):
        _, change, count = carry
        return (count < max_steps) & (change > tolerance)

    def body(carry):
        state, info = solver.step(carry[0])
        return state, info.change, carry[2] + 1

    start = (state, jax.numpy.full(info.change.shape, jax.numpy.inf, info.change.dtype), 0)
    state, _, count = jax.lax.while_loop(unfinished, body, start)
    return state, count
