"""Fast iterative shrinkage-thresholding."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import checks, linalg
from medjax.solvers.majorised import majorised
from medjax.solvers.step_ratio import step_ratio
from medjax.typing import Info, Solver


class FistaState(NamedTuple):
    """x: iterate; z: extrapolated point; t: momentum; step_size: tau; previous, grad: the last point z and the gradient there."""

    x: Any
    z: Any
    t: Array
    step_size: Array
    previous: Any
    grad: Any


def fista(grad_fn: Callable, prox_fn: Callable, step_size, restart: bool = False, value_fn: Callable | None = None) -> Solver:
    r"""FISTA for min_x f(x) + g(x), f smooth and g proximable.

    .. math::
        x_{k+1} = \mathrm{prox}_{\tau g}(z_k - \tau \nabla f(z_k)), \quad
        z_{k+1} = x_{k+1} + \tfrac{t_k - 1}{t_{k+1}} (x_{k+1} - x_k), \quad t_{k+1} = \tfrac{1 + \sqrt{1 + 4 t_k^2}}{2}

    Args:
      grad_fn: gradient of f, an array or pytree like x.
      prox_fn: `(v, tau) -> argmin_x g(x) + ||x - v||^2 / (2 tau)`.
      step_size: tau, 0 < tau <= 1 / L, with L the Lipschitz constant of grad f; with `value_fn` the first trial, any number.
      restart: begin anew with t = 1 and z = x where the momentum points uphill, <z_k - x_{k+1}, x_{k+1} - x_k> > 0: linear
        convergence on strongly convex problems without knowing how strong.
      value_fn: f; where given, tau is found by backtracking: a step that fails the test of `majorised` is not taken, halves tau and counts as a step.

    Returns:
      A `Solver`. Its `change` is that of (x, z): x alone may rest for a step before the solution.

    Raises:
      ValueError: for a known step size that is not positive.

    Reference:
      Beck & Teboulle (2009), eq. 4.1-4.3 and FISTA with backtracking, https://doi.org/10.1137/080716542; restart: O'Donoghue & Candes (2015),
      gradient scheme of section 3.2, https://doi.org/10.1007/s10208-013-9150-3
    """

    checks.positive(step_size, "step_size")

    def init(x0):
        dtype = linalg.real_dtype(x0)
        return FistaState(x0, x0, jnp.ones((), dtype), jnp.asarray(step_size, dtype), x0, jax.tree.map(jnp.zeros_like, x0))

    def step(state):
        grad, tau = grad_fn(state.z), state.step_size
        x = prox_fn(jax.tree.map(lambda z, g: z - tau * g, state.z, grad), tau)
        t = (1 + jnp.sqrt(1 + 4 * state.t**2)) / 2  # eq. 4.2
        moved = jax.tree.map(jnp.subtract, x, state.x)
        momentum = (state.t - 1) / t
        if restart:
            uphill = linalg.vdot(jax.tree.map(jnp.subtract, state.z, x), moved) > 0
            t, momentum = jnp.where(uphill, 1, t), jnp.where(uphill, 0, momentum)
        z = jax.tree.map(lambda a, b: a + momentum.astype(a.dtype) * b, x, moved)  # eq. 4.3
        new, change = FistaState(x, z, t, tau, state.z, grad), linalg.change((x, z), (state.x, state.z))
        if value_fn is None:
            return new, Info(change, step_ratio(tau, state.z, state.previous, grad, state.grad))
        taken = majorised(value_fn, state.z, x, grad, tau)
        new = jax.tree.map(lambda a, b: jnp.where(taken, a, b), new, state._replace(step_size=tau / 2))
        return new, Info(change, jnp.zeros_like(tau))

    return Solver(init, step)
