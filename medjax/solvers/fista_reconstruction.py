"""Regularised least squares by FISTA."""

from medjax.solvers.data_term import data_term
from medjax.solvers.fista import fista
from medjax.typing import Functional, Operator, Solver


def fista_reconstruction(A: Operator, y, sigma_y, regulariser: Functional, step_size=None, restart: bool = True) -> Solver:
    r"""Least squares with any regulariser that has a prox, for data of known noise.

    .. math:: \min_x \tfrac12 \left\| \frac{A x - y}{\sigma_y} \right\|^2 + R(x)

    Args:
      A: operator; by its `normal` where it has one and sigma_y is a scalar.
      y: data.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured.
      regulariser: R, with its strength.
      step_size: at most 1 / ||A / sigma_y||^2; from the operator norm if None.
      restart: as in `fista`.

    Returns:
      A `Solver`.

    Reference:
      Beck & Teboulle (2009), https://doi.org/10.1137/080716542
    """
    data = data_term(A, y, sigma_y)
    return fista(data.grad, regulariser.prox, 1 / data.curvature() if step_size is None else step_size, restart)
