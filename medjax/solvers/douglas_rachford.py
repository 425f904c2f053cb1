"""Douglas-Rachford splitting."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medjax import checks, linalg
from medjax.solvers.checked_relaxation import checked_relaxation
from medjax.typing import Info, Solver


class DouglasRachfordState(NamedTuple):
    """x: iterate, prox_g of the last w; w: the sequence that the method contracts."""

    x: Any
    w: Any


def douglas_rachford(prox_f: Callable, prox_g: Callable, step_size, relaxation=1.0) -> Solver:
    r"""Douglas-Rachford splitting for min_x f(x) + g(x), both proximable.

    .. math:: x_{k+1} = \mathrm{prox}_{\tau g}(w_k), \quad w_{k+1} = w_k + \alpha \left( \mathrm{prox}_{\tau f}(2 x_{k+1} - w_k) - x_{k+1} \right)

    It converges for every tau > 0, and neither the distance of w to a fixed point nor :math:`\|w_{k+1} - w_k\|` ever rises; the square of the latter
    falls as 1 / k.

    Args:
      prox_f: `(v, tau) -> argmin_x f(x) + ||x - v||^2 / (2 tau)`.
      prox_g: likewise for g; x lies in its domain at every step.
      step_size: tau > 0, scalar.
      relaxation: alpha in (0, 2).

    Returns:
      A `Solver` that starts from w = x0. Its `change` is that of w.

    Raises:
      ValueError: for a known step size or relaxation out of range.

    Reference:
      Eckstein & Bertsekas (1992), On the Douglas-Rachford splitting method, https://doi.org/10.1007/BF01581204
    """
    checks.positive(step_size, "step_size")
    checked_relaxation(relaxation)

    def step(state):
        x = prox_g(state.w, step_size)
        v = prox_f(jax.tree.map(lambda a, b: 2 * a - b, x, state.w), step_size)
        w = jax.tree.map(lambda a, b, c: a + relaxation * (b - c), state.w, v, x)
        change = linalg.change(w, state.w)
        return DouglasRachfordState(x, w), Info(change, jnp.zeros_like(change))

    return Solver(lambda x0: DouglasRachfordState(x0, x0), step)
