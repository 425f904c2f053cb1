"""Statistics of sets of generated images: closed forms, loops over all pairs, and sets whose answer is known."""

import itertools

import jax
import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu

from medjax.metrics import nearest as nearest_file
from medjax.metrics.frechet_distance import at_infinity, frechet_distance
from medjax.metrics.inception_score import inception_score
from medjax.metrics.kernel_distance import kernel_distance, squared_discrepancy
from medjax.metrics.memorisation import copying_in_cells, memorisation
from medjax.metrics.nearest import nearest, squared_distances
from medjax.metrics.precision_recall import density_coverage, precision_recall
from medjax.metrics.spatial_features import spatial_features

# name -> statistic of two sets of features
STATISTICS = {
    "frechet_distance": frechet_distance,
    "at_infinity": lambda x, y: at_infinity(jax.random.key(0), x, y),
    "kernel_distance": lambda x, y: kernel_distance(jax.random.key(0), x, y)[0],
    "squared_discrepancy": squared_discrepancy,
    "precision_recall": precision_recall,
    "density_coverage": density_coverage,
}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of few rows, so that small sets have several, of unequal size."""
    monkeypatch.setattr(nearest_file, "_BLOCK", 7)
    monkeypatch.setattr(nearest_file, "_PAIRS", 10)


def with_moments(rng, num, mean, covariance):
    """Features whose sample mean and covariance are exactly these."""
    x = rng.normal(size=(num, len(mean)))
    x = x - x.mean(0)
    return mean + x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T @ np.linalg.cholesky(covariance).T


@pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)
def test_bad_features_are_told_in_one_line(rng, statistic):
    x, y = rng.normal(size=(60, 3)), rng.normal(size=(60, 3))
    broken = np.where(np.arange(60)[:, None] == 4, np.nan, x)
    bad = {r"reference features have 2 features and generated features 3": (x, y[:, :2]), "generated features hold 3 NaN or infinite": (broken, y)}
    bad |= {r"generated features are float64 \[60\], real features \[n, d\]": (x[:, 0], y), "reference features are complex128": (x, y + 0j)}
    bad |= {"(reference features are|asked for, among)": (x, y[:1])}
    for message, pair in bad.items():
        with pytest.raises(ValueError, match=message) as error:
            statistic(*pair)
        assert "\n" not in str(error.value)


def test_distances_lose_no_digits(rng, small_blocks):
    """Rows far from 0 and nearly or quite equal, against differences; neighbours from near to far, never itself, or by the mirror image."""
    x = 1e3 + rng.normal(size=(30, 5)) * 10.0 ** rng.integers(-6, 3, (30, 1))
    y = np.concatenate([x[:11] + 1e-9, x[11:20], rng.normal(size=(20, 5))])
    exact = np.sum((x[:, None] - y[None]) ** 2, 2)
    np.testing.assert_allclose(squared_distances(x, y), exact, rtol=1e-9)
    distances, indices = nearest(x, y, 4)
    np.testing.assert_allclose(distances, np.sqrt(np.sort(exact, 1)[:, :4]), rtol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(exact, indices, 1), np.sort(exact, 1)[:, :4], rtol=1e-6)
    twice = rng.normal(size=(20, 5))
    among = cdist(twice, twice) + np.diag(np.full(20, np.inf))
    distances, indices = nearest(twice, twice, 3, same=True)
    np.testing.assert_allclose(distances, np.sort(among, 1)[:, :3], rtol=1e-9)
    np.testing.assert_array_equal(indices, np.argsort(among, 1)[:, :3])
    found = nearest(twice[:, ::-1], twice, mirror=lambda rows: rows[:, ::-1])
    assert not found[0].any() and np.array_equal(found[1][:, 0], np.arange(20))
    with pytest.raises(ValueError, match="20 nearest neighbours are asked for, among 19"):
        nearest(twice, twice, 20, same=True)


def test_frechet_distance_in_closed_form(rng):
    """Commuting covariances: |shift|^2 + sum of squared differences of standard deviations; any others: scipy's root of the product."""
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    a, b, shift = np.array([1.0, 2.0, 0.5, 1e-4]), np.array([3.0, 1.0, 0.25, 0.0]) + 1e-6, np.array([1.0, 0.0, -2.0, 0.0])
    x = with_moments(rng, 50, np.zeros(4), turn @ np.diag(a**2) @ turn.T)
    y = with_moments(rng, 70, shift, turn @ np.diag(b**2) @ turn.T)
    assert frechet_distance(x, y) == pytest.approx(5 + np.sum((a - b) ** 2), rel=1e-9)
    x, y = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)), 3 + rng.normal(size=(90, 6)) @ rng.normal(size=(6, 6))
    S1, S2, apart = np.cov(x.T), np.cov(y.T), x.mean(0) - y.mean(0)
    wanted = apart @ apart + np.trace(S1 + S2 - 2 * np.real(sqrtm(S1 @ S2)))
    assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-10) == frechet_distance(y, x)
    assert frechet_distance(x.astype(np.float32), y) == pytest.approx(wanted, rel=1e-5)


