"""Equally spaced view angles."""

import numpy as np


def uniform_views(num_views: int, start: float = 0.0, stop: float = 180.0):
    r"""`num_views` angles from `start` up to but not including `stop`, :math:`\theta_i = \theta_0 + i (\theta_1 - \theta_0) / n`.

    Args:
      num_views: n.
      start: first angle [degrees].
      stop: end of the arc [degrees].

    Returns:
      `[num_views]` [rad], a NumPy array: known values also under `jit`.

    Raises:
      ValueError: for no views or no whole number of them, or an arc that is not positive and finite.
    """
    if num_views < 1 or num_views % 1:
        raise ValueError(f"a scan needs at least one view, and whole ones, got num_views {num_views}")
    if not -np.inf < start < stop < np.inf:
        raise ValueError(f"the arc of views needs finite start < stop [degrees], got {start} and {stop}")
    return np.deg2rad(start + (stop - start) * np.arange(num_views) / num_views)
