"""Limited-memory quasi-Newton method."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from medjax import linalg
from medjax.typing import Info, Solver


class LbfgsState(NamedTuple):
    """x: iterate; memory: the optimiser's, with the last differences of points and of gradients, the value and the gradient at x."""

    x: Any
    memory: Any


def lbfgs(value_fn: Callable, memory: int = 10) -> Solver:
    r"""L-BFGS with a line search for the strong Wolfe conditions, for a smooth f of real or complex x.

    .. math:: x_{k+1} = x_k - \tau_k H_k \nabla f(x_k)

    with H the inverse Hessian that the last differences of gradients tell. Complex numbers count as pairs of reals.

    Args:
      value_fn: f, `x -> real scalar`.
      memory: how many differences are held, two arrays like x each.

    Returns:
      A `Solver`. Its line search is a loop of its own, through which only forward mode goes: `backward="unroll"` is not to be had.

    Reference:
      Nocedal & Wright (2006), Numerical Optimization, algorithms 7.4, 7.5, 3.5 and 3.6; optax.lbfgs
    """
    optimiser = optax.lbfgs(memory_size=memory)

    def init(x0):
        return LbfgsState(x0, optimiser.init(linalg.flat(x0)))

    def step(state):
        vector, unflat = linalg.flat(state.x), linalg.flattening(state.x)[1]

        def value_flat(v):
            return value_fn(unflat(v))

        value, grad = optax.value_and_grad_from_state(value_flat)(vector, state=state.memory)
        update, following = optimiser.update(grad, state.memory, vector, value=value, grad=grad, value_fn=value_flat)
        moved = optax.apply_updates(vector, update)
        change = linalg.change(moved, vector)
        return LbfgsState(unflat(moved), following), Info(change, jnp.zeros_like(change))

    return Solver(init, step, linalg.gradient(value_fn))