def test_frechet_distance_of_fewer_images_than_features(rng):
    """Covariances without full rank: equal sets and moved ones; features that are all 0 in both add nothing, and any others."""
    x = rng.normal(size=(5, 40))
    assert 0 <= frechet_distance(x, x) < 1e-12 * np.trace(np.cov(x.T))
    assert frechet_distance(x, x + 0.5) == pytest.approx(10.0, rel=1e-12)
    for num in (8, 60):
        y = rng.normal(size=(num, 40)) @ rng.normal(size=(40, 40))
        across = (x - x.mean(0)) @ (y - y.mean(0)).T / np.sqrt(4 * (num - 1))  # singular values are roots of the eigenvalues of S1 S2
        wanted = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(np.cov(x.T) + np.cov(y.T)) - 2 * np.linalg.norm(across, "nuc")
        assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-12) == frechet_distance(y, x)
    y, zeros = rng.normal(size=(60, 40)), np.zeros((60, 3))
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(np.c_[x, zeros[:5]], np.c_[y, zeros]), rel=1e-12)


def test_frechet_distance_at_infinity(rng):
    """Of 30 pairs of one law the distance is far above 0, and its extrapolation within chance of it; a shift is left."""
    pairs = [rng.normal(size=(2, 200, 8)) for _ in range(30)]
    keys = jax.random.split(jax.random.key(3), 30)
    plain = np.array([frechet_distance(*pair) for pair in pairs])
    far = np.array([at_infinity(key, *pair) for key, pair in zip(keys, pairs, strict=True)])
    assert plain.mean() > 0.2 and abs(far.mean()) < 0.12 * plain.mean()  # the rest is of order 1 / n^2
    moved = np.mean([at_infinity(key, x + np.sqrt(1 / 8), y) for key, (x, y) in zip(keys, pairs, strict=True)])
    assert moved == pytest.approx(1.0, abs=0.1)  # four standard errors of shifts by 200 draws in 30 pairs
    with pytest.raises(ValueError, match="a share of 0.25 of 32 features of 8 dimensions is extrapolated from"):
        at_infinity(keys[0], pairs[0][0][:32], pairs[0][1])


def test_squared_discrepancy_is_a_loop(rng, small_blocks):
    x, y = rng.normal(size=(9, 4)), 1 + rng.normal(size=(16, 4))

    def k(a, b):
        return (a @ b / 4 + 1) ** 3

    within = [np.mean([k(a, b) for a, b in itertools.permutations(z, 2)]) for z in (x, y)]
    wanted = sum(within) - 2 * np.mean([k(a, b) for a, b in itertools.product(x, y)])
    assert squared_discrepancy(x, y) == pytest.approx(wanted, rel=1e-12)


