"""Fast iterative shrinkage-thresholding."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import linalg
from medjax.solvers.step_ratio import step_ratio
from medjax.typing import Info, Solver


class FistaState(NamedTuple):
    """x: iterate; z: extrapolated point; t: momentum; previous, grad: the last point z and the gradient there."""

    x: Any
    z: Any
    t: Array
    previous: Any
    grad: Any


def fista(grad_fn: Callable, prox_fn: Callable, step_size, restart: bool = False) -> Solver:
    r"""FISTA for min_x f(x) + g(x), f smooth and g proximable.

    .. math::
        x_{k+1} = \mathrm{prox}_{\tau g}(z_k - \tau \nabla f(z_k)), \quad
        z_{k+1} = x_{k+1} + \tfrac{t_k - 1}{t_{k+1}} (x_{k+1} - x_k), \quad t_{k+1} = \tfrac{1 + \sqrt{1 + 4 t_k^2}}{2}

    Args:
      grad_fn: gradient of f, an array or pytree like x.
      prox_fn: `(v, tau) -> argmin_x g(x) + ||x - v||^2 / (2 tau)`.
      step_size: tau <= 1 / L, with L the Lipschitz constant of grad f.
      restart: begin anew with t = 1 and z = x where the momentum points uphill, <z_k - x_{k+1}, x_{k+1} - x_k> > 0: linear
        convergence on strongly convex problems without knowing how strong.

    Returns:
      A `Solver`.

    Reference:
      Beck & Teboulle (2009), eq. 4.1-4.3, https://doi.org/10.1137/080716542; restart: O'Donoghue & Candes (2015), gradient scheme of section 3.2,
      https://doi.org/10.1007/s10208-013-9150-3
    """

    def init(x0):
        return FistaState(x0, x0, jnp.ones((), linalg.real_dtype(x0)), x0, jax.tree.map(jnp.zeros_like, x0))

    def step(state):
        grad = grad_fn(state.z)
        x = prox_fn(jax.tree.map(lambda z, g: z - step_size * g, state.z, grad), step_size)
        t = (1 + jnp.sqrt(1 + 4 * state.t**2)) / 2  # eq. 4.2
        moved = jax.tree.map(jnp.subtract, x, state.x)
        momentum = (state.t - 1) / t
        if restart:
            uphill = linalg.vdot(jax.tree.map(jnp.subtract, state.z, x), moved) > 0
            t, momentum = jnp.where(uphill, 1, t), jnp.where(uphill, 0, momentum)
        z = jax.tree.map(lambda a, b: a + momentum.astype(a.dtype) * b, x, moved)  # eq. 4.3
        ratio = step_ratio(step_size, state.z, state.previous, grad, state.grad)
        return FistaState(x, z, t, state.z, grad), Info(linalg.change(x, state.x), ratio)

    return Solver(init, step)
