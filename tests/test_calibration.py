"""Calibration metrics: values on paper, Gaussian closed forms, and samplers that are wrong in a known way."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from medjax.metrics import calibration
from medjax.metrics.coverage import coverage
from medjax.metrics.sliced_wasserstein import sliced_wasserstein

MEAN, STD = 3.0, 2.0
NUM, PIXELS = 200, 2000


@pytest.fixture(scope="module")
def draws():
    """Exact samples of N(3, 4), `[K, pixels]`."""
    return jnp.asarray(MEAN + STD * np.random.default_rng(1).normal(size=(NUM, PIXELS)))


@pytest.fixture
def rng(key):
    """NumPy's draws, which need no compiling."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


measure = jax.jit(sliced_wasserstein, static_argnums=(3, 4))


def full(value):
    return jnp.full(PIXELS, value)


def test_values_on_paper():
    """Two pixels, three samples: mean 2 and 4, standard deviation 1 and 2."""
    samples = jnp.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    mean, std = jnp.array([1.0, 4.0]), jnp.array([2.0, 4.0])
    assert np.allclose(calibration.bias(samples, mean, std), np.sqrt(((1 / 2) ** 2 + 0) / 2), rtol=1e-12)
    assert np.allclose(calibration.bias(samples, mean, std, debias=True), np.sqrt(1 / 8 - (1 / 4 + 1 / 4) / 2 / 3), rtol=1e-12)
    assert calibration.bias(samples, jnp.array([2.0, 4.0]), std, debias=True) == 0  # never the root of less than 0
    assert np.allclose(calibration.std_ratio(samples, jnp.array([1.0, 8.0])), (1 + 1 / 4) / 2, rtol=1e-12)
    assert np.allclose(calibration.z_scores(samples, jnp.array([4.0, 4.0])), [2 / np.sqrt(4 / 3), 0], rtol=1e-12)
    assert np.allclose(calibration.z_scores(jnp.ones((3, 2)), jnp.array([1.0, 2.0])), [0, np.inf])
    assert np.allclose(calibration.exact_coverage(samples, jnp.array([2.0, 4.0]), jnp.ones(2), 0.5), 1 / 3)  # |x - mu| <= .67: one of three in each
    assert calibration.rank(jax.random.key(0), samples, jnp.array([2.5, 7.0])).tolist() == [2, 3]


def test_exact_samples_and_wrong_ones(draws):
    """Samples of the posterior pass; a shift of .3 and a spread of .8 posterior standard deviations come back as these numbers."""
    mean, std = full(MEAN), full(STD)
    wrong = MEAN + 0.3 * STD + 0.8 * (draws - MEAN)
    # 2,000 pixels of 200 samples: standard errors of b^2 1.6e-4, of the ratio 1.1e-3, of the share 5e-4; four of each are allowed
    assert abs(calibration.bias(draws, mean, std) ** 2 - 1 / NUM) < 7e-4
    assert calibration.bias(draws, mean, std, debias=True) ** 2 < 7e-4
    assert abs(calibration.std_ratio(draws, std) - (1 - 1 / (4 * NUM))) < 4.5e-3
    assert abs(calibration.exact_coverage(draws, mean, std) - 0.9) < 2e-3
    assert abs(calibration.bias(wrong, mean, std, debias=True) - 0.3) < 4.5e-3  # sd .8 / sqrt(200 * 2000) = 1.3e-3
    assert abs(calibration.std_ratio(wrong, std) - 0.8 * (1 - 1 / (4 * NUM))) < 4e-3
    q = stats.norm.ppf(0.95)
    assert abs(calibration.exact_coverage(wrong, mean, std) - (stats.norm.cdf((q - 0.3) / 0.8) - stats.norm.cdf((-q - 0.3) / 0.8))) < 2e-3


def test_coverage_curve(rng, draws):
    """Nominal for draws of one law, one truth or many; Student's law of a wrong spread; the same as `coverage` at one level."""
    levels, few = [0.2, 0.5, 0.8, 0.95], draws[:9]
    truths = MEAN + STD * rng.normal(size=(20, PIXELS))
    assert np.allclose(calibration.coverage_curve(few, truths[0], levels), levels, atol=0.045)  # four standard errors of 2,000 pixels
    # 40,000 entries that share the samples of 2,000 pixels: the standard error lies below .007
    assert np.allclose(calibration.coverage_curve(few, truths, levels), levels, atol=0.028)
    expected = 1 - 2 * stats.t.sf(0.5 * stats.t.ppf((1 + np.array(levels)) / 2, NUM - 1), NUM - 1)
    narrow = MEAN + 0.5 * (draws - MEAN)  # spread halved: z doubles, as the error of the mean is small against it
    assert np.allclose(calibration.coverage_curve(narrow, truths, levels), expected, atol=0.012)  # .002 of that model, .01 of chance
    assert calibration.coverage_curve(few, truths[0], [0.9]) == coverage(few, truths[0], 0.9)