def test_kernel_distance_is_unbiased_and_knows_its_error(rng):
    """Of 200 pairs of one law the mean is 0, of few images as of many, and the standard error is the spread; another law is many of them away."""
    keys = jax.random.split(jax.random.key(0), 200)
    found = np.array([kernel_distance(key, *rng.normal(size=(2, 60, 3))) for key in keys])
    spread = found[:, 0].std()
    assert abs(found[:, 0].mean()) < 4 * spread / np.sqrt(200)
    assert np.sqrt(np.mean(found[:, 1] ** 2)) == pytest.approx(spread, rel=0.2)  # four standard errors of a spread from 200
    value, error = kernel_distance(keys[0], 1 + rng.normal(size=(200, 3)), rng.normal(size=(203, 3)))
    assert value > 5 * error
    with pytest.raises(ValueError, match="generated features are 19, at least 20 are needed"):
        kernel_distance(keys[0], np.zeros((19, 3)), np.zeros((60, 3)))


def naive(generated, reference, k):
    """Precision, recall, density and coverage by loops over points."""

    def radius(points, i):
        return sorted(np.linalg.norm(points[i] - p) for j, p in enumerate(points) if j != i)[k - 1]

    def balls(points):
        return [(p, radius(points, i)) for i, p in enumerate(points)]

    real, fake = balls(reference), balls(generated)
    precision = np.mean([any(np.linalg.norm(g - p) <= r for p, r in real) for g in generated])
    recall = np.mean([any(np.linalg.norm(x - p) <= r for p, r in fake) for x in reference])
    density = np.mean([sum(np.linalg.norm(g - p) < r for p, r in real) for g in generated]) / k
    return precision, recall, density, np.mean([any(np.linalg.norm(g - p) < r for g in generated) for p, r in real])


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_are_loops(rng, small_blocks, k):
    generated, reference = 0.6 * rng.normal(size=(31, 3)) + 101, rng.normal(size=(24, 3)) + 100
    found = (*precision_recall(generated, reference, k), *density_coverage(generated, reference, k))
    wanted = naive(generated, reference, k)
    assert np.allclose(found, wanted, rtol=1e-12) and len(set(np.round(wanted, 3))) == 4


def test_precision_and_recall_by_hand():
    """Points on a line, ties and copies included."""
    line = np.arange(4.0)[:, None]
    assert precision_recall(line, line, 1) == (1, 1) and density_coverage(line, line, 1) == (1, 1)
    half, lost = np.array([[0.0], [1.0], [0.5]]), np.array([[90.0], [91.0], [92.0]])
    assert precision_recall(half, line, 1) == (1, 0.5) and density_coverage(half, line, 1) == (4 / 3, 0.5)
    assert precision_recall(lost, line, 1) == (0, 0) and density_coverage(lost, line, 1) == (0, 0)
    assert precision_recall(line + 1.0, line, 1) == (1, 1)  # 4 is on the rim of the ball about 3, 0 on that about 1
    assert density_coverage(line + 1.0, line, 1) == (0.75, 0.75)
    one = np.full((4, 1), 2.0)
    assert precision_recall(one, line, 1) == (1, 0.25) and density_coverage(one, line, 1) == (1, 0.25)  # a point and no more is reached
    with pytest.raises(ValueError, match="4 nearest neighbours are asked for, among 3"):
        density_coverage(line, line, 4)


def test_coverage_and_density_of_one_law(rng):
    """The paper's expectation of coverage, for unequal numbers, and a density of 1."""
    found = np.mean([density_coverage(rng.normal(size=(40, 2)), rng.normal(size=(60, 2)), 3) for _ in range(60)], 0)
    missed = np.prod([(60 - i) / (100 - i) for i in (1, 2, 3)])
    assert found == pytest.approx([1, 1 - missed], abs=0.04)  # four standard errors of 60 pairs


def test_inception_score(key, rng):
    """Sure and evenly spread over c classes: c; unsure, or sure of one class: 1; two images by hand; few a split score less."""
    sure = np.repeat(np.eye(5), 20, 0)
    assert inception_score(key, sure, 1) == pytest.approx((5, 0), rel=1e-12)
    assert inception_score(key, np.tile(rng.dirichlet(np.ones(5)), (40, 1)), 4) == pytest.approx((1, 0), abs=1e-12)
    assert inception_score(key, sure[:20], 2) == pytest.approx((1, 0), abs=1e-12)
    divergence = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    assert inception_score(key, [[0.75, 0.25], [0.25, 0.75]], 1)[0] == pytest.approx(np.exp(divergence), rel=1e-12)
    mean, std = inception_score(key, sure, 10)
    assert 3 < mean < 5 and std > 0  # the order of the images does not matter: splits of one class would give 1
    for bad, message in ((sure[:, 0], r"\[100\], \[n, c\]"), (sure * 2, "rows of sum 2 to 2"), (sure - 0.1, "from -0.1"), (sure * np.nan, "nan")):
        with pytest.raises(ValueError, match=message):
            inception_score(key, bad)
    with pytest.raises(ValueError, match="of 5 images, at least 10 are needed"):
        inception_score(key, sure[:5])


