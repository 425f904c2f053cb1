"""Measurement models against their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.physics.hounsfield import hounsfield
from medjax.physics.photon_counting import photon_counting


def test_hounsfield_units():
    units = hounsfield()
    assert jnp.allclose(units.encode(jnp.array([-1000.0, 0.0, 1000.0])), jnp.array([0.0, 1.0, 2.0]), rtol=0, atol=1e-12)
    image = jnp.linspace(-1000, 2000, 7)
    assert jnp.allclose(units.decode(units.encode(image)), image, rtol=0, atol=1e-9)
    assert units.name == "HU" and jnp.array_equal(units.display(image), image)


@pytest.mark.parametrize("sigma_electronic", [0.0, 10.0])
def test_counts_have_the_mean_and_variance_of_theory(key, sigma_electronic):
    noise, num = photon_counting(1e4, sigma_electronic), 40_000
    for z in (0.0, 2.0, 4.0):
        counts = 1e4 * jnp.exp(-noise.sample(key, jnp.full((num,), z)))
        mean = 1e4 * np.exp(-z)
        variance = mean + sigma_electronic**2
        assert abs(float(jnp.mean(counts)) - mean) < 5 * np.sqrt(variance / num)  # 5 standard errors
        assert abs(float(jnp.var(counts)) / variance - 1) < 5 * np.sqrt(2 / num + 1 / (variance * num))  # 5 standard errors


def test_sigma_and_bias_after_the_logarithm(key):
    noise, num, z = photon_counting(1e3, 3.0), 200_000, 2.0
    y = noise.sample(key, jnp.full((num,), z))
    mean = 1e3 * np.exp(-z)
    exact = np.sqrt(mean + 9.0) / mean
    assert np.isclose(noise.sigma(jnp.asarray(z)), exact, rtol=1e-9)
    assert np.isclose(jnp.std(y), exact, rtol=0.02)  # next order in 1 / N = .007, standard error .002
    bias = (mean + 9.0) / (2 * mean**2)
    assert abs(float(jnp.mean(y)) - z - bias) < 0.1 * bias  # next order 1 / N, standard error exact / sqrt(num) = .05 bias


def test_no_photon_gives_a_finite_ray(key):
    y = photon_counting(10.0).sample(key, jnp.full((100,), 20.0))
    assert jnp.allclose(y, jnp.log(20.0), rtol=1e-12)


@pytest.mark.parametrize("sigma_electronic", [0.0, 10.0])
def test_log_likelihood_peaks_at_the_data(key, sigma_electronic):
    noise = photon_counting(1e4, sigma_electronic)
    y = noise.sample(key, jnp.linspace(0.0, 4.0, 9))
    score = jax.grad(noise.log_likelihood, 1)
    assert jnp.max(jnp.abs(score(y, y))) < 1e-8 * 1e4
    curvature = -jnp.diag(jax.jacobian(lambda z: score(y, z))(y))
    assert jnp.allclose(curvature, 1 / noise.sigma(y) ** 2, rtol=1e-9)
    for shift in (-0.3, 0.2):
        assert noise.log_likelihood(y, y) > noise.log_likelihood(y, y + shift)


def test_attenuation_coefficient_only_rescales_the_data(key):
    plain, water, z = photon_counting(1e4, 5.0), photon_counting(1e4, 5.0, 0.0193), jnp.linspace(0.0, 300.0, 9)
    y = water.sample(key, z)
    assert jnp.allclose(0.0193 * y, plain.sample(key, 0.0193 * z), rtol=1e-9)
    assert jnp.allclose(0.0193 * water.sigma(y), plain.sigma(0.0193 * y), rtol=1e-9)
    assert jnp.allclose(water.log_likelihood(y, z), plain.log_likelihood(0.0193 * y, 0.0193 * z), rtol=1e-9)


def test_log_likelihood_is_poisson_without_electronic_noise():
    from scipy.stats import poisson

    noise, z = photon_counting(50.0), np.array([0.3, 1.1])
    counts = np.array([31, 12])
    y = -np.log(counts / 50.0)
    for other in (z, z + 0.4):
        got = noise.log_likelihood(jnp.asarray(y), jnp.asarray(other)) - noise.log_likelihood(jnp.asarray(y), jnp.asarray(z))
        wanted = poisson.logpmf(counts, 50 * np.exp(-other)).sum() - poisson.logpmf(counts, 50 * np.exp(-z)).sum()
        assert np.isclose(got, wanted, rtol=1e-10, atol=1e-10)
