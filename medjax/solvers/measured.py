"""Data where there are any."""

import jax.numpy as jnp

from medjax import checks, linalg


def measured(y, sigma_y):
    """Data and the root of their weights.

    Args:
      y: data, an array.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured, and
        then y may be anything.

    Returns:
      `(y, 1 / sigma_y)`, floating: y with 0 where nothing was measured.

    Raises:
      ValueError: for a known sigma_y that is not positive.
    """
    y = linalg.inexact(y)
    root = 1 / jnp.asarray(checks.positive(sigma_y, "sigma_y", finite=False), linalg.real_dtype(y))
    return jnp.where(root == 0, 0, y), root
