"""What happens to rays on their way to a sinogram: counts, dose, scatter, blur, metal, truncation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import poisson

from medjax.operators.fbp import fbp
from medjax.operators.focal_blur import focal_blur
from medjax.operators.parallel_beam import parallel_beam
from medjax.operators.uniform_views import uniform_views
from medjax.physics.beer_lambert import line_integral, transmitted
from medjax.physics.contrast import local_contrast, measured_snr, quantum_snr
from medjax.physics.extend_truncated import extend_truncated
from medjax.physics.interpolate_trace import interpolate_trace
from medjax.physics.lower_dose import lower_dose
from medjax.physics.metal_trace import metal_trace
from medjax.physics.photon_counting import photon_counting
from medjax.physics.scatter import scatter
from medjax.physics.transmission_counts import transmission_counts


def test_beer_lambert_both_ways():
    z = jnp.array([0.0, 10.0, 300.0])
    intensity = transmitted(z, 1e4, 0.0193)
    assert np.isclose(intensity[1], 1e4 * np.exp(-0.193), rtol=1e-14)
    assert jnp.allclose(line_integral(intensity, 1e4, 0.0193), z, rtol=1e-12)
    assert jnp.allclose(line_integral(jnp.array([0.0, -3.0]), 1e4, least=1e-5), np.log(1e5), rtol=1e-12)
    assert jnp.all(jnp.isfinite(jax.grad(lambda i: jnp.sum(line_integral(i)))(jnp.zeros(2))))


def test_dead_air_bins_have_the_line_integral_of_dead_bins():
    counts, air = jnp.array([0.0, 5.0, 5.0, jnp.nan, 5.0]), jnp.array([0.0, 0.0, jnp.nan, 10.0, 10.0])
    wanted = np.log([1e9, 1e9, 1e9, 1e9, 2.0])
    assert jnp.allclose(line_integral(counts, air), wanted, rtol=1e-12)
    assert jnp.all(jnp.isfinite(jax.grad(lambda air: jnp.sum(line_integral(counts, air)))(air)))


@pytest.mark.parametrize("sigma_electronic, background", [(0.0, 0.0), (6.0, 0.0), (0.0, 30.0), (4.0, 10.0)])
def test_counts_have_the_mean_and_variance_of_theory(key, sigma_electronic, background):
    noise, num = transmission_counts(200.0, sigma_electronic, 0.5, background, dose_fraction=0.5), 100_000
    y = noise.sample(key, jnp.full((num,), 2.0))
    mean = 100 * np.exp(-1.0) + background
    variance = mean + sigma_electronic**2
    assert abs(float(jnp.mean(y)) - mean) < 5 * np.sqrt(variance / num)  # 5 standard errors
    assert abs(float(jnp.var(y)) / variance - 1) < 5 * np.sqrt(3 / num)  # 5 standard errors
    assert np.isclose(noise.sigma(jnp.asarray(mean)), np.sqrt(variance), rtol=1e-12)


def test_likelihood_of_counts_is_poisson():
    noise, counts = transmission_counts(50.0, mu=0.2, background=3.0), jnp.array([31.0, 0.0, 5.0])
    z = jnp.array([1.0, 20.0, 9.0])
    got = noise.log_likelihood(counts, z + 2) - noise.log_likelihood(counts, z)
    means = [50 * np.exp(-0.2 * (z + shift)) + 3 for shift in (2, 0)]
    assert np.isclose(got, poisson.logpmf(counts, means[0]).sum() - poisson.logpmf(counts, means[1]).sum(), rtol=1e-11)


@pytest.mark.parametrize("sigma_electronic", [0.0, 2.0])
def test_counts_are_unbiased_where_logarithms_are_not(key, sigma_electronic):
    """Many scans of one ray at 5 photons: their mean logarithm is off by about 1 / (2 N), their likelihood is not."""
    mean, num, truth = 5.0, 100_000, np.log(20.0)
    z = jnp.full((num,), truth)
    counts = transmission_counts(100.0, sigma_electronic)
    y = counts.sample(key, z)

    def newton(_, z):
        score = jax.grad(lambda z: counts.log_likelihood(y, jnp.full((num,), z)))
        return z - score(z) / jax.grad(score)(z)

    best = jax.jit(lambda: jax.lax.fori_loop(0, 20, newton, jnp.asarray(2.0)))()
    error = np.sqrt((mean + sigma_electronic**2) / num) / mean
    # without electronic noise the maximum is the logarithm of the mean count
    if sigma_electronic == 0:
        assert np.isclose(best, np.log(100 / jnp.mean(y)), rtol=1e-10)
    # counts + variance below 0 are cut off: a tenth of the bias of logarithms
    clipped = float(jnp.mean(jnp.maximum(-(y + sigma_electronic**2), 0))) / mean
    assert abs(best - truth + clipped) < 5 * error  # 5 standard errors
    log_bias = float(jnp.mean(photon_counting(100.0, sigma_electronic).sample(key, z))) - truth
    assert log_bias > 0.06 and log_bias > 20 * abs(best - truth)


@pytest.mark.parametrize("mean", [20.0, 100.0])
def test_bias_of_the_logarithm_is_half_an_inverse_count(key, mean):
    num = 100_000
    y = photon_counting(1e3).sample(key, jnp.full((num,), np.log(1e3 / mean)))
    bias = float(jnp.mean(y)) - np.log(1e3 / mean)
    # next term of the series 5 / (12 N^2), and 5 standard errors
    assert abs(bias - 1 / (2 * mean)) < 0.5 / mean**2 + 5 / np.sqrt(mean * num)
    assert bias > 0.4 / mean


@pytest.mark.parametrize("sigma_electronic", [0.0, 3.0])
def test_no_photon_at_all_has_a_likelihood(sigma_electronic):
    for dtype in (jnp.float32, jnp.float64):
        noise = transmission_counts(10.0, sigma_electronic)
        y, z = jnp.array([0.0, 0.0, 3.0], dtype), jnp.array([0.0, 500.0, 500.0], dtype)
        value, slope = jax.value_and_grad(noise.log_likelihood, 1)(y, z)
        assert jnp.isfinite(value) and jnp.all(jnp.isfinite(slope)) and slope.dtype == dtype
        assert jnp.all(jnp.isfinite(noise.sigma(y))) and jnp.all(noise.sigma(y) > 0)
        assert np.isclose(slope[0], 10.0 if sigma_electronic == 0 else 10 - 9 * 10 / 19, rtol=1e-6)  # float32
        if sigma_electronic == 0:
            assert np.isclose(slope[2], -3, rtol=1e-6)  # float32; the counts pull z down, though exp(-500) is 0


@pytest.mark.parametrize("model", [transmission_counts, photon_counting])
def test_dead_bins_have_no_weight_and_no_nan(key, model):
    support = jnp.array([1.0, 0.0, 1.0])
    noise, whole = model(100.0, 2.0, support=support), model(100.0, 2.0)
    z = jnp.array([[0.3, 0.4, 0.5], [1.0, 1.1, 1.2]])
    y = noise.sample(key, z)
    assert jnp.all(y[:, 1] == 0) and jnp.array_equal(y[:, ::2], whole.sample(key, z)[:, ::2])
    broken = y.at[:, 1].set(jnp.nan)
    assert jnp.array_equal(noise.sigma(broken)[:, 1], jnp.full(2, jnp.inf)) and jnp.all(1 / noise.sigma(broken)[:, 1] ** 2 == 0)
    slope = jax.grad(noise.log_likelihood, 1)(broken, z)
    assert jnp.all(slope[:, 1] == 0) and jnp.allclose(slope[:, ::2], jax.grad(whole.log_likelihood, 1)(y, z)[:, ::2], rtol=1e-12)
    assert np.isclose(noise.log_likelihood(broken, z), whole.log_likelihood(y[:, ::2], z[:, ::2]), rtol=1e-12)


def test_dose_is_a_factor_of_the_photons(key):
    z = jnp.linspace(0.0, 3.0, 5)
    for model in (transmission_counts, photon_counting):
        assert jnp.array_equal(model(4e3, 2.0, dose_fraction=0.25).sample(key, z), model(1e3, 2.0).sample(key, z))
        for bad in ({"dose_fraction": 0.0}, {"dose_fraction": 2.0}, {"mu": 0.0}, {"sigma_electronic": -1.0}):
            with pytest.raises(ValueError, match=next(iter(bad))):
                model(1e3, **bad)


@pytest.mark.parametrize("fraction, sigma_electronic", [(0.25, 0.0), (0.1, 8.0)])
def test_lower_dose_has_the_variance_of_a_scan_at_that_dose(fraction, sigma_electronic):
    num, mu, truth = 100_000, 0.02, 100.0
    z = jnp.full((num,), truth)
    keys = [jax.random.key(i) for i in (5, 6, 7)]
    full = photon_counting(5e4, sigma_electronic, mu).sample(keys[0], z)
    low = lower_dose(keys[1], full, 5e4, fraction, sigma_electronic, mu)
    true = photon_counting(5e4, sigma_electronic, mu, dose_fraction=fraction).sample(keys[2], z)
    # 5 standard errors of two variances, and the next order of the logarithm's variance, 1 / N
    assert np.isclose(jnp.var(low), jnp.var(true), rtol=5 * np.sqrt(4 / num) + 2 / (fraction * 5e4 * np.exp(-2)))
    assert np.isclose(jnp.mean(low), jnp.mean(full), rtol=0, atol=5 * float(jnp.std(low)) / np.sqrt(num))  # 5 standard errors
    assert jnp.array_equal(lower_dose(keys[0], full, 5e4, 1.0, sigma_electronic, mu), full)
    assert jnp.all(jnp.isfinite(jax.grad(lambda y: jnp.sum(lower_dose(keys[0], y, 5e4, 1.0)))(z)))
    with pytest.raises(ValueError, match="dose_fraction"):
        lower_dose(keys[0], full, 5e4, 1.5)


@pytest.mark.parametrize("sigma_electronic", [0.0, 5.0])
def test_starved_rays_have_the_noise_of_half_a_photon(key, sigma_electronic):
    """Also where exp(-mu y) is 0."""
    starved, half = jnp.array([1e5]), jnp.array([np.log(2e3)])
    noise = photon_counting(1e3, sigma_electronic)
    assert jnp.isfinite(noise.sigma(starved)) and jnp.allclose(noise.sigma(starved), noise.sigma(half), rtol=1e-12)
    added = [lower_dose(key, y, 1e3, 0.5, sigma_electronic) - y for y in (starved, half)]
    assert added[1] != 0 and jnp.allclose(*added, rtol=1e-9)  # the difference of numbers near 1e5


def test_scatter_behind_a_slab_and_before_the_logarithm():
    slab, open_beam = jnp.exp(-jnp.full((2, 300), 4.0)) * 1e5, 1e5
    ratio = scatter(slab, open_beam, amplitude=0.05, width=20.0, detector_spacing=1.0) / slab
    assert np.isclose(ratio[0, 150], 0.05 * 4, rtol=1e-9)  # the scatter-to-primary ratio of a wide slab is A tau
    assert np.isclose(ratio[0, 0], 0.05 * 4 * (0.5 + 0.5 / (20 * np.sqrt(2 * np.pi))), rtol=1e-3)  # half the kernel, and half of its middle bin
    point = jnp.full((1, 101), 1.0).at[0, 50].set(np.exp(-1.0))
    profile = scatter(point, 1.0, amplitude=0.1, width=8.0, detector_spacing=2.0, pedestal=0.01)[0] - 0.01
    k = np.arange(101) - 50
    shape = np.exp(-0.5 * (k * 2 / 8) ** 2)
    assert np.allclose(profile, 0.1 * np.exp(-1.0) * shape / shape.sum(), rtol=1e-6, atol=1e-12)  # tails beyond the detector
    both = scatter(jnp.full((2, 90, 100), 0.3), 1.0, amplitude=0.1, width=5.0, num_axes=2)
    assert np.isclose(both[1, 45, 50], 0.1 * 0.3 * -np.log(0.3), rtol=1e-9)
    # it adds to counts and shortens the line integrals: log(1 + s / p)
    noise = transmission_counts(1e5, background=0.2 * slab)
    y = noise.sample(jax.random.key(1), jnp.full(slab.shape, 4.0))
    assert np.isclose(4 - float(jnp.mean(line_integral(y, 1e5))), np.log(1.2), rtol=0.01)  # 600 rays of 2200 counts
    with pytest.raises(ValueError, match="num_axes"):
        scatter(slab, 1.0, num_axes=3)
    with pytest.raises(ValueError, match="num_axes = 2 axes or more"):
        scatter(slab[0], 1.0, num_axes=2)
    for bad in ({"width": 0.0}, {"width": np.nan}, {"detector_spacing": -1.0}):
        with pytest.raises(ValueError, match=f"positive {next(iter(bad))}"):
            scatter(slab, 1.0, **bad)


def test_scatter_has_finite_gradients_in_air_and_shadow():
    primary = jnp.array([[1.0, 1.2, 0.0, 0.5]])
    for beta in (0.5, 1.0):
        assert jnp.all(jnp.isfinite(jax.grad(lambda p, beta=beta: jnp.sum(scatter(p, 1.0, beta=beta, alpha=-0.1)))(primary)))


@pytest.mark.parametrize("shape, variance", [("box", 1 / 12), ("gaussian", 1 / (8 * np.log(2)))])
def test_blur_has_the_width_of_penumbra_and_aperture(shape, variance):
    spot, magnification, aperture, spacing = 1.5, 2.2, 2.0, 0.5
    kernel = np.asarray(focal_blur(spot, magnification, spacing, aperture, shape).kernel)
    k = (np.arange(len(kernel)) - len(kernel) // 2) * spacing
    assert np.isclose(kernel.sum(), 1, rtol=1e-12) and np.allclose(kernel, kernel[::-1], rtol=1e-12)
    penumbra = spot * (magnification - 1)
    # the hat that shares fine samples among bins adds at most spacing^2 / 4; the Gaussian ends at 2.55 of its widths
    assert np.isclose(np.sum(kernel * k**2), penumbra**2 * variance + aperture**2 / 12, rtol=0.02, atol=spacing**2 / 4)


def test_blur_keeps_the_middle_and_refuses_bad_widths(key):
    y = jax.random.normal(key, (3, 20))
    assert jnp.allclose(focal_blur(0.0, 2.0)(y), y, rtol=0, atol=1e-12)
    assert jnp.allclose(focal_blur(1.0, 2.5)(jnp.ones((1, 20)))[0, 5:15], 1, rtol=1e-12)
    wrong = ((-1.0, 2.0), (1.0, 0.5), (1.0, 2.0, 0.0), (1.0, 2.0, 1.0, -1.0), (np.nan, 2.0), (1.0, np.nan), (1.0, np.inf), (1.0, 2.0, np.nan))
    for bad in (*wrong, (1.0, 2.0, 1.0, 0.0, "disc")):
        with pytest.raises(ValueError, match="focal_blur (needs finite|knows)"):
            focal_blur(*bad)


def test_interpolation_across_a_trace_by_hand():
    y = jnp.array([[9.0, 1.0, jnp.nan, jnp.nan, 4.0, 7.0], [jnp.nan, jnp.nan, 2.0, 3.0, jnp.nan, jnp.nan], [jnp.nan] * 6])
    filled = interpolate_trace(y, jnp.isnan(y))
    assert jnp.allclose(filled, jnp.array([[9.0, 1.0, 2.0, 3.0, 4.0, 7.0], [2.0, 2.0, 2.0, 3.0, 3.0, 3.0], [0.0] * 6]), rtol=1e-14)
    slope = jax.grad(lambda y: jnp.sum(interpolate_trace(y, jnp.isnan(y)) * jnp.arange(6.0)[None]))(y)
    assert jnp.allclose(slope[0], jnp.array([0.0, 1 + 2 * 2 / 3 + 3 / 3, 0.0, 0.0, 4 + 2 / 3 + 2.0, 5.0]), rtol=1e-12)
    prior = jnp.array([[1.0, 2.0, 3.0, 5.0, 4.0, 2.0]])
    assert jnp.allclose(interpolate_trace(jnp.where(jnp.isnan(y[:1]), y[:1], 3 * prior), jnp.isnan(y[:1]), prior), 3 * prior, rtol=1e-12)


def test_metal_trace_and_reduction():
    """A disc of water with a piece of metal: filling the trace takes most of the error outside the metal, and the prior takes more."""
    size = 64
    A = parallel_beam(size, uniform_views(48), model="joseph")
    x = np.arange(size) - (size - 1) / 2
    r = np.hypot(x[:, None], x[None])
    water = jnp.asarray(1.0 * (r < 28))
    metal = jnp.asarray(1.0 * (np.hypot(x[:, None] - 6, x[None] - 9) < 3))
    project = jax.jit(lambda x: A(x))
    clean = project(water)
    trace = metal_trace(project, metal)
    assert trace.dtype == bool and jnp.all(trace.any(1)) and 5 <= int(trace[0].sum()) <= 9
    assert int(metal_trace(project, metal, 5.0).sum()) < int(trace.sum())
    data = jnp.minimum(project(water + 30 * metal), 60.0)  # starved behind metal
    outside = (r < 26) & (np.asarray(metal) == 0)
    reconstruct = jax.jit(lambda y: fbp(A, y))
    errors = [
        float(jnp.sqrt(jnp.mean((reconstruct(y) - reconstruct(clean))[outside] ** 2)))
        for y in (data, interpolate_trace(data, trace), interpolate_trace(data, trace, clean))
    ]
    assert errors[1] < 0.1 * errors[0] and errors[2] < 1e-10


def _disc_chords(radius, offset, num_angles, num, spacing):
    angles = np.asarray(uniform_views(num_angles))
    t = (np.arange(num) - (num - 1) / 2) * spacing
    distance = t[None] - offset * np.cos(angles)[:, None]
    return jnp.asarray(2 * np.sqrt(np.maximum(radius**2 - distance**2, 0)))


def test_extension_of_a_truncated_disc_is_the_disc():
    whole = _disc_chords(100.0, 12.0, 30, 121, 2.0)
    cut = whole[:, 30:-30]
    extend = jax.jit(extend_truncated, static_argnums=(1, 3))
    wide = extend(cut, 30, 2.0)
    assert wide.shape == whole.shape and jnp.array_equal(wide[:, 30:-30], cut)
    assert jnp.max(jnp.abs(wide - whole)) < 1e-5  # [mm]; square roots of rounding errors at the disc's rim
    cosine = extend(cut, 30, 2.0, "cosine")
    assert jnp.max(cosine[:, :2]) < 0.02 * jnp.max(whole) and jnp.all(jnp.diff(cosine[:, :30], axis=1) > 0)
    assert jnp.allclose(extend(whole, 5, 2.0), jnp.pad(whole, ((0, 0), (5, 5))), atol=1e-12)
    for method in ("water_cylinder", "cosine"):
        slope = jax.jit(jax.grad(lambda y, method=method: jnp.sum(extend_truncated(y, 10, 2.0, method) ** 2)))(whole)
        assert jnp.all(jnp.isfinite(slope))
    for bad in ({"method": "mirror"}, {"num_extra": -1}, {"num_fit": 1}):
        with pytest.raises(ValueError):
            extend_truncated(cut, **{"num_extra": 3, **bad})


def test_extension_removes_the_rim_of_a_truncated_reconstruction():
    """An ellipse wider than the detector: bright at the field's edge without extension."""
    views = uniform_views(60)
    wide = parallel_beam(96, views, num_detectors=96)
    x = np.arange(96) - 47.5
    image = jnp.asarray(1.0 * ((x[:, None] / 30) ** 2 + (x[None] / 44) ** 2 < 1))
    y = jax.jit(lambda x: wide(x))(image)
    cut = y[:, 20:-20]
    field = np.hypot(x[:, None], x[None]) < 24
    reconstruct = jax.jit(lambda y: fbp(wide, y))
    truth = reconstruct(y)

    def error(sinogram):
        return float(jnp.sqrt(jnp.mean((reconstruct(sinogram) - truth)[field] ** 2)))

    errors = [error(s) for s in (jnp.pad(cut, ((0, 0), (20, 20))), extend_truncated(cut, 20, method="cosine"), extend_truncated(cut, 20))]
    assert errors[0] > 0.1 and errors[1] < 0.5 * errors[0] and errors[2] < 0.1 * errors[0]


def test_contrast_and_quantum_noise(key):
    """Images of counts: the measured ratio is C sqrt(N_b), N_b the photons of a pixel."""
    assert np.isclose(local_contrast(110.0, 100.0), 0.1, rtol=1e-12) and local_contrast(90.0, 100.0) < 0
    target = jnp.zeros((300, 300)).at[100:200, 100:200].set(1)
    for photons, contrast in ((400.0, 0.2), (1600.0, 0.2), (400.0, -0.1)):
        image = 1.0 * jax.random.poisson(key, photons * (1 + contrast * target))
        got = measured_snr(image, target, 1 - target)
        # 5 standard errors: of the mean of 10,000 pixels, and of the deviation of 80,000
        assert abs(float(got - quantum_snr(contrast, photons))) < 5 * np.sqrt(1.3 / 1e4 + (contrast**2 * photons) / 1.6e5)
    assert np.isclose(quantum_snr(0.2, 1600.0), 2 * quantum_snr(0.2, 400.0), rtol=1e-12)
