"""How often the truth lies in the interval that the samples promise."""

import jax.numpy as jnp
from scipy.stats import t as student

from medjax import checks


def coverage(samples, reference, level: float = 0.9):
    r"""Share of pixels whose truth lies in the central prediction interval of few posterior samples.

    .. math::
        | r - \bar x | \le t_{K-1, (1 + level) / 2} \; s \sqrt{1 + 1 / K}

    with mean and standard deviation s of K samples. Where truth and samples are draws of one Gaussian law the share is `level` for
    every K; an interval between sample quantiles would cover less with few samples.

    Args:
      samples: `[K, ...]` real, K >= 2.
      reference: `[...]` real, the truth.
      level: nominal coverage.

    Returns:
      Scalar in [0, 1]; NaN where a sample is.

    Raises:
      ValueError: for fewer than 2 samples, a truth of another shape, or a level outside [0, 1].

    Reference:
      Student's prediction interval of one further draw of a normal law.
    """
    num = samples.shape[0]
    if num < 2:
        raise ValueError(f"coverage needs at least 2 samples, got {num}")
    if jnp.shape(reference) != samples.shape[1:]:
        raise ValueError(f"samples are {list(samples.shape)}, their truth must be {list(samples.shape[1:])}, got {list(jnp.shape(reference))}")
    checks.fraction(level, "level")
    half = float(student.ppf((1 + level) / 2, num - 1)) * jnp.std(samples, 0, ddof=1) * jnp.sqrt(1 + 1 / num)
    share = jnp.mean(jnp.abs(reference - jnp.mean(samples, 0)) <= half)
    return jnp.where(jnp.any(jnp.isnan(samples)), jnp.nan, share)
