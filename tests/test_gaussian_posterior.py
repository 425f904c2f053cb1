"""The posterior of a Gaussian prior and linear data, by block inversion, by scipy's densities and by the law of its samples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows_image import Matrix
from scipy import stats

from medjax.operators.algebra import compose, identity, scale
from medjax.operators.blur import blur
from medjax.operators.complex_channels import complex_channels
from medjax.operators.dense import dense
from medjax.operators.gradient import gradient
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.spectral import singular_system
from medjax.solvers.gaussian_posterior import gaussian_posterior

NUM_SAMPLES = 3000
_moments = jax.jit(lambda posterior: posterior.moments())
_mean = jax.jit(lambda posterior: posterior.mean())
_log_evidence = jax.jit(lambda posterior: posterior.log_evidence())
_samples = jax.jit(lambda posterior, keys: jax.vmap(posterior.sample)(keys))


@dataclasses.dataclass
class Case:
    """A posterior, and the same problem by numpy, complex numbers as pairs of reals: matrix, data, sigma, prior mean, prior covariance."""

    posterior: object
    matrix: np.ndarray
    y: np.ndarray
    sigma: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray


def _pairs(a):
    """A vector or a matrix of complex numbers as one of reals, for x = (real, imaginary)."""
    a = np.asarray(a)
    return np.concatenate([a.real, a.imag]) if a.ndim == 1 else np.block([[a.real, -a.imag], [a.imag, a.real]])


def _random(seed, *shape, dtype=float):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) + (1j * rng.normal(size=shape) if dtype is complex else 0)


def _covariance(dtype=float):
    """Full rank, one small eigenvalue."""
    factor = _random(0, 8, 8, dtype=dtype)
    return factor @ factor.conj().T / 8


def _real():
    w, y, m, sigma = _random(1, 5, 8), _random(2, 5), _random(3, 8), np.linspace(0.2, 0.6, 5)
    posterior = gaussian_posterior(
        Matrix(jnp.asarray(w)), jnp.asarray(y), jnp.asarray(sigma), prior_mean=m, covariance=_covariance(), tolerance=1e-12
    )
    return Case(posterior, w, y, sigma, m, _covariance())


def _complex():
    """A covariance that correlates real and imaginary parts."""
    w, y, m = (_random(i, *shape, dtype=complex) for i, shape in ((1, (5, 8)), (2, (5,)), (3, (8,))))
    A, covariance = Matrix(jnp.asarray(w)), _covariance(complex)
    posterior = gaussian_posterior(A, jnp.asarray(y), 0.4, prior_mean=m, covariance=covariance, strength=2.0, tolerance=1e-12)
    return Case(posterior, _pairs(w), _pairs(y), np.full(10, 0.4), _pairs(m), _pairs(covariance) / 2)


def _complex_smooth():
    """A complex image under a precision by its differences, k-space in part."""
    mask = np.random.default_rng(5).random((3, 4)) < 0.6
    A, y = masked_fourier(jnp.asarray(mask)), _random(2, 3, 4, dtype=complex) * mask
    posterior = gaussian_posterior(A, jnp.asarray(y), 0.3, G=gradient(), strength=3.0, floor=0.2, tolerance=1e-12)
    difference = np.asarray(dense(gradient(), (3, 4)))
    precision = _pairs(3 * difference.T @ difference + 0.2 * np.eye(12))
    return Case(posterior, _pairs(dense(A, (3, 4), complex)), _pairs(y.ravel()), np.full(24, 0.3), np.zeros(24), np.linalg.inv(precision))


def _channels():
    """The same kind of data of real x in two channels; only some were measured."""
    A = compose(masked_fourier(jnp.ones((2, 3))), complex_channels())
    y, m = _random(2, 2, 3, dtype=complex), _random(3, 2, 3, 2)
    sigma = np.array([[0.3, np.inf, 0.5], [0.2, 0.4, np.inf]])
    posterior = gaussian_posterior(A, jnp.asarray(y), jnp.asarray(sigma), prior_mean=m, strength=0.7, floor=0.1, tolerance=1e-12)
    matrix = np.asarray(dense(A, (2, 3, 2)))
    sigma = np.tile(sigma.ravel(), 2)
    measured = np.isfinite(sigma)
    stacked = np.concatenate([matrix.real, matrix.imag])[measured]
    return Case(posterior, stacked, _pairs(y.ravel())[measured], sigma[measured], m.ravel(), np.eye(12) / 0.8)


def _singular():
    """A prior on three numbers only, by a root that is no square."""
    root, w, y = _random(4, 8, 3), _random(1, 5, 8), _random(2, 5)
    posterior = gaussian_posterior(Matrix(jnp.asarray(w)), jnp.asarray(y), 0.5, root=Matrix(jnp.asarray(root)), tolerance=1e-12)
    return Case(posterior, w, y, np.full(5, 0.5), np.zeros(8), root @ root.T)


CASES = {"real": _real, "complex": _complex, "complex_smooth": _complex_smooth, "channels": _channels, "singular": _singular}
cases = pytest.mark.parametrize("case", [make() for make in CASES.values()], ids=CASES, scope="module")


def _exact(case):
    """Mean and covariance by the block inversion of the joint law of x and y."""
    gain = case.covariance @ case.matrix.T @ np.linalg.inv(case.matrix @ case.covariance @ case.matrix.T + np.diag(case.sigma**2))
    return case.mean + gain @ (case.y - case.matrix @ case.mean), case.covariance - gain @ case.matrix @ case.covariance


def _flat(x):
    """`[..., n]` -> reals."""
    return np.concatenate([x.real, x.imag], -1) if np.iscomplexobj(x) else x


@cases
def test_moments_are_those_of_the_joint_law(case):
    wanted_mean, wanted_covariance = _exact(case)
    mean, covariance = _moments(case.posterior)
    covariance = _pairs(covariance) if np.iscomplexobj(covariance) else covariance
    assert np.allclose(_flat(np.asarray(mean).ravel()), wanted_mean, rtol=0, atol=1e-11)
    assert np.allclose(covariance, wanted_covariance, rtol=0, atol=1e-11)
    assert np.allclose(_mean(case.posterior), mean, rtol=0, atol=1e-9)  # conjugate gradients to 1e-12 of the right-hand side


@cases
def test_evidence_is_the_density_of_the_data(case):
    covariance = case.matrix @ case.covariance @ case.matrix.T + np.diag(case.sigma**2)
    wanted = stats.multivariate_normal(case.matrix @ case.mean, covariance).logpdf(case.y)
    assert np.isclose(_log_evidence(case.posterior), wanted, rtol=0, atol=1e-10)


@cases
def test_samples_have_the_law_of_the_posterior(key, case):
    """Whitened by the exact law they are standard normal: mean, variances and correlations within chi-square bounds of 1e-6 and of both sides."""
    mean, covariance = _exact(case)
    found = np.asarray(_samples(case.posterior, jax.random.split(key, NUM_SAMPLES)))
    values, basis = np.linalg.eigh(covariance)
    there = values > 1e-10 * values[-1]
    white = (_flat(found.reshape(NUM_SAMPLES, -1)) - mean) @ basis
    assert np.abs(white[:, ~there]).max(initial=0) < 1e-6  # where the prior knows, samples do not vary
    white = white[:, there] / np.sqrt(values[there])
    size = white.shape[1]
    moments = white.T @ white / NUM_SAMPLES
    statistics = {  # statistic, degrees of freedom
        "mean": (NUM_SAMPLES * np.sum(white.mean(0) ** 2), size),
        "total": (np.sum(white**2), NUM_SAMPLES * size),
        "correlations": (NUM_SAMPLES * np.sum(np.tril(moments, -1) ** 2), size * (size - 1) // 2),
    }
    for name, (statistic, freedom) in statistics.items():
        low, high = stats.chi2.ppf([1e-6, 1 - 1e-6], freedom)
        assert low < statistic < high, (name, statistic, freedom)
    variances = NUM_SAMPLES * np.diag(moments)
    low, high = stats.chi2.ppf([1e-6, 1 - 1e-6], NUM_SAMPLES)
    assert variances.min() > low and variances.max() < high
    assert stats.kstest(white.ravel(), "norm").pvalue > 1e-6


def test_a_large_sample_has_the_spectrum_of_the_posterior(key):
    """A periodic blur has a posterior that is diagonal in frequencies: 32 x 32 pixels of one sample tell it."""
    kernel = jnp.array([[0.05, 0.1, 0.05], [0.1, 0.4, 0.1], [0.05, 0.1, 0.05]])
    A, sigma, strength = blur(kernel, (32, 32)), 0.1, 2.0
    y = A(jax.random.normal(key, (32, 32)))
    posterior = gaussian_posterior(A, y, sigma, strength=strength, tolerance=1e-10)
    transfer = np.fft.fft2(np.asarray(A(jnp.zeros((32, 32)).at[0, 0].set(1))))
    precision = np.abs(transfer) ** 2 / sigma**2 + strength
    mean = np.fft.ifft2(transfer.conj() * np.fft.fft2(y) / sigma**2 / precision).real
    assert np.allclose(_mean(posterior), mean, rtol=0, atol=1e-8)
    sample = jax.jit(lambda posterior, key: posterior.sample(key))(posterior, jax.random.fold_in(key, 1))
    power = np.abs(np.fft.fft2(np.asarray(sample) - mean, norm="ortho")) ** 2 * precision
    for part in (precision < np.median(precision), precision >= np.median(precision), precision > 0):
        low, high = stats.chi2.ppf([1e-6, 1 - 1e-6], part.sum())
        assert low < power[part].sum() < high  # a pair of conjugate frequencies holds two independent numbers


def test_mean_is_tikhonovs():
    """The strength of Tikhonov's regularisation is that of the prior times sigma_y^2."""
    A, y = Matrix(jnp.asarray(_random(1, 5, 8))), jnp.asarray(_random(2, 5))
    posterior = gaussian_posterior(A, y, 0.3, strength=1.5, tolerance=1e-12)
    assert np.allclose(_mean(posterior), singular_system(A, (8,)).tikhonov(y, 1.5 * 0.09), rtol=0, atol=1e-10)


