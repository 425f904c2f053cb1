"""Contract of every metric: hand-computed values, a second implementation, and edge cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medjax.metrics.confidence_interval import confidence_interval
from medjax.metrics.coverage import coverage
from medjax.metrics.nmse import nmse
from medjax.metrics.psnr import psnr
from medjax.metrics.ssim import ssim

# name -> (metric, value for equal images, better is larger)
METRICS = {"psnr": (psnr, np.inf, True), "ssim": (ssim, 1.0, True), "nmse": (nmse, 0.0, False)}
cases = pytest.mark.parametrize("metric, perfect, larger", METRICS.values(), ids=METRICS)


def pair(key):
    reference = jax.random.uniform(key, (32, 40)).cumsum(0)
    return reference + 0.3 * jax.random.normal(jax.random.fold_in(key, 1), reference.shape), reference


@cases
def test_equal_images_and_order(key, metric, perfect, larger):
    """Equal images score perfectly, more noise scores worse, jit and vmap give the same."""
    noisy, reference = pair(key)
    assert np.allclose(metric(reference, reference), perfect, atol=1e-12)
    worse = reference + 3 * (noisy - reference)
    assert (metric(noisy, reference) > metric(worse, reference)) == larger
    batch = jax.jit(jax.vmap(metric))(jnp.stack([noisy, worse]), jnp.stack([reference, reference]))
    assert np.allclose(batch, [metric(noisy, reference), metric(worse, reference)], rtol=1e-10)


def test_against_scikit_image(key):
    """PSNR and SSIM with the same window and range."""
    noisy, reference = (np.asarray(a) for a in pair(key))
    span = reference.max() - reference.min()
    assert np.allclose(psnr(noisy, reference), peak_signal_noise_ratio(reference, noisy, data_range=span), rtol=1e-10)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": span}
    assert np.allclose(ssim(noisy, reference), structural_similarity(reference, noisy, **options), rtol=1e-6)


def test_hand_values():
    """Values that fit on paper."""
    reference = jnp.array([[0.0, 2.0], [2.0, 0.0]])
    assert np.allclose(psnr(reference + 0.2, reference), 20.0)  # 10 log10(4 / .04)
    assert np.allclose(nmse(reference + 0.2, reference), 0.02)  # 4 * .04 / 8
    assert np.allclose(nmse(1j * reference, reference), 2.0)
    assert psnr(reference, jnp.ones((2, 2))) == -np.inf  # a constant reference has no range
    with pytest.raises(ValueError, match=r"at least 11 x 11 pixels, got \[2, 2\]"):
        ssim(reference, reference)


@pytest.mark.parametrize("num_samples", [2, 4, 8, 50])
def test_coverage_is_nominal_for_draws_of_one_law(key, num_samples):
    """Truth and samples from one Gaussian: 90 % whatever the number of samples."""
    draws = 3 + 2 * jax.random.normal(key, (num_samples + 1, 40_000))
    assert abs(coverage(draws[1:], draws[0]) - 0.9) < 0.006  # four standard errors of 40,000 pixels


def test_coverage_sees_samples_that_are_too_sure(key):
    """Samples of a third of the right spread cover about 42 %; two samples are needed."""
    draws = jax.random.normal(key, (9, 40_000))
    share = coverage(draws[1:] / 3, draws[0])
    assert 0.35 < share < 0.55
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        coverage(draws[:1], draws[0])
    with pytest.raises(ValueError, match=r"their truth must be \[40000\], got \[1\]"):
        coverage(draws[1:], draws[0, :1])
    with pytest.raises(ValueError, match="level is 1.5"):
        coverage(draws[1:], draws[0], level=1.5)
    assert jnp.isnan(coverage(draws[1:].at[0, 0].set(jnp.nan), draws[0]))  # broken, not too sure


def test_confidence_interval():
    """Student's interval of 1, 2, 3; one case has no width."""
    mean, half = confidence_interval([1.0, 2.0, 3.0])
    assert np.allclose([mean, half], [2.0, 4.302652729911275 / np.sqrt(3)], rtol=1e-9)
    assert confidence_interval([5.0]) == (5.0, np.inf)
    with pytest.raises(ValueError, match="at least one case"):
        confidence_interval([])
