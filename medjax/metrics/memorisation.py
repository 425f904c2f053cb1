"""Whether generated images are copies of training images, judged by how near unseen images lie to them."""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm as normal
from scipy.stats import rankdata

from medjax import checks
from medjax.metrics.nearest import nearest, sets


class Memorisation(NamedTuple):
    """What `memorisation` finds of n generated and m held-out images.

    distances: `[n]` of generated images to their nearest training images.
    indices: `[n]` of these.
    held_out_distances: `[m]`.
    nearer: `[n]` bool, whether the distance is below the quantile of the held-out ones.
    share: of `nearer`; the quantile is expected of images of the law of the held-out ones, 1 of copies.
    ratios: `[n]` nearest distance over the mean of the k nearest, in [0, 1]; near 0 of copies.
    z: of Mann and Whitney's test: standard normal where both kinds are equally near, far below 0 for copies, above 0 for images unlike any.
    p: chance of a z that low.
    """

    distances: np.ndarray
    indices: np.ndarray
    held_out_distances: np.ndarray
    nearer: np.ndarray
    share: float
    ratios: np.ndarray
    z: float
    p: float


def memorisation(generated, held_out, training, mirror: bool = False, num_nearest: int = 50, quantile: float = 0.05) -> Memorisation:
    r"""Distances of generated images to the training set, against those of images that were held out.

    .. math:: d(x) = \min_t \|x - t\|, \quad nearer = [d(x_g) < q(d(x_h))], \quad ratio = d(x) / \frac1k \sum_{i \le k} \|x - t_{(i)}\|, \quad
        z = \frac{U - n m / 2}{\sqrt{n m (n + m + 1) / 12}}

    with U the number of pairs whose generated image is farther, ties half and taken off the variance. Distances do not see copies that are shifted,
    turned or brighter: take features, too, that do not change then. Held-out images must be of the law of the training set but of subjects that it
    lacks, and independent of each other: slices of one volume are not, and make p too small; take one a subject. Distances fall as the training set
    grows, for both kinds. Where the training set holds k neighbours of each slice the ratio of a copy is not small. A model that is worse than its
    data hides copies behind z > 0: look at `share` and `ratios`, too.

    Args:
      generated: `[n, h, w]` or `[n, h, w, c]` images, or `[n, d]` features, real.
      held_out: `[m, ...]` of the same kind.
      training: `[l, ...]` of the same kind.
      mirror: whether the nearer of an image and its mirror image, left and right changed, counts; of images only. For features join those of mirrored
        training images to `training`.
      num_nearest: k, at most l.
      quantile: q of the held-out distances; it needs m >= 1 / q - 1.

    Returns:
      `Memorisation`.

    Raises:
      ValueError: for sets of different shapes, not finite or too small, and a mirror of features.

    Reference:
      Mann & Whitney's test: Meehan, Chaudhuri & Dasgupta (2020), https://arxiv.org/abs/2004.05675; the ratio: Carlini et al. (2023),
      https://arxiv.org/abs/2301.13188, for models of small images, with k = 50 and without their factor alpha = 1 / 2 of the mean, which only
      moves a threshold.
    """
    flat, flip = _flat(generated, held_out, training, mirror)
    if not 0 < quantile < 1 or quantile * (len(flat[1]) + 1) < 1 - 1e-9:
        raise ValueError(f"quantile {quantile} of {len(flat[1])} held-out images is not told by them, a share of at least 1 / (m + 1) is needed")
    distances, indices = nearest(flat[0], flat[2], num_nearest, mirror=flip)
    unseen = nearest(flat[1], flat[2], mirror=flip)[0][:, 0]
    found, means = distances[:, 0], distances.mean(1)
    nearer = found < np.quantile(unseen, quantile, method="weibull")
    ratios = np.where(means > 0, found / np.where(means > 0, means, 1), 0)
    z = _mann_whitney(found, unseen)
    return Memorisation(found, indices[:, 0], unseen, nearer, float(nearer.mean()), ratios, z, float(normal.cdf(z)))


