"""Expectation maximisation for Poisson data by ordered subsets of the views."""

import jax.numpy as jnp

from medjax import checks, linalg
from medjax.solvers.em_factor import em_factor
from medjax.solvers.em_start import em_start
from medjax.solvers.mlem import MlemState
from medjax.solvers.over_subsets import over_subsets
from medjax.typing import Info, Solver


def osem(A, y, num_subsets: int, background=0.0) -> Solver:
    r"""OSEM: the step of `mlem` by subsets of the views, one after the other.

    .. math:: x \leftarrow \frac{x}{A_j^T 1} \, A_j^T \frac{y_j}{A_j x + b_j}, \quad j = j_1, j_2, \ldots, j_S

    A step is one pass over all S subsets, at first about as far as S steps of `mlem`. Noisy data end in a cycle near the maximum.

    Args:
      A, y, num_subsets: as in `os_sart`; y counts >= 0.
      background: b >= 0, a scalar or like y.

    Returns:
      A `Solver`, with the init of `mlem`.

    Raises:
      ValueError: for an operator without views, a number of subsets out of range, or where y or background is known and negative.

    Reference:
      Hudson & Larkin (1994), Accelerated image reconstruction using ordered subsets of projection data, https://doi.org/10.1109/42.363108
    """
    y = linalg.inexact(checks.nonnegative(y, "y, the counts,"))
    background = jnp.broadcast_to(jnp.asarray(checks.nonnegative(background, "background"), y.dtype), y.shape)

    def visit(part, views, keep, x):
        return x * em_factor(part, keep * y[views], background[views], part.adjoint(keep), x)

    one_pass = over_subsets(A, y, num_subsets, visit)

    def init(x0):
        return MlemState(em_start(y, background, A.adjoint(jnp.ones_like(y)), x0))

    def step(state):
        x = one_pass(state.x)
        change = linalg.change(x, state.x)
        return MlemState(x), Info(change, jnp.zeros_like(change))

    return Solver(init, step)
