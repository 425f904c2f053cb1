"""Whether the samples of a posterior are what they claim to be: against its exact moments, one truth, or the truths of many simulations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import chi2
from scipy.stats import norm as normal

from medjax import checks
from medjax.metrics.coverage import coverage


def bias(samples, mean, std, debias: bool = False):
    r"""Error of the mean of samples in exact standard deviations, RMS over pixels.

    .. math:: b^2 = \frac{1}{N} \sum_i \frac{(\bar x_i - \mu_i)^2}{\sigma_i^2}, \quad
        b_0^2 = \max\left(0, b^2 - \frac{1}{K N} \sum_i \frac{s_i^2}{\sigma_i^2}\right)

    Chance alone gives K independent samples of the posterior a b of 1 / sqrt(K): .032 for 1,000. What is expected of chance, by the sample
    variances s^2, is taken off in b_0.

    Args:
      samples: `[K, ...]` real, independent of each other.
      mean: `[...]` exact posterior mean mu.
      std: `[...]` exact posterior standard deviation sigma.
      debias: b_0 in place of b, which needs K >= 2.

    Returns:
      Scalar.

    Raises:
      ValueError: where shapes differ, samples are too few or std is not positive.

    Reference:
      The definition; b^2 exceeds the square of the true error by its variance, :math:`E (\bar x - \mu)^2 = (E \bar x - \mu)^2 + s^2 / K`.
    """
    _check(samples, mean, std, least=2 if debias else 1)
    square = jnp.mean(((jnp.mean(samples, 0) - mean) / checks.positive(std, "std")) ** 2)
    if debias:
        square = jnp.maximum(square - jnp.mean(jnp.var(samples, 0, ddof=1) / std**2) / samples.shape[0], 0)
    return jnp.sqrt(square)


def std_ratio(samples, std):
    r"""Standard deviation of samples over the exact one, mean over pixels.

    .. math:: \frac{1}{N} \sum_i s_i / \sigma_i

    1 - 1 / (4 K) is expected of K samples of a Gaussian posterior; below, samples are too sure.

    Args:
      samples: `[K, ...]` real, K >= 2.
      std: `[...]` exact posterior standard deviation sigma.

    Returns:
      Scalar.

    Raises:
      ValueError: where shapes differ, samples are too few or std is not positive.

    Reference:
      The definition, with the variance of K - 1 degrees of freedom.
    """
    _check(samples, std, least=2)
    return jnp.mean(jnp.std(samples, 0, ddof=1) / checks.positive(std, "std"))


def exact_coverage(samples, mean, std, level: float = 0.9):
    r"""Share of the samples in the central interval of the exact Gaussian posterior, over all pixels.

    .. math:: | x - \mu | \le \Phi^{-1}((1 + level) / 2) \; \sigma

    Args:
      samples: `[K, ...]` real.
      mean: `[...]` exact posterior mean mu.
      std: `[...]` exact posterior standard deviation sigma.
      level: nominal coverage.

    Returns:
      Scalar in [0, 1]: `level` for exact samples, above it for those that are too sure; NaN where a sample is.

    Raises:
      ValueError: where shapes differ or std is not positive.

    Reference:
      The definition.
    """
    _check(samples, mean, std)
    half = float(normal.ppf((1 + checks.fraction(level, "level")) / 2)) * checks.positive(std, "std")
    share = jnp.mean(jnp.abs(samples - jnp.asarray(mean)[None]) <= jnp.asarray(half)[None])
    return jnp.where(jnp.any(jnp.isnan(samples)), jnp.nan, share)


def coverage_curve(samples, reference, levels):
    r"""Share of a truth in the central prediction intervals of the samples, for each level.

    Args:
      samples: `[K, ...]` real, K >= 2.
      reference: `[...]` the truth, or `[n, ...]` draws of it from the posterior.
      levels: `[L]` nominal coverages.

    Returns:
      `[L]` in [0, 1]: equal to `levels` where truth and samples are draws of one Gaussian law, below where samples are too sure.

    Raises:
      ValueError: where shapes differ, samples are fewer than 2 or a level lies outside [0, 1].

    Reference:
      The intervals of `coverage`.
    """
    reference = jnp.asarray(reference)
    references = reference if reference.ndim == samples.ndim else reference[None]
    _check(samples, references[0], least=2)
    checks.fraction(np.asarray(levels), "a level")
    return jnp.stack([jnp.mean(jax.vmap(functools.partial(coverage, samples, level=float(level)))(references)) for level in levels])


def z_scores(samples, reference):
    r"""Error of the mean of samples against the truth, in the standard deviations that the samples promise.

    .. math:: z = (r - \bar x) / (s \sqrt{1 + 1 / K})

    Where truth and samples are draws of one Gaussian law z has Student's law with K - 1 degrees of freedom, so its variance is (K - 1) / (K - 3).

    Args:
      samples: `[K, ...]` real, K >= 2.
      reference: `[...]` real, the truth.

    Returns:
      `[...]`; 0 where the mean is the truth, infinite where all samples agree on something else.

    Raises:
      ValueError: where shapes differ or samples are fewer than 2.

    Reference:
      Student's prediction of one further draw of a normal law, as in `coverage`.
    """
    _check(samples, reference, least=2)
    error, spread = reference - jnp.mean(samples, 0), jnp.std(samples, 0, ddof=1) * jnp.sqrt(1 + 1 / samples.shape[0])
    return jnp.where(error == 0, 0, error / spread)


def rank(key, samples, truth):
    r"""How many of K posterior samples lie below the truth: the rank of simulation-based calibration.

    .. math:: r = \sum_{k=1}^K [x_k < x]

    Draw a truth from the prior, data from the truth and samples from the posterior: each value 0, ..., K is then equally likely. Repeat, and give
    the ranks to `uniformity`. For the rank of a statistic f pass f of each sample and f(truth).

    Args:
      key: draws the place of a truth among samples equal to it; another one for each simulation.
      samples: `[K, ...]` real, independent of each other: thin those of a Markov chain.
      truth: `[...]` real.

    Returns:
      `[...]` integers from 0 to K.

    Raises:
      ValueError: where shapes differ, or known samples hold NaN.

    Reference:
      Talts et al. (2018), Validating Bayesian inference algorithms with simulation-based calibration, https://arxiv.org/abs/1804.06788, theorem 1,
      with ties, of which continuous samples have none, drawn so that the theorem holds for them too.
    """
    _check(samples, truth)
    if checks.is_concrete(samples) and np.any(np.isnan(samples)):
        raise ValueError("samples hold NaN, which has no rank")
    below, ties = (jnp.sum(compare(samples, jnp.asarray(truth)[None]), 0) for compare in (jnp.less, jnp.equal))
    return below + jax.random.randint(key, ties.shape, 0, ties + 1)


def uniformity(ranks, num_samples: int, num_bins: int | None = None):
    r"""Pearson's test that ranks of many simulations are uniform on 0, ..., K.

    .. math:: \chi^2 = \sum_j (n_j - e_j)^2 / e_j, \quad p = P(\chi^2_{J - 1} \ge \chi^2)

    with n_j of the n ranks in bin j and e_j expected. Too many ranks at both ends: samples too sure; too few: too wide; a slope: biased.

    Args:
      ranks: `[n, ...]` of n independent simulations; those of each pixel are tested by themselves.
      num_samples: K, the number of samples of each simulation.
      num_bins: J, at most K + 1; by default at most 20, with 5 or more expected in each, as the law of the statistic asks.

    Returns:
      `(chi2, p)`, each `[...]`, of NumPy. p is uniform in [0, 1] for exact samples: of m pixels the smallest is about 1 / m.

    Raises:
      ValueError: for ranks outside 0, ..., K, fewer than 10 simulations or a number of bins that does not fit.

    Reference:
      Stan user's guide, chapter on simulation-based calibration, testing uniformity,
      https://mc-stan.org/docs/2_26/stan-users-guide/testing-uniformity.html; bins need not be of one size there either.
    """
    ranks, num = np.asarray(ranks), len(ranks)
    if num < 10:
        raise ValueError(f"uniformity needs at least 10 simulations, got {num}")
    if not np.all((ranks >= 0) & (ranks <= num_samples)):
        raise ValueError(f"ranks lie from {ranks.min()} to {ranks.max()}, 0 to {num_samples} is needed")
    num_bins = min(20, num_samples + 1, num // 5) if num_bins is None else num_bins
    if not 2 <= num_bins <= num_samples + 1:
        raise ValueError(f"num_bins is {num_bins}, 2 to {num_samples + 1} is needed")
    expected = num / (num_samples + 1) * np.bincount(np.arange(num_samples + 1) * num_bins // (num_samples + 1))
    bins = ranks * num_bins // (num_samples + 1)
    statistic = sum((np.sum(bins == j, 0) - e) ** 2 / e for j, e in enumerate(expected))
    return statistic, chi2.sf(statistic, num_bins - 1)


def _check(samples, *maps, least=1):
    """ValueError where there are too few samples or maps are not of their shape."""
    if jnp.ndim(samples) < 1 or len(samples) < least:
        raise ValueError(f"at least {least} samples [K, ...] are needed, got {list(jnp.shape(samples))}")
    if any(jnp.iscomplexobj(a) for a in (samples, *maps)):
        raise ValueError("complex samples or moments, real ones are needed: view them as two channels")
    for a in maps:
        if jnp.shape(a) != samples.shape[1:]:
            raise ValueError(
                f"samples are {list(samples.shape)}, their truth and moments must be {list(samples.shape[1:])}, got {list(jnp.shape(a))}"
            )