def copying_in_cells(generated, held_out, training, centres, least: int = 20) -> float:
    r"""The statistic C_T: mean over regions of feature space of the z of `memorisation`, which copying in some regions does not escape.

    .. math:: C_T = \sum_\pi P(\pi) z_\pi / \sum_\pi P(\pi)

    over cells pi with enough generated images, P the share of the held-out ones in them; neighbours are sought within a cell.

    Args:
      generated: `[n, d]` real.
      held_out: `[m, d]` real.
      training: `[l, d]` real.
      centres: `[k, d]`, by k-means of the training set or means of its classes; a member belongs to the nearest.
      least: generated images that a cell needs to count.

    Returns:
      C_T: far below 0 is copying, far above underfitting. Each z has standard deviation 1, so C_T of k equal cells :math:`1 / \sqrt k`.

    Raises:
      ValueError: where d differs, features are not finite, a counted cell has no held-out or training image, or none counts.

    Reference:
      Meehan, Chaudhuri & Dasgupta (2020), https://arxiv.org/abs/2004.05675, and their data_copying_tests.py, where a cell counts that has more than
      tau n generated images, tau = (least - 1) / n; without its continuity correction of U by 1 / 2, and with one of ties.
    """
    names = ("generated features", "held-out features", "training features", "centres")
    *members, centres = sets(*zip(names, (generated, held_out, training, centres), strict=True))
    cells = [nearest(each, centres)[1][:, 0] for each in members]
    scores, shares = [], []
    for cell in range(len(centres)):
        inside = [each[which == cell] for each, which in zip(members, cells, strict=True)]
        if len(inside[0]) < checks.count(least, "least"):
            continue
        if not (len(inside[1]) and len(inside[2])):
            raise ValueError(
                f"cell {cell} has {len(inside[1])} held-out and {len(inside[2])} training images, some of both are needed: take fewer centres"
            )
        scores.append(_mann_whitney(*(nearest(each, inside[2])[0][:, 0] for each in inside[:2])))
        shares.append(len(inside[1]))
    if not scores:
        raise ValueError(f"no cell has {least} generated images, one that has is needed: take fewer centres")
    return float(np.average(scores, weights=shares))


def _flat(generated, held_out, training, mirror):
    """The sets as `[n, d]`, and the map that mirrors such rows."""
    arrays = [np.asarray(each) for each in (generated, held_out, training)]
    shapes = [list(each.shape) for each in arrays]
    if any(shape[1:] != shapes[0][1:] for shape in shapes) or not 2 <= len(shapes[0]) <= 4 or min(map(min, shapes)) < 1:
        raise ValueError(
            f"generated, held-out and training sets are {', '.join(map(str, shapes))}, one shape [n, d], [n, h, w] or [n, h, w, c] is needed"
        )
    if mirror and len(shapes[0]) == 2:
        raise ValueError("features [n, d] have no mirror images, join those of mirrored training images to the training set")
    names = ("generated images", "held-out images", "training images")
    flat = sets(*((name, each.reshape(len(each), -1)) for name, each in zip(names, arrays, strict=True)))
    return flat, (lambda rows: rows.reshape(-1, *shapes[0][1:])[:, :, ::-1].reshape(rows.shape)) if mirror else None


def _mann_whitney(a, b):
    """z of Mann and Whitney's test, below 0 where a is below b; 0 where all are equal."""
    n, m = len(a), len(b)
    ranks = rankdata(np.concatenate([a, b]))
    ties = np.unique(ranks, return_counts=True)[1]
    variance = n * m / 12 * (n + m + 1 - np.sum(ties**3 - ties) / ((n + m) * (n + m - 1)))
    return float((ranks[:n].sum() - n * (n + 1) / 2 - n * m / 2) / np.sqrt(variance)) if variance > 0 else 0.0
