"""How many generated images look real, and how much of what is real is generated: by balls around features."""

from typing import NamedTuple

import numpy as np

from medjax.metrics.nearest import blocks, nearest, sets, squared_distances

_TIE = 1e-8
"""Share of a squared radius within which a squared distance counts as equal to it."""


class PrecisionRecall(NamedTuple):
    """precision: share of generated images in the region of the reference; recall: share of the reference in that of the generated."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """density: balls of the reference that hold a generated image, mean over these by k, 1 for one law; coverage: share of balls that hold one."""

    density: float
    coverage: float


def precision_recall(generated, reference, k: int = 3) -> PrecisionRecall:
    r"""Improved precision and recall.

    .. math:: f(\phi, \Phi) = [\exists \phi' \in \Phi : \|\phi - \phi'\| \le \|\phi' - NN_k(\phi', \Phi)\|], \quad
        precision = \frac1n \sum_g f(\phi_g, \Phi_r), \quad recall = \frac1m \sum_r f(\phi_r, \Phi_g)

    with NN_k the k-th nearest other member. Two sets of one law do not reach 1, and where they end depends on n, m, k and d: balls shrink as sets
    grow, and one outlier of the reference makes a ball that lets much pass. Compare only values of equal n, m and k, beside those of two halves of
    the reference.

    Args:
      generated: `[n, d]` real, n > k.
      reference: `[m, d]` real, m > k.
      k: neighbours.

    Returns:
      `PrecisionRecall`.

    Raises:
      ValueError: where d differs, features are not finite, or a set has no k other members.

    Reference:
      Kynkaanniemi et al. (2019), https://arxiv.org/abs/1904.06991; closed balls about the k-th other member, as in their precision_recall.py.
    """
    generated, reference, radii = _with_radii(generated, reference, k)
    own = _squared_radii(generated, k)
    within, reached = np.zeros(len(generated), bool), np.zeros(len(reference), bool)
    for rows in blocks(generated):
        for columns in blocks(reference):
            squares = squared_distances(generated[rows], reference[columns])
            within[rows] |= np.any(squares <= radii[columns] * (1 + _TIE), 1)
            reached[columns] |= np.any(squares <= own[rows, None] * (1 + _TIE), 0)
    return PrecisionRecall(float(within.mean()), float(reached.mean()))


def density_coverage(generated, reference, k: int = 5) -> DensityCoverage:
    r"""Density and coverage, which outliers among the generated images do not spoil.

    .. math:: density = \frac{1}{k n} \sum_{ij} [y_j \in B(x_i, r_i)], \quad coverage = \frac1m \sum_i [\exists j: y_j \in B(x_i, r_i)]

    with open balls of radius r_i, the distance of x_i of the reference to its k-th nearest other one. For one law the expectations are 1 and
    :math:`1 - \frac{(m-1) \cdots (m-k)}{(n+m-1) \cdots (n+m-k)}`, about :math:`1 - 2^{-k}` for n = m, whatever the law. Coverage grows with
    n / m: compare values of equal n, m and k. A member that the reference holds k + 1 times has an empty ball.

    Args:
      generated: `[n, d]` real: the y.
      reference: `[m, d]` real, m > k: the x.
      k: neighbours.

    Returns:
      `DensityCoverage`.

    Raises:
      ValueError: where d differs, features are not finite, or the reference has no k other members.

    Reference:
      Naeem et al. (2020), section 3, https://arxiv.org/abs/2002.09797; balls are open as in the authors' prdc.py.
    """
    generated, reference, radii = _with_radii(generated, reference, k)
    inside, covered = 0, np.zeros(len(reference), bool)
    for rows in blocks(generated):
        for columns in blocks(reference):
            member = squared_distances(generated[rows], reference[columns]) < radii[columns] * (1 - _TIE)
            inside += np.sum(member)
            covered[columns] |= np.any(member, 0)
    return DensityCoverage(float(inside / (k * len(generated))), float(covered.mean()))


def _with_radii(generated, reference, k):
    """Both sets about the mean of the reference, and the squared radii of the latter."""
    generated, reference = sets(("generated features", generated), ("reference features", reference))
    centre = reference.mean(0, dtype=np.float64)
    return generated - centre, reference - centre, _squared_radii(reference, k)


def _squared_radii(x, k):
    """Squared distance of each member to its k-th nearest other one."""
    return nearest(x, x, k, same=True)[0][:, -1] ** 2
