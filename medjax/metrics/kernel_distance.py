"""Maximum mean discrepancy of two sets of features; on reports "kernel distance over FEATURES"."""

import jax
import numpy as np

from medjax import checks
from medjax.metrics.nearest import blocks, sets


def kernel_distance(key, generated, reference, num_subsets: int = 10) -> tuple[float, float]:
    r"""Unbiased squared maximum mean discrepancy with a cubic kernel, as the mean over subsets that share no member.

    .. math:: k(x, y) = (x \cdot y / d + 1)^3

    The expectation is that of endless samples for every n, and 0 for two sets of one law, so values are negative by chance; only the error shrinks
    with n. Subsets cost power: `squared_discrepancy` of all members has a smaller error, but does not tell it.

    Args:
      key: which draws the subsets.
      generated: `[n, d]` real.
      reference: `[m, d]` real.
      num_subsets: S; each has floor(n / S) and floor(m / S) members, of which 2 are needed.

    Returns:
      `(value, standard_error)`, the latter the standard deviation over subsets by :math:`\sqrt S`, in the unit of the kernel.

    Raises:
      ValueError: where d differs, features are not finite or too few, or for fewer than 2 subsets.

    Reference:
      Binkowski et al. (2018), https://arxiv.org/abs/1801.01401, for Inception's features. Their code draws each of 50 subsets of 1,000 from all:
      where n is small those share members, and their spread by the root of their number is less than the error of their mean; here they are apart.
    """
    checks.count(num_subsets, "num_subsets", 2)
    generated, reference = sets(("generated features", generated), ("reference features", reference), least=2 * num_subsets)
    parts = []
    for i, x in enumerate((generated, reference)):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, i), len(x)))
        parts.append(x[order[: len(x) // num_subsets * num_subsets]].reshape(num_subsets, -1, x.shape[1]))
    values = [_discrepancy(x, y) for x, y in zip(*parts, strict=True)]
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(num_subsets))


def squared_discrepancy(generated, reference) -> float:
    r"""Unbiased squared maximum mean discrepancy with the kernel of `kernel_distance`, of all members.

    .. math:: \frac{\sum_{i \ne j} k(x_i, x_j)}{n (n - 1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{m (m - 1)} - \frac{2 \sum_{ij} k(x_i, y_j)}{n m}

    Args:
      generated: `[n, d]` real, n >= 2.
      reference: `[m, d]` real, m >= 2.

    Returns:
      The estimate, negative where chance makes it so. Equal arrays are no two samples of one law, and give less than 0.

    Raises:
      ValueError: where d differs, features are not finite or too few.

    Reference:
      Gretton et al. (2012), A kernel two-sample test, lemma 6, https://jmlr.org/papers/v13/gretton12a.html
    """
    return _discrepancy(*sets(("generated features", generated), ("reference features", reference), least=2))


def _discrepancy(x, y):
    """`squared_discrepancy` of checked sets."""
    x, y = (each.astype(np.float64) for each in (x, y))
    within = [(_kernel_sum(z, z) - np.sum((np.sum(z * z, 1) / z.shape[1] + 1) ** 3)) / (len(z) * (len(z) - 1)) for z in (x, y)]
    return float(sum(within) - 2 * _kernel_sum(x, y) / (len(x) * len(y)))


def _kernel_sum(x, y):
    return sum(np.sum((x[rows] @ y[columns].T / x.shape[1] + 1) ** 3) for rows in blocks(x) for columns in blocks(y))