def faces(rng, num):
    """Images of few numbers each: a smooth law of 8 x 6 pixels."""
    basis = np.random.default_rng(7).normal(size=(6, 8, 6))
    return np.einsum("nk,khw->nhw", rng.normal(size=(num, 6)), basis) + 0.05 * rng.normal(size=(num, 8, 6))


def test_memorisation_flags_copies_and_nothing_else(rng, small_blocks):
    """Copies of 40 training images, a little noisy, among 60 new ones: they are found, and which; new ones are as near as the quantile says."""
    training, held_out, fresh = faces(rng, 150), faces(rng, 99), faces(rng, 300)
    which = rng.choice(150, 40, replace=False)
    found = memorisation(np.concatenate([training[which] + 1e-3 * rng.normal(size=(40, 8, 6)), fresh[:60]]), held_out, training)
    assert found.nearer[:40].all() and np.array_equal(found.indices[:40], which)
    assert found.share < 0.5 and np.max(found.ratios[:40]) < 0.01 < 0.2 < np.min(found.ratios[40:])
    assert found.z < -3.5 and found.p < 3e-4
    none = memorisation(fresh, held_out, training, quantile=0.2)
    assert none.share == pytest.approx(0.2, abs=0.15) and abs(none.z) < 3 and none.p > 0.01
    distances = np.sort(cdist(fresh.reshape(300, -1), training.reshape(150, -1)), 1)
    np.testing.assert_allclose(none.distances, distances[:, 0], rtol=1e-9)
    np.testing.assert_allclose(none.ratios, distances[:, 0] / distances[:, :50].mean(1), rtol=1e-9)
    np.testing.assert_allclose(none.held_out_distances, cdist(held_out.reshape(99, -1), training.reshape(150, -1)).min(1), rtol=1e-9)


def test_memorisation_is_the_test_of_mann_and_whitney(rng):
    """z and p are scipy's, with ties, and p is uniform over draws where nothing is copied."""
    training, held_out, generated = (rng.integers(0, 5, (n, 3)) for n in (30, 40, 50))
    found = memorisation(generated, held_out, training, num_nearest=4)
    wanted = mannwhitneyu(found.distances, found.held_out_distances, alternative="less", method="asymptotic", use_continuity=False)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-9) and len(np.unique(found.distances)) < 8
    runs = [memorisation(*(rng.normal(size=(n, 4)) for n in (30, 40, 60)), num_nearest=1, quantile=0.1) for _ in range(300)]
    assert np.mean([run.p for run in runs]) == pytest.approx(0.5, abs=0.07)  # four standard errors of 300
    assert np.std([run.z for run in runs]) == pytest.approx(1, abs=0.17)
    assert np.mean([run.share for run in runs]) == pytest.approx(0.1, abs=0.02)


def test_memorisation_of_mirror_images(rng):
    """Copies with left and right changed are seen when asked for, and only then, with channels as without."""
    training, held_out = faces(rng, 60), faces(rng, 40)
    for grow in (lambda x: x, lambda x: np.stack([x, -x], 3)):
        copies = [grow(each) for each in (training[:20, :, ::-1], held_out, training)]
        plain, mirrored = memorisation(*copies), memorisation(*copies, mirror=True)
        assert not mirrored.distances.any() and np.array_equal(mirrored.indices, np.arange(20)) and not mirrored.ratios.any()
        assert plain.distances.min() > 0.5 and plain.share < 0.3 and mirrored.share == 1
        assert not memorisation(copies[2][:20], *copies[1:], mirror=True).distances.any()  # nor need copies be mirrored
        turned = memorisation(copies[1], copies[0], copies[2], mirror=True)  # held-out images are mirrored, too
        assert not turned.held_out_distances.any() and turned.z > 5
        assert not memorisation(copies[0], copies[1], copies[2][:1].repeat(2, 0), num_nearest=2, mirror=True).ratios[0]  # 0 over 0 of a copied twin
    assert memorisation(training[:20, ::-1], held_out, training, mirror=True).distances.min() > 0.5  # upside down is no mirror image