def test_z_scores_have_students_law(rng, draws):
    """Kolmogorov-Smirnov against t of K - 1 degrees; the normal law is refused for 4 samples."""
    truth = MEAN + STD * rng.normal(size=PIXELS)
    z = np.asarray(calibration.z_scores(draws[:4], truth))
    assert stats.kstest(z, stats.t(3).cdf).pvalue > 1e-3
    assert stats.kstest(z, stats.norm.cdf).pvalue < 1e-3


@pytest.mark.parametrize("spread, shift", [(1.0, 0.0), (0.8, 0.0), (1.25, 0.0), (1.0, 0.3)], ids=["exact", "narrow", "wide", "biased"])
def test_simulation_based_calibration(key, rng, spread, shift):
    """x ~ N(0, 1), y = x + n / 2: the exact posterior N(.8 y, .2) passes, wrong ones show as ends, as a heap or as a slope."""
    num, size = 1500, 99
    x = rng.normal(size=(num, 3))
    y = x + 0.5 * rng.normal(size=x.shape)
    samples = 0.8 * y[:, None] + np.sqrt(0.2) * (shift + spread * rng.normal(size=(num, size, 3)))
    ranks = np.asarray(jax.vmap(calibration.rank)(jax.random.split(key, num), samples, x))
    statistic, p = calibration.uniformity(ranks, size)
    assert p.shape == statistic.shape == (3,)
    if (spread, shift) == (1.0, 0.0):
        assert p.min() > 1e-3
        return
    assert p.max() < 1e-8
    counts = np.bincount(ranks.ravel() // 10)
    ends, middle = (counts[0] + counts[-1]) / 2, counts[4:6].mean()
    assert {0.8: ends > 1.4 * middle, 1.25: middle > 1.4 * ends, 1.0: counts[0] > 1.4 * counts[-1]}[spread]


def test_uniformity_against_scipy(rng):
    """Bins of one size and of several."""
    ranks = rng.binomial(99, 0.5, 500) + np.arange(500) % 40 - 20
    for num_bins in (10, 7):
        bins, every = ranks * num_bins // 100, np.arange(100) * num_bins // 100
        expected = 5 * np.bincount(every)
        result = stats.chisquare(np.bincount(bins, minlength=num_bins), expected)
        assert np.allclose(calibration.uniformity(ranks, 99, num_bins), (result.statistic, result.pvalue), rtol=1e-9, atol=0)
    even = calibration.uniformity(np.arange(500) % 100, 99)
    assert np.allclose(even, (0, 1))


def test_ranks_of_ties_are_uniform(key, rng):
    """Coins: a truth among equal samples gets every rank equally often, which a count of `<` alone would not."""
    coins = rng.integers(0, 2, (2000, 10))
    ranks = jax.vmap(calibration.rank)(jax.random.split(key, 2000), coins[:, 1:], coins[:, 0])
    assert calibration.uniformity(ranks, 9)[1] > 1e-3
    assert calibration.uniformity(np.sum(coins[:, 1:] < coins[:, :1], 1), 9)[1] < 1e-6


def test_sliced_wasserstein_in_one_dimension(key, rng):
    """Both directions of a line give the sum over sorted samples, on paper and by SciPy, negative numbers and zeros too."""
    a, b = jnp.array([[3.0], [-1.0], [-0.0]]), jnp.array([[-2.0], [4.0], [0.0]])  # sorted: -1 0 3 and -2 0 4
    assert np.allclose(measure(key, a, b, 5, 2), np.sqrt(2 / 3), rtol=1e-12)
    x, y = rng.normal(size=(2, 50, 1))
    assert np.allclose(measure(key, x, y, 5, 1), stats.wasserstein_distance(x[:, 0], y[:, 0]), rtol=1e-12)


def test_sliced_wasserstein_of_shifts_and_stretches(key, rng):
    """Shifted and stretched clouds: |delta| / sqrt(d) and |s - 1| times the RMS per coordinate; for p = 1 the mean of |cos|."""
    dim, num = 6, 4000
    a = rng.normal(size=(100, dim)) - 1
    delta = np.arange(1.0, dim + 1)
    length = np.linalg.norm(delta)
    # directions: relative standard error of the mean of cos^2 is sqrt(2 (d - 1) / (d + 2) / 4000) = .018, half of that in its root; four are allowed
    assert np.allclose(measure(key, a, a + delta[None], num, 2), length / np.sqrt(dim), rtol=0.036)
    root = np.sqrt(np.mean(a**2))
    assert np.allclose(measure(key, a, 1.5 * a, num, 2), 0.5 * root, rtol=0.036)
    mean_cos = special.gamma(dim / 2) / special.gamma((dim + 1) / 2) / np.sqrt(np.pi)
    assert np.allclose(measure(key, a, a + delta[None], num, 1), length * mean_cos, rtol=0.045)  # relative error of |cos| .7 / sqrt(4000), four times
    assert measure(key, a, a[::-1], num, 2) == 0


def test_sliced_wasserstein_is_its_definition(key, rng):
    """A loop over the directions in NumPy; float32 stays, NaN shows; the derivative is that of the sorted pairs."""
    a, b = rng.normal(size=(2, 30, 4))
    directions = np.stack([jax.random.normal(jax.random.fold_in(key, i), (4,)) for i in range(7)])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    def reference(a):
        return np.mean([np.mean(np.abs(np.sort(a @ t) - np.sort(b @ t)) ** 3) for t in directions]) ** (1 / 3)

    stretched = jax.jit(jax.value_and_grad(lambda t: sliced_wasserstein(key, a * t, b, 7, order=3)))
    value, slope = stretched(1.0)
    assert np.allclose(value, reference(a), rtol=1e-12)
    assert np.allclose(slope, (reference(a * (1 + 1e-6)) - reference(a * (1 - 1e-6))) / 2e-6, rtol=1e-7)
    assert np.isnan(stretched(np.nan)[0])
    assert jax.eval_shape(lambda a: sliced_wasserstein(key, a, a, 7), a.astype("float32")).dtype == jnp.float32


def test_chunks_bound_the_memory(key, rng, monkeypatch):
    """The same number whatever the chunk, the last one being shorter, and temporaries of one chunk only."""
    module = importlib.import_module("medjax.metrics.sliced_wasserstein")
    a, b = rng.normal(size=(2, 64, 3))
    whole = measure(key, a, b, 1000, 2)
    monkeypatch.setattr(module, "_ENTRIES", 64 * 7)
    chunked = jax.jit(lambda a, b: sliced_wasserstein(key, a, b, 1000)).lower(a, b).compile()
    assert np.allclose(chunked(a, b), whole, rtol=1e-12)
    assert chunked.memory_analysis().temp_size_in_bytes < 1000 * 64 * 8 / 4


def test_bad_input(key):
    """One line that says what was found."""
    samples, mean, std = jnp.zeros((4, 3)), jnp.zeros(3), jnp.ones(3)
    for call, match in [
        (lambda: calibration.bias(samples, jnp.zeros(4), std), r"samples are \[4, 3\], .* must be \[3\], got \[4\]"),
        (lambda: calibration.bias(samples, mean, 0 * std), "std is 0, more than 0"),
        (lambda: calibration.bias(samples[:1], mean, std, debias=True), "at least 2 samples"),
        (lambda: calibration.std_ratio(samples[:1], std), "at least 2 samples"),
        (lambda: calibration.z_scores(samples, jnp.zeros((4, 3))), r"got \[4, 3\]"),
        (lambda: calibration.exact_coverage(samples, mean, std, 1.5), "level is 1.5"),
        (lambda: calibration.coverage_curve(samples, jnp.zeros((2, 4)), [0.9]), r"must be \[3\], got \[4\]"),
        (lambda: calibration.coverage_curve(samples, mean, [0.9, -0.1]), "a level is"),
        (lambda: calibration.rank(key, samples, jnp.zeros(2)), r"got \[2\]"),
        (lambda: calibration.uniformity(np.arange(9), 99), "at least 10 simulations, got 9"),
        (lambda: calibration.uniformity(np.arange(20), 9), "from 0 to 19, 0 to 9"),
        (lambda: calibration.uniformity(np.arange(10), 9, 11), "num_bins is 11, 2 to 10"),
        (lambda: sliced_wasserstein(key, samples, samples[:3]), r"got \[4, 3\] and \[3, 3\]"),
        (lambda: sliced_wasserstein(key, samples, samples, order=0.5), "at least 1 are needed, got 0.5"),
    ]:
        with pytest.raises(ValueError, match=match):
            call()


def test_broken_samples_are_not_scored(key):
    """NaN stays NaN, or is refused where a number of samples is asked for; complex numbers have no order."""
    samples = jax.random.normal(key, (20, 3)).at[4, 1].set(jnp.nan)
    assert jnp.isnan(calibration.exact_coverage(samples, jnp.zeros(3), jnp.ones(3)))
    with pytest.raises(ValueError, match="NaN, which has no rank"):
        calibration.rank(key, samples, jnp.zeros(3))
    with pytest.raises(ValueError, match="complex samples"):
        calibration.rank(key, jnp.ones((20, 3), complex), jnp.zeros(3))
