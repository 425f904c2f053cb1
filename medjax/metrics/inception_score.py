"""The score of the Inception score with any classifier; on reports "classifier score by CLASSIFIER"."""

import jax
import numpy as np
from scipy.special import rel_entr

from medjax import checks

_SUM = 1e-3
"""How far from 1 probabilities may add up, which single precision needs."""


def inception_score(key, probabilities, num_splits: int = 10) -> tuple[float, float]:
    r"""How sure a classifier is of each image, and how evenly classes occur.

    .. math:: \exp \; E_x \, KL(p(y | x) \| p(y)), \quad p(y) = E_x \, p(y | x)

    It sees no reference: images that fool the classifier, or one image a class, score best. p(y) is that of the images of a split, so few images a
    split give a lower score, at most their number: compare values of equal n and `num_splits`, of one classifier.

    Args:
      key: which draws the splits, so that images in the order of their classes do no harm.
      probabilities: `[n, c]`, p(y | x) of each image.
      num_splits: parts of n / `num_splits` images.

    Returns:
      `(mean, std)` over the splits; the mean lies from 1, where all images are alike to the classifier, to c.

    Raises:
      ValueError: where rows are no probabilities, or images fewer than splits.

    Reference:
      Salimans et al. (2016), Assessment of image quality, https://arxiv.org/abs/1606.03498; their code splits by the order of the images.
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or not p.shape[1]:
        raise ValueError(f"probabilities are {list(p.shape)}, [n, c] is needed")
    if len(p) < checks.count(num_splits, "num_splits"):
        raise ValueError(f"probabilities are of {len(p)} images, at least {num_splits} are needed, one a split")
    if not (np.all(p >= 0) and np.all(np.abs(p.sum(1) - 1) <= _SUM)):
        raise ValueError(
            f"probabilities have entries from {p.min():.4g} and rows of sum {p.sum(1).min():.4g} to {p.sum(1).max():.4g}, 0 and 1 are needed"
        )
    p = p / p.sum(1, keepdims=True)
    order = np.asarray(jax.random.permutation(key, len(p)))
    scores = [np.exp(rel_entr(part, part.mean(0)).sum(1).mean()) for part in np.array_split(p[order], num_splits)]
    return float(np.mean(scores)), float(np.std(scores))