def test_memorisation_refuses(rng):
    x = rng.normal(size=(60, 4))
    with pytest.raises(ValueError, match=r"sets are \[60, 4\], \[60, 4\], \[60, 3\], one shape"):
        memorisation(x, x, x[:, :3])
    with pytest.raises(ValueError, match="quantile 0.05 of 18 held-out images is not told"):
        memorisation(x, x[:18], x)
    with pytest.raises(ValueError, match="have no mirror images"):
        memorisation(x, x, x, mirror=True)
    with pytest.raises(ValueError, match="held-out images hold 1 NaN"):
        memorisation(x, np.where(np.arange(240).reshape(60, 4) == 5, np.inf, x), x)
    with pytest.raises(ValueError, match="50 nearest neighbours are asked for, among 40"):
        memorisation(x, x, x[:40])


def test_copying_in_one_region(rng):
    """Copies in one cell and far too much spread in the other cancel in z over all, not in the mean over cells weighed by held-out images."""
    sides = [np.array([[0.0, 0.0]]), np.array([[50.0, 0.0]])]
    training, held_out = (np.concatenate([side + rng.normal(size=(n, 2)) for side in sides]) for n in (60, 80))
    copied, spread = training[:50] + 0.01 * rng.normal(size=(50, 2)), sides[1] + 6 * rng.normal(size=(50, 2))
    centres = np.concatenate(sides)
    fresh = np.concatenate([side + rng.normal(size=(50, 2)) for side in sides])
    assert abs(copying_in_cells(fresh, held_out, training, centres)) < 3 / np.sqrt(2)
    left = memorisation(copied, held_out[:80], training[:60]).z
    right = memorisation(spread, held_out[80:], training[60:]).z
    assert left < -5 and right > 5
    both = np.concatenate([copied, spread])
    assert copying_in_cells(both, held_out[:120], training, centres) == pytest.approx(
        (80 * left + 40 * memorisation_z(spread, held_out, training)) / 120
    )
    assert copying_in_cells(both[:60], held_out, training, centres) == pytest.approx(left)  # 10 on the right are too few to count
    line = [np.full((20, 1), place) for place in (4.9, 1.0)]
    assert copying_in_cells(*line, np.array([[-3.0], [5.1]]), np.array([[0.0], [10.0]])) > 5  # 5.1 is near, but of the other cell
    with pytest.raises(ValueError, match="cell 1 has 0 held-out and 60 training images"):
        copying_in_cells(both, held_out[:80], training, centres)
    with pytest.raises(ValueError, match="no cell has 51 generated images"):
        copying_in_cells(both, held_out, training, centres, least=51)


def memorisation_z(spread, held_out, training):
    """z in the right cell of 40 held-out images."""
    return memorisation(spread, held_out[80:120], training[60:]).z


def test_spatial_features_keep_their_place(rng):
    """Channel and pixel of each feature; images upside down are far by them and equal by their means."""
    maps = rng.normal(size=(100, 2, 3, 9))
    found = spatial_features(maps, 2)
    assert found.shape == (100, 12) and np.array_equal(found.reshape(100, 2, 3, 2), maps[..., :2])
    maps[:, 0] += 3
    turned = maps[:, ::-1]
    assert frechet_distance(maps.mean((1, 2)), turned.mean((1, 2))) < 1e-10
    assert frechet_distance(spatial_features(maps), spatial_features(turned)) > 300  # 42 features, 3 apart: 378
    with pytest.raises(ValueError, match=r"maps are \[100, 2, 3, 9\], \[n, h, w, c\] with c of at least 10"):
        spatial_features(maps, 10)
