"""Confidence interval of a mean over cases."""

import numpy as np
from scipy.stats import t as student


def confidence_interval(values, level: float = 0.95) -> tuple[float, float]:
    r"""Mean over cases and the half-width of its confidence interval, :math:`t_{n-1} \, s / \sqrt n`.

    Args:
      values: `[n]` one value a case.
      level: confidence.

    Returns:
      `(mean, half_width)`; the half-width is infinite for one case.

    Raises:
      ValueError: without cases.

    Reference:
      Student (1908).
    """
    values = np.asarray(values, float)
    if values.size == 0:
        raise ValueError("a mean needs at least one case, got none")
    if values.size == 1:
        return float(values[0]), float("inf")
    half = student.ppf((1 + level) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size)
    return float(values.mean()), float(half)
