"""The data term of Gaussian noise, in the space of data."""

from medjax import checks
from medjax.functionals.squared_l2 import squared_l2
from medjax.typing import Functional


def gaussian_data(y, sigma_y=1.0) -> Functional:
    r"""Minus the log-likelihood of Gaussian noise, up to a constant.

    .. math:: \tfrac12 \sum_i \left| \frac{z_i - y_i}{\sigma_i} \right|^2, \quad
        \mathrm{prox}_\tau(v) = \frac{v + \tau w y}{1 + \tau w}, \; w = \sigma^{-2}

    Args:
      y: data.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured, and
        then y may be anything.

    Returns:
      A `Functional` of z, like y; tau may be like y, too.

    Raises:
      ValueError: for a sigma_y that is not positive.
    """
    checks.positive(sigma_y, "sigma_y of gaussian_data", finite=False)
    return squared_l2(1 / sigma_y**2, y)
