"""All statistics of a set of generated images at once, by name, and why one is missing."""

from typing import NamedTuple

import jax
import numpy as np

from medjax.metrics.frechet_distance import at_infinity, frechet_distance
from medjax.metrics.inception_score import inception_score
from medjax.metrics.kernel_distance import kernel_distance
from medjax.metrics.memorisation import copying_in_cells, memorisation
from medjax.metrics.nearest import nearest, sets
from medjax.metrics.precision_recall import density_coverage, precision_recall

_CELLS, _ROUNDS = 3, 50
"""Regions of `copying_in_cells`, and the most steps of k-means that look for them."""


class GenerationScores(NamedTuple):
    """What `generation_scores` finds; each of its names is a key of one of the two.

    scores: the statistics.
    left_out: one line each for those that are missing.
    """

    scores: dict[str, float]
    left_out: dict[str, str]


def generation_scores(key, generated, reference, held_out, spatial=None, probabilities=None) -> GenerationScores:
    """Statistics of generated images, each by its own function with its defaults; see there what they mean, and what they compare with.

    ==================================================== ================================================================================
    `frechet_distance`                                   of generated and training features
    `frechet_distance_extrapolated`                      `at_infinity` of these
    `kernel_distance`, `kernel_distance_error`           of these, with its standard error
    `precision`, `recall`, `density`, `coverage`         of these
    `spatial_frechet_distance`                           of the spatial features
    `inception_score`, `inception_score_deviation`       of the probabilities; on reports "classifier score by CLASSIFIER"
    `nearest_distance`, `held_out_nearest_distance`      median distance to the nearest training image, of generated and of held-out ones
    `memorisation_share`                                 of generated images nearer than all but 0.05 of the held-out ones
    `memorisation_z`, `memorisation_p`                   Mann and Whitney's test of these distances: far below 0, and p near 0, of copies
    `memorisation_cells`                                 `copying_in_cells`, in 3 regions by k-means of the training set: far below 0 of copies
    ==================================================== ================================================================================

    Args:
      key: of what is drawn: parts, subsets, splits, and where k-means begins.
      generated: `[n, d]` real, pooled features.
      reference: `[m, d]` of training images.
      held_out: `[l, d]` of images of the law of the training set that it lacks, of other subjects, one a subject at best.
      spatial: spatial features `([n, e], [m, e])` of generated and training images (`spatial_features`), or None.
      probabilities: `[n, c]`, p(y | x) of the generated images, or None.

    Returns:
      `GenerationScores`; what a set is too small for, or was not given, is left out.

    Raises:
      ValueError: for features that are not finite or not of one d, probabilities that are none, and where those or spatial features are not of
        the same images.

    Reference:
      That of each; 3 regions with 20 generated images at least: Jiralerspong et al. (2023), https://arxiv.org/abs/2302.04440, in their code
      CTTest.py, which reduces more than 64 features by their principal components first.
    """
    names = ("generated features", "training features", "held-out features")
    generated, reference, held_out = sets(*zip(names, (generated, reference, held_out), strict=True))
    _check(generated, reference, spatial, probabilities)
    keys = [jax.random.fold_in(key, i) for i in range(4)]

    def given(value, what):
        if value is None:
            raise ValueError(f"no {what} are given")
        return value

    def memory():
        found = memorisation(generated, held_out, reference, num_nearest=1)
        return float(np.median(found.distances)), float(np.median(found.held_out_distances)), found.share, found.z, found.p

    def frechet(one, other):
        if min(len(one), len(other)) <= one.shape[1]:
            found = f"{len(one)} and {len(other)} images of {one.shape[1]} features"
            raise ValueError(f"{found} have no whole covariance; more images than features are needed")
        return frechet_distance(one, other)

    groups = {
        ("frechet_distance",): lambda: (frechet(generated, reference),),
        ("frechet_distance_extrapolated",): lambda: (at_infinity(keys[0], generated, reference),),
        ("kernel_distance", "kernel_distance_error"): lambda: kernel_distance(keys[1], generated, reference),
        ("precision", "recall"): lambda: precision_recall(generated, reference),
        ("density", "coverage"): lambda: density_coverage(generated, reference),
        ("spatial_frechet_distance",): lambda: (frechet(*map(np.asarray, given(spatial, "spatial features"))),),
        ("inception_score", "inception_score_deviation"): lambda: inception_score(keys[2], given(probabilities, "class probabilities")),
        ("nearest_distance", "held_out_nearest_distance", "memorisation_share", "memorisation_z", "memorisation_p"): memory,
        ("memorisation_cells",): lambda: (copying_in_cells(generated, held_out, reference, _centres(keys[3], reference)),),
    }
    scores, left_out = {}, {}
    for group, found in groups.items():
        try:
            scores |= dict(zip(group, found(), strict=True))
        except ValueError as error:  # the sets were checked above: it is their size
            left_out |= dict.fromkeys(group, str(error))
    return GenerationScores(scores, left_out)


def _check(generated, reference, spatial, probabilities):
    """Spatial features and probabilities, where they are given, are good ones, of as many images as the pooled features."""
    rows = []
    if spatial is not None:
        named = zip(("generated spatial features", "training spatial features"), spatial, strict=True)
        rows += [("spatial features", sets(*named), [len(generated), len(reference)])]
    if probabilities is not None:
        inception_score(jax.random.key(0), probabilities, 1)
        rows += [("class probabilities", [probabilities], [len(generated)])]
    for name, given, wanted in rows:
        if [len(each) for each in given] != wanted:
            raise ValueError(f"{name} are of {[len(each) for each in given]} images, those of the {wanted} of the pooled features are needed")


def _centres(key, x):
    """Centres of k-means of x `[n, d]`, from members drawn with chances by their squared distance to those before; an empty cell keeps its centre."""
    sets(("training features", x), least=_CELLS)
    x, draws = x.astype(np.float64), np.asarray(jax.random.uniform(key, (_CELLS,)))
    centres = x[[int(draws[0] * len(x))]]
    for draw in draws[1:]:
        total = np.cumsum(nearest(x, centres)[0][:, 0] ** 2)
        centres = np.concatenate([centres, x[[min(np.searchsorted(total, draw * total[-1], "right"), len(x) - 1)]]])
    for _ in range(_ROUNDS):
        cell = nearest(x, centres)[1][:, 0]
        moved = np.stack([x[cell == i].mean(0) if np.any(cell == i) else centre for i, centre in enumerate(centres)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres
