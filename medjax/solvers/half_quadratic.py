"""Half-quadratic splitting."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from medjax import checks, linalg
from medjax.typing import Info, Solver


class HalfQuadraticState(NamedTuple):
    """x: iterate; z: its copy."""

    x: Any
    z: Any


def half_quadratic(prox_f: Callable, prox_g: Callable, mu) -> Solver:
    r"""Half-quadratic splitting: f and g in turn, tied by a quadratic penalty.

    .. math:: \min_{x, z} f(x) + g(z) + \tfrac{\mu}{2} \|x - z\|^2: \quad
        z_{k+1} = \mathrm{prox}_{g / \mu}(x_k), \quad x_{k+1} = \mathrm{prox}_{f / \mu}(z_{k+1})

    The penalty is no constraint: the limit minimises :math:`f(x) + \min_z g(z) + \tfrac{\mu}{2} \|x - z\|^2`, f plus the Moreau envelope of g. Only
    as mu grows does it come near the minimiser of f + g, while the method slows down; `admm` and `douglas_rachford` reach it for any penalty.

    Args:
      prox_f: `(v, tau) -> argmin_x f(x) + ||x - v||^2 / (2 tau)`.
      prox_g: likewise for g.
      mu: penalty > 0, scalar; tau is 1 / mu.

    Returns:
      A `Solver`. The distance of x to any minimiser never rises.

    Raises:
      ValueError: for a known mu that is not positive.

    Reference:
      Geman & Yang (1995), Nonlinear image recovery with half-quadratic regularization, https://doi.org/10.1109/83.392335
    """
    checks.positive(mu, "mu")

    def step(state):
        z = prox_g(state.x, 1 / mu)
        x = prox_f(z, 1 / mu)
        change = linalg.change(x, state.x)
        return HalfQuadraticState(x, z), Info(change, jnp.zeros_like(change))

    return Solver(lambda x0: HalfQuadraticState(x0, x0), step)
