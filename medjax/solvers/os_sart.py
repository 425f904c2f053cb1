"""Simultaneous algebraic reconstruction by ordered subsets of the views."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import linalg
from medjax.solvers.checked_relaxation import checked_relaxation
from medjax.solvers.inverse_sums import inverse_sums
from medjax.solvers.over_subsets import over_subsets
from medjax.typing import Info, Solver


class OsSartState(NamedTuple):
    """x: iterate."""

    x: Array


def os_sart(A, y, num_subsets: int, relaxation=1.0, nonnegative: bool = False) -> Solver:
    r"""OS-SART: the step of `sirt` by subsets of the views, one after the other.

    .. math:: x \leftarrow x + \omega \, C_j A_j^T R_j \, (y_j - A_j x), \quad j = j_1, j_2, \ldots, j_S

    A step is one pass over all S subsets, as dear as one to one and a half of `sirt` (column sums are found anew at each visit, not held for all
    subsets), and at first about S times as far. Data that contradict each other, such as noisy ones, end in a cycle, whose last point x is some way
    from the least-squares solution, the nearer the smaller omega and S.

    Args:
      A: operator with a method `views` that takes traced indices: `parallel_beam` and `fan_beam` with model="joseph", `cone_beam`, `pet` of those.
        The Fourier model has none: its `sirt` takes S = 10 steps in the time of one pass with Joseph's.
      y: `[num_views, ...]` data, in the order of the angles.
      num_subsets: S, from 1, which is `sirt`, to the number of views, which is `sart`; the subsets are those of `view_subsets`.
      relaxation: omega, a scalar.
      nonnegative: projects onto x >= 0 after each subset.

    Returns:
      A `Solver`; `Info.step_ratio` is omega / 2.

    Raises:
      ValueError: for an operator without views, a number of subsets out of range, or where relaxation is known and not between 0 and 2.

    Reference:
      Jiang & Wang (2003), Convergence of the simultaneous algebraic reconstruction technique, https://doi.org/10.1109/TIP.2003.815295; Wang & Jiang
      (2004), Ordered-subset simultaneous algebraic reconstruction techniques (OS-SART), Journal of X-Ray Science and Technology 12, 169-177.
    """
    checked_relaxation(relaxation)
    y = linalg.inexact(y)
    like = jax.eval_shape(A.adjoint, y)
    rows = inverse_sums(A(jnp.ones(like.shape, like.dtype)))
    size = jnp.asarray(relaxation, like.dtype)

    def visit(part, views, keep, x):
        back = part.adjoint(keep * rows[views] * (y[views] - part(x)))
        x = x + size * inverse_sums(part.adjoint(keep)) * back
        return jnp.maximum(x, 0) if nonnegative else x

    one_pass = over_subsets(A, y, num_subsets, visit)

    def step(state):
        x = one_pass(state.x)
        return OsSartState(x), Info(linalg.change(x, state.x), size / 2)

    return Solver(OsSartState, step)
