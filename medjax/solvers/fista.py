"""Fast iterative shrinkage-thresholding."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import linalg
from medjax.typing import Solver


class FistaState(NamedTuple):
    """x: iterate; z: extrapolated point; t: momentum."""

    x: Array
    z: Array
    t: Array


class FistaInfo(NamedTuple):
    """change: ||x_{k+1} - x_k|| / ||x_{k+1}||."""

    change: Array


def fista(grad_fn: Callable, prox_fn: Callable, step_size) -> Solver:
    r"""FISTA for min_x f(x) + g(x), f smooth and g proximable.

    .. math::
        x_{k+1} = \mathrm{prox}_{\tau g}(z_k - \tau \nabla f(z_k)), \quad
        z_{k+1} = x_{k+1} + \tfrac{t_k - 1}{t_{k+1}} (x_{k+1} - x_k), \quad t_{k+1} = \tfrac{1 + \sqrt{1 + 4 t_k^2}}{2}

    Args:
      grad_fn: gradient of f, an array or pytree like x.
      prox_fn: `(v, tau) -> argmin_x g(x) + ||x - v||^2 / (2 tau)`.
      step_size: tau <= 1 / L, with L the Lipschitz constant of grad f.

    Returns:
      A `Solver`.

    Reference:
      Beck & Teboulle (2009), eq. 4.1-4.3, https://doi.org/10.1137/080716542
    """

    def init(x0):
        return FistaState(x0, x0, jnp.ones((), jnp.zeros(()).dtype))

    def step(state):
        v = jax.tree.map(lambda z, g: z - step_size * g, state.z, grad_fn(state.z))
        x = prox_fn(v, step_size)
        t = (1 + jnp.sqrt(1 + 4 * state.t**2)) / 2  # eq. 4.2
        z = jax.tree.map(lambda a, b: a + ((state.t - 1) / t).astype(a.dtype) * (a - b), x, state.x)  # eq. 4.3
        return FistaState(x, z, t), FistaInfo(_change(x, state.x))

    return Solver(init, step)


def _change(x, previous):
    """||x - previous|| / ||x||."""
    size = linalg.norm(x)
    return linalg.norm(jax.tree.map(jnp.subtract, x, previous)) / jnp.where(size > 0, size, 1)
