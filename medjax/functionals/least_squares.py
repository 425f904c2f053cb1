"""The data term of Gaussian noise behind an operator."""

from medjax import checks
from medjax.functionals.tikhonov import tikhonov
from medjax.typing import Functional, Operator


def least_squares(A: Operator, y, sigma_y=1.0, tolerance=1e-6, max_steps: int = 200) -> Functional:
    r"""Weighted least squares in the image, minus the log-likelihood of Gaussian noise.

    .. math:: \tfrac12 \left\| \frac{A x - y}{\sigma_y} \right\|^2, \quad
        \mathrm{prox}_\tau(v) = v + d, \; (I + \tau A^H W A) d = \tau A^H W (y - A v), \; W = \sigma_y^{-2}

    The prox is solved by conjugate gradients and differentiated as the solution of its system; the gradient of the value is
    `linalg.gradient(value)`.

    Args:
      A: operator; by its `normal` where it has one and sigma_y is a scalar.
      y: data.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured, and
        then y may be anything.
      tolerance: relative bound on the residual of the system for d.
      max_steps: the most steps of the prox.

    Returns:
      A `Functional` of real or complex x.

    Raises:
      ValueError: for a sigma_y that is not positive, a tolerance below 0 or NaN, no steps.
    """
    checks.positive(sigma_y, "sigma_y of least_squares", finite=False)
    checks.nonnegative(tolerance, "tolerance of least_squares")
    checks.positive(max_steps, "max_steps of least_squares")
    return tikhonov(A, 1 / sigma_y**2, y, tolerance, max_steps)