def test_mean_is_differentiable():
    """By data, noise, strengths and the operator: as the closed form is."""
    w, y = jnp.asarray(_random(1, 5, 6)), jnp.asarray(_random(2, 5))

    def value(theta, exact):
        w, y, sigma, strength, floor = theta
        posterior = gaussian_posterior(Matrix(w), y, sigma, G=Matrix(jnp.diff(jnp.eye(6), axis=0)), strength=strength, floor=floor, tolerance=1e-12)
        return jnp.sum(jnp.sin(posterior.moments()[0] if exact else posterior.mean()))

    theta = (w, y, jnp.linspace(0.2, 0.5, 5), jnp.asarray(0.7), jnp.asarray(0.1))
    exact, found = (jax.jit(jax.grad(value), static_argnums=1)(theta, exact) for exact in (True, False))
    for a, b in zip(exact, found, strict=True):
        assert np.allclose(a, b, rtol=1e-8, atol=1e-9)


def test_evidence_finds_the_strength_that_made_the_data(key):
    """Of A = I the maximum has a closed form, |y|^2 / n = 1 / strength + sigma^2."""
    sigma = 0.5
    y = jax.random.normal(key, (60,)) * np.sqrt(1 / 3 + sigma**2)
    strengths = jnp.geomspace(0.3, 30, 61)
    values = jax.jit(jax.vmap(lambda s: gaussian_posterior(identity(), y, sigma, strength=s).log_evidence()))(strengths)
    best = strengths[jnp.argmax(values)]
    assert np.isclose(1 / best + sigma**2, np.mean(y**2), rtol=0.04)  # a grid of 8 %


