"""Proximal gradient descent."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import checks, linalg
from medjax.solvers.majorised import majorised
from medjax.solvers.step_ratio import step_ratio
from medjax.typing import Info, Solver


class ProximalGradientState(NamedTuple):
    """x: iterate; step_size: tau; previous, grad: the point before x and the gradient there."""

    x: Any
    step_size: Array
    previous: Any
    grad: Any


def proximal_gradient(grad_fn: Callable, prox_fn: Callable, step_size, value_fn: Callable | None = None) -> Solver:
    r"""Forward-backward splitting for min_x f(x) + g(x), f smooth and g proximable.

    .. math:: x_{k+1} = \mathrm{prox}_{\tau g}(x_k - \tau \nabla f(x_k))

    Backtracking costs no inner loop: a step that fails the test of `majorised` is not taken, halves tau and counts as a step.

    Args:
      grad_fn: gradient of f, an array or pytree like x.
      prox_fn: `(v, tau) -> argmin_x g(x) + ||x - v||^2 / (2 tau)`.
      step_size: tau > 0, scalar; below 2 / L it converges, up to 1 / L the objective falls as 1 / k, with L the Lipschitz constant of grad f. With
        `value_fn` the first trial, any number.
      value_fn: f; where given, tau is halved until f lies below its quadratic model.

    Returns:
      A `Solver`.

    Raises:
      ValueError: for a known step size that is not positive.

    Reference:
      Beck & Teboulle (2009), theorem 3.1, https://doi.org/10.1137/080716542
    """
    checks.positive(step_size, "step_size")

    def init(x0):
        return ProximalGradientState(x0, jnp.asarray(step_size, linalg.real_dtype(x0)), x0, jax.tree.map(jnp.zeros_like, x0))

    def step(state):
        grad, tau = grad_fn(state.x), state.step_size
        x = prox_fn(jax.tree.map(lambda u, g: u - tau * g, state.x, grad), tau)
        change = linalg.change(x, state.x)
        if value_fn is None:
            ratio = step_ratio(tau, state.x, state.previous, grad, state.grad, 2.0)
            return ProximalGradientState(x, tau, state.x, grad), Info(change, ratio)
        taken = majorised(value_fn, state.x, x, grad, tau)
        x = jax.tree.map(lambda new, old: jnp.where(taken, new, old), x, state.x)
        return ProximalGradientState(x, jnp.where(taken, tau, tau / 2), state.x, grad), Info(change, jnp.zeros_like(tau))

    return Solver(init, step)
