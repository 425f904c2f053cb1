"""Regularised least squares by FISTA."""

from medjax import linalg
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
    weight = 1 / sigma_y**2
    gram, back = linalg.gram(A, weight), A.adjoint(weight * y)
    if step_size is None:
        step_size = 1 / (1.02 * linalg.operator_norm(linalg.Weighted(A, 1 / sigma_y), back, 20)) ** 2  # the estimate is a lower bound
    return fista(lambda x: gram(x) - back, regulariser.prox, step_size, restart)
