"""All statistics of generated images at once: closed forms, copies, unseen images, and what is left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.metrics.frechet_distance import at_infinity, frechet_distance
from medjax.metrics.generation_scores import _centres, generation_scores
from medjax.metrics.inception_score import inception_score
from medjax.metrics.kernel_distance import kernel_distance
from medjax.metrics.memorisation import memorisation
from medjax.metrics.precision_recall import density_coverage, precision_recall

MEMORY = {"nearest_distance", "held_out_nearest_distance", "memorisation_share", "memorisation_z", "memorisation_p", "memorisation_cells"}
PAIR = {"frechet_distance", "frechet_distance_extrapolated", "kernel_distance", "kernel_distance_error", "precision", "recall", "density", "coverage"}
GIVEN = {"spatial_frechet_distance", "inception_score", "inception_score_deviation"}
STD = np.array([1.0, 2.0, 0.5, 0.1])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def gaussian(rng, num, shift=0.0, scale=1.0):
    """Features of standard deviations STD times a scale, about a shift."""
    return shift + scale * STD * rng.normal(size=(num, 4))


def whitened(rng, num, shift, scale):
    """Those whose sample moments are exactly that."""
    x = rng.normal(size=(num, 4))
    x = x - x.mean(0)
    return shift + scale * STD * (x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T)


def test_gaussian_features_in_closed_form(key, rng):
    """|shift|^2 and (scale - 1)^2 times the variances, exactly for exact moments, and extrapolated from draws by chance; the same of spatial ones."""
    wanted = 4 * 0.3**2 + 0.5**2 * np.sum(STD**2)
    generated, reference, held_out = whitened(rng, 300, 0.3, 1.5), whitened(rng, 400, 0, 1), gaussian(rng, 90)
    probabilities = rng.dirichlet(np.ones(5), 300)
    scores, left_out = generation_scores(key, generated, reference, held_out, (generated[:, ::-1] + 1, reference[:, ::-1]), probabilities)
    assert not left_out and set(scores) == PAIR | GIVEN | MEMORY and all(type(value) is float for value in scores.values())
    assert scores["frechet_distance"] == pytest.approx(wanted, rel=1e-9)
    assert scores["spatial_frechet_distance"] == pytest.approx(4 * 1.3**2 + 0.5**2 * np.sum(STD**2), rel=1e-9)
    runs = [generation_scores(jax.random.fold_in(key, i), gaussian(rng, 400, 0.3, 1.5), gaussian(rng, 400), held_out).scores for i in range(8)]
    assert np.mean([run["frechet_distance_extrapolated"] for run in runs]) == pytest.approx(wanted, abs=0.5)  # four standard errors of eight


def test_each_name_is_its_own_statistic(key, rng):
    """Nothing is swapped, and nothing compares with another set."""
    generated, reference, held_out = gaussian(rng, 120, 0.4, 0.7), gaussian(rng, 150), gaussian(rng, 80)
    probabilities = rng.dirichlet(np.ones(3), 120)
    scores = generation_scores(key, generated, reference, held_out, probabilities=probabilities).scores
    keys = [jax.random.fold_in(key, i) for i in range(3)]
    memory = memorisation(generated, held_out, reference)
    wanted = {
        "frechet_distance": frechet_distance(generated, reference),
        "frechet_distance_extrapolated": at_infinity(keys[0], generated, reference),
        **dict(zip(("kernel_distance", "kernel_distance_error"), kernel_distance(keys[1], generated, reference), strict=True)),
        **precision_recall(generated, reference)._asdict(),
        **density_coverage(generated, reference)._asdict(),
        **dict(zip(("inception_score", "inception_score_deviation"), inception_score(keys[2], probabilities), strict=True)),
        "nearest_distance": np.median(memory.distances),
        "held_out_nearest_distance": np.median(memory.held_out_distances),
        "memorisation_share": memory.share,
        "memorisation_z": memory.z,
        "memorisation_p": memory.p,
    }
    assert len(set(np.round(list(wanted.values()), 6))) == len(wanted)
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted, rel=1e-12)
    single = generation_scores(key, *(jnp.asarray(x, jnp.float32) for x in (generated, reference, held_out))).scores
    assert {name: single[name] for name in PAIR | MEMORY} == pytest.approx(
        {name: scores[name] for name in PAIR | MEMORY}, rel=1e-4
    )  # as single precision


def test_copies_are_flagged_and_unseen_images_are_not(key, rng):
    """Copies of the training set, exact ones and with a little noise, score best where nobody asks for memory; new draws pass 40 times."""
    reference, held_out = gaussian(rng, 300), gaussian(rng, 150)
    for noise in (0.0, 0.01):
        copies = reference[:200] + noise * STD * rng.normal(size=(200, 4))
        scores, left_out = generation_scores(key, copies, reference, held_out)
        assert set(left_out) == GIVEN and scores["precision"] == 1 and scores["frechet_distance"] < 0.1
        assert scores["memorisation_share"] > 0.95 and scores["memorisation_p"] < 1e-20
        assert scores["memorisation_z"] < -10 and scores["memorisation_cells"] < -5
        assert scores["nearest_distance"] <= 0.02 * STD.max() * 2 < 0.2 < scores["held_out_nearest_distance"]
    runs = [generation_scores(key, gaussian(rng, 200), gaussian(rng, 300), gaussian(rng, 150)).scores for _ in range(40)]
    z, cells, share, p = (np.array([run[f"memorisation_{name}"] for run in runs]) for name in ("z", "cells", "share", "p"))
    assert np.all(np.abs(z) < 4) and abs(z.mean()) < 4 / np.sqrt(40) and np.all(p > 1e-4)
    assert np.all(np.abs(cells) < 4 / np.sqrt(3)) and abs(cells.mean()) < 4 / np.sqrt(3 * 40)
    assert share.mean() == pytest.approx(0.05, abs=0.02)  # four standard errors of 40 quantiles of 150


def test_copies_in_some_regions_are_flagged_by_cells(key, rng):
    """Two of three far clusters copied, the third too wide and with most of the images: all together look new, cells do not."""
    sides = 100 * np.eye(3, 4)
    reference, held_out = (np.concatenate([side + gaussian(rng, num) for side in sides]) for num in (200, 100))
    copied = [reference[:40], reference[200:240], sides[2] + gaussian(rng, 400, scale=1.5)]
    scores = generation_scores(key, np.concatenate(copied), reference, held_out).scores
    assert scores["memorisation_z"] > 0 and scores["memorisation_cells"] < -3


def test_regions_are_those_of_k_means(key, rng):
    """The means of three far clusters, from any start; members that are all equal do no harm."""
    x = np.concatenate([100 * side + gaussian(rng, 50) for side in np.eye(3, 4)])
    wanted = x.reshape(3, 50, 4).mean(1)
    for i in range(10):
        centres = _centres(jax.random.fold_in(key, i), x)
        assert np.allclose(centres[np.argsort(-centres @ [3, 2, 1, 0])], wanted, rtol=1e-12)
    assert np.array_equal(_centres(key, np.ones((5, 2))), np.ones((3, 2)))


@pytest.mark.parametrize(
    "sizes, missing",
    [
        ((1, 200, 100), PAIR - {"density", "coverage"} | {"memorisation_cells"}),
        ((16, 200, 100), {"frechet_distance_extrapolated", "kernel_distance", "kernel_distance_error", "memorisation_cells"}),
        ((100, 200, 18), MEMORY - {"memorisation_cells"}),
        ((100, 2, 100), PAIR | {"memorisation_cells"}),
    ],
)
def test_sets_that_are_too_small_leave_statistics_out(key, rng, sizes, missing):
    """One line each, and every name in one of the two."""
    scores, left_out = generation_scores(key, *(gaussian(rng, num) for num in sizes), probabilities=np.full((sizes[0], 2), 0.5))
    missing = missing | {"spatial_frechet_distance"} | (GIVEN if sizes[0] < 10 else set())
    assert set(left_out) == missing and set(scores) == (PAIR | GIVEN | MEMORY) - missing and all(np.isfinite(list(scores.values())))
    assert all(reason and "\n" not in reason for reason in left_out.values())
    assert left_out["spatial_frechet_distance"] == "no spatial features are given"


def test_bad_input_is_told(key, rng):
    """Nothing that is wrong passes for too small."""
    x = gaussian(rng, 60)
    broken, half = np.where(np.arange(60)[:, None] == 4, np.nan, x), np.full((60, 2), 0.5)
    cases = [
        ((x, x, broken), {}, "held-out features hold 4 NaN"),
        ((x, x[:, :3], x), {}, "training features have 3 features and generated features 4"),
        ((x, x, x), {"probabilities": 2 * half}, "rows of sum 2 to 2"),
        ((x, x, x), {"probabilities": half[:5]}, r"class probabilities are of \[5\] images, those of the \[60\]"),
        ((x, x, x), {"spatial": (x, x[:50])}, r"spatial features are of \[60, 50\] images, those of the \[60, 60\]"),
        ((x, x, x), {"spatial": (x, broken)}, "training spatial features hold 4 NaN"),
    ]
    for sets, options, message in cases:
        with pytest.raises(ValueError, match=message) as error:
            generation_scores(key, *sets, **options)
        assert "\n" not in str(error.value)