def test_precision_is_kept():
    A = Matrix(jnp.asarray(_random(1, 5, 8), jnp.float32))
    posterior = gaussian_posterior(A, jnp.zeros(5, jnp.float32), 0.3, G=identity(), floor=0.1)
    results = jax.eval_shape(lambda: (posterior.mean(), posterior.moments(), posterior.sample(jax.random.key(0)), posterior.log_evidence()))
    assert {a.dtype for a in jax.tree.leaves(results)} == {jnp.dtype("float32")}


def _posterior(**changes):
    options = {"A": Matrix(jnp.ones((5, 8))), "y": jnp.zeros(5), "sigma_y": 0.1, **changes}
    return gaussian_posterior(options.pop("A"), options.pop("y"), options.pop("sigma_y"), **options)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: _posterior(sigma_y=0.0), "sigma_y is 0, more than 0"),
        (lambda: _posterior(sigma_y=jnp.array([1.0, 1, 1, 1, -2])), "sigma_y is -2"),
        (lambda: _posterior(sigma_y=jnp.ones(3)), "y \\[5\\], got .* sigma_y \\[3\\]"),
        (lambda: _posterior(prior_mean=jnp.ones(3)), "x is \\[8\\] .* prior_mean \\[3\\]"),
        (lambda: _posterior(strength=-1.0), "strength is -1"),
        (lambda: _posterior(floor=-1.0), "floor is -1"),
        (lambda: _posterior(covariance=jnp.eye(3)), "covariance \\[8, 8\\] is needed, got \\[3, 3\\]"),
        (lambda: _posterior(covariance=-jnp.eye(8)), "eigenvalue of -1, none below 0"),
        (lambda: _posterior(covariance=jnp.eye(8), G=gradient()), "one of covariance, root and \\(G, floor\\)"),
        (lambda: _posterior(covariance=jnp.eye(8), floor=0.1), "one of"),
        (lambda: _posterior(G=scale(jnp.asarray(0.0), identity())).moments(), "not positive definite: a floor above 0"),
        (lambda: _posterior(G=scale(jnp.asarray(0.0), identity())).log_evidence(), "not positive definite"),
    ],
)
def test_refuses(call, text):
    with pytest.raises(ValueError, match=text) as error:
        call()
    assert "\n" not in str(error.value)
