"""Simultaneous algebraic reconstruction, view by view."""

import jax.numpy as jnp

from medjax.solvers.os_sart import os_sart
from medjax.typing import Solver


def sart(A, y, relaxation=1.0, nonnegative: bool = False) -> Solver:
    r"""SART: `os_sart` with a subset for each view.

    .. math:: x \leftarrow x + \omega \, C_v A_v^T R_v \, (y_v - A_v x), \quad v = v_1, v_2, \ldots

    A step is one pass over all views, in the order of `view_subsets`.

    Args:
      A, y, relaxation, nonnegative: as in `os_sart`.

    Returns:
      A `Solver`.

    Raises:
      ValueError: as `os_sart`.

    Reference:
      Andersen & Kak (1984), Simultaneous algebraic reconstruction technique (SART), https://doi.org/10.1016/0161-7346(84)90008-7
    """
    return os_sart(A, y, jnp.shape(y)[0], relaxation, nonnegative)
