"""PET and ultrasound: their physics in closed form, their statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows_ct import ANGLES
from scipy import signal

from medjax.operators.blur import blur
from medjax.operators.gaussian_kernel import gaussian_kernel
from medjax.operators.parallel_beam import parallel_beam
from medjax.operators.pet import pet
from medjax.operators.ultrasound import ultrasound
from medjax.physics.emission_counts import emission_counts
from medjax.physics.speckle import speckle


def test_attenuation_in_pet_does_not_know_the_depth():
    """A point source anywhere along a ray through a uniform square loses exp(-mu L)."""
    P = parallel_beam(15, np.zeros(1), 15, model="joseph")
    mu = jnp.zeros((15, 15)).at[3:13].set(0.0096)
    for depth in (0, 7, 14):
        counts = pet(P, mu, 0.5)(jnp.zeros((15, 15)).at[depth, 7].set(2.0))
        assert np.isclose(counts[0, 7], 0.5 * 2 * np.exp(-0.0096 * 10), rtol=1e-12)


def test_activity_and_attenuation_have_gradients_together():
    P, x = parallel_beam(12, ANGLES, model="joseph"), jnp.ones((12, 12))
    slope = jax.grad(lambda mu: jnp.sum(pet(P, mu)(x)))(jnp.full((12, 12), 0.01))
    wanted = -P.adjoint(jnp.exp(-P(jnp.full((12, 12), 0.01))) * P(x))
    assert np.allclose(slope, wanted, rtol=1e-12)


def test_emission_counts_are_poisson_after_the_background_is_taken_off(key):
    noise, z, num = emission_counts(4.0, 0.5, jnp.array([1.0, 0.0, 3.0])[:, None]), jnp.array([2.0, 10.0, 0.0])[:, None], 40_000
    y = noise.sample(key, jnp.broadcast_to(z, (3, num)))
    counts = 4 * (y + jnp.array([1.5, 0.5, 3.5])[:, None])
    assert np.allclose(counts, np.round(counts), rtol=0, atol=1e-9)
    mean = 4 * (z[:, 0] + jnp.array([1.5, 0.5, 3.5]))
    assert np.all(np.abs(np.mean(y, 1) - z[:, 0]) < 5 * np.sqrt(mean / num) / 4)  # 5 standard errors
    assert np.all(np.abs(np.var(counts, 1) / mean - 1) < 5 * np.sqrt(2 / num + 1 / (mean * num)))  # 5 standard errors
    assert np.allclose(noise.sigma(y) * 4, np.sqrt(np.maximum(counts, 1)), rtol=1e-12)


def test_emission_likelihood_is_poissons_and_peaks_at_the_data():
    noise, y = emission_counts(2.0, 0.5, 1.0), jnp.array([3.0, 0.0, 8.5])
    z = jnp.array([2.0, 1.0, 9.0])
    counts, mean = 2 * (y + 1.5), 2 * (z + 1.5)
    assert np.isclose(noise.log_likelihood(y, z), np.sum(counts * np.log(mean) - mean))
    assert np.allclose(jax.grad(noise.log_likelihood, 1)(y, y), 0, atol=1e-12)


def test_emission_without_counts_or_rate_has_no_nan(key):
    noise = emission_counts()
    y, z = jnp.array([0.0, 0.0, 2.0]), jnp.array([0.0, 1.0, 3.0])
    value, slope = jax.value_and_grad(noise.log_likelihood, 1)(y, z)
    assert np.isclose(value, -1 + 2 * np.log(3) - 3) and np.allclose(slope, [-1, -1, 2 / 3 - 1])
    impossible, slope = jax.value_and_grad(noise.log_likelihood, 1)(jnp.ones(1), jnp.zeros(1))
    assert impossible == -np.inf and np.all(np.isfinite(slope))
    assert np.array_equal(noise.sample(key, jnp.zeros(5)), np.zeros(5))


def _probe(shape=(24, 25), **options):
    geometry = {"first_depth": 8.0, "first_time": 9.0, "angles": (-0.1, 0.0, 0.1)} | options
    return ultrasound(shape, 0.15, 16, 0.3, 110, **geometry)


def test_an_echo_is_scipys_pulse_at_the_time_of_flight():
    """One scatterer under an element: RF made of the samples against `gausspulse`, whose bandwidth is at -6 dB, too."""
    A = _probe((1, 1), first_depth=10.78, first_time=12.0, angles=(0.0,), sampling_rate=20.0)
    line = A(jnp.ones((1, 1), complex))[0, 8]
    delay = (10.78 + np.hypot(10.78, 0.15)) / 1.54
    t = 12 + np.arange(110) / 20
    rf = np.real(line * np.exp(2j * np.pi * 5 * t))
    wanted = signal.gausspulse(t - delay, 5.0, 0.6, -6)
    assert np.max(np.abs(rf - wanted)) < 0.03  # linear interpolation between samples of the envelope


@pytest.mark.parametrize("options", [{}, {"sources": ((-1.0, 0.0), (1.0, 0.0), (0.0, -2.0)), "first_time": 9.0}, {"f_number": 1.0}])
def test_delay_and_sum_finds_the_scatterer(options):
    A = _probe(**options)
    image = jax.jit(lambda A, x: jnp.abs(A.adjoint(A(x))))(A, jnp.zeros((24, 25), complex).at[9, 17].set(1j))
    assert np.unravel_index(np.argmax(image), image.shape) == (9, 17)
    assert np.sum(np.asarray(image) > 0.5 * np.max(image)) < 40  # a spot of some resolution cells, not the whole image


def test_a_wrong_speed_of_sound_blurs_and_its_gradient_points_back():
    truth = _probe()
    y = truth(jnp.zeros((24, 25), complex).at[12, 12].set(1))

    def brightness(speed):
        return jnp.max(jnp.abs(_probe(sound_speed=speed).adjoint(y))) ** 2

    value_and_slope = jax.jit(jax.value_and_grad(brightness))
    (at_truth, _), (below, up), (above, down) = (value_and_slope(c) for c in (1.54, 1.44, 1.64))
    assert at_truth > below and at_truth > above and up > 0 > down


def _ratios(A, density, num):
    """Mean over standard deviation of the envelope, pooled over pixels in the middle and over `num` tissues."""

    def envelope(key):
        return jnp.abs(A.adjoint(A(speckle(key, jnp.ones((24, 25)), density))))[8:16:4, 8:17:4]

    images = np.asarray(jax.jit(lambda A, keys: jax.lax.map(envelope, keys))(A, jax.random.split(jax.random.key(0), num)))
    return np.mean(np.mean(images, 0) / np.std(images, 0))


def test_fully_developed_speckle_has_the_ratio_of_rayleigh():
    """sqrt(pi / (4 - pi)) = 1.913; a few scatterers far apart have less."""
    A, num = _probe(angles=(0.0,)), 500
    # the ratio of 500 Rayleigh draws has a standard error of 1.913 sqrt((.27 + .62) / 500) < .08; six correlated pixels are averaged
    assert abs(_ratios(A, None, num) - np.sqrt(np.pi / (4 - np.pi))) < 0.15
    assert abs(_ratios(A, 0.8, num) - 1.913) < 0.15
    assert _ratios(A, 0.004, num) < 1.3


def test_speckle_has_the_power_of_the_tissue(key):
    echogenicity = jnp.repeat(jnp.array([[0.0], [4.0]]), 20_000, axis=1)
    for density in (None, 0.3):
        x = speckle(key, echogenicity, density)
        assert not np.any(x[0]) and np.isclose(np.mean(np.abs(x[1]) ** 2), 4, rtol=0.06)  # 5 standard errors
        assert abs(np.mean(x[1] ** 2)) < 0.15  # circular


def test_positron_range_is_a_blur_before_the_projection():
    from medjax.operators.algebra import compose

    A = compose(pet(parallel_beam(12, ANGLES, model="joseph")), blur(gaussian_kernel(1.0, (5, 5)), (12, 12)))
    x = jnp.zeros((12, 12)).at[6, 6].set(1)
    assert np.isclose(jnp.sum(A(x)[0]), 1, rtol=0.03)  # Joseph keeps the mass of a view up to its interpolation


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: pet(parallel_beam(12, ANGLES, model="joseph"), normalisation=-1.0), "normalisation >= 0"),
        (lambda: pet(parallel_beam(12, ANGLES, model="joseph"), jnp.zeros((12, 12)), jnp.ones((2, 2))), "shape of the data"),
        (lambda: pet(parallel_beam(12, ANGLES, model="joseph"), normalisation=jnp.ones((2, 2))), "shape of the data"),
        (lambda: pet(parallel_beam(12, ANGLES, model="joseph"), jnp.zeros((12, 12), complex)), "real mu"),
        (lambda: pet(parallel_beam(12, ANGLES, model="joseph"), normalisation=1j), "real normalisation"),
        (lambda: pet(parallel_beam(12, ANGLES, model="joseph"), jnp.full((12, 12), jnp.nan)), "finite mu"),
        (lambda: emission_counts(0.0), "duration"),
        (lambda: emission_counts(1.0, -1.0), "randoms"),
        (lambda: _probe(first_depth=0.0), "first_depth > 0"),
        (lambda: _probe(first_depth=np.nan), "first_depth > 0"),
        (lambda: _probe(sound_speed=0.0), "sound_speed > 0"),
        (lambda: _probe(angles=(0.0, np.nan)), "finite angles or sources"),
        (lambda: _probe(sampling_rate=1.0), "sampling_rate >= 3.0 MHz"),
        (lambda: _probe(angles=()), r"angles \[num_transmits\]"),
        (lambda: _probe(sources=((1.0, 2.0, 3.0),)), r"sources \[num_transmits, 2\]"),
        (lambda: _probe().adjoint(jnp.zeros((3, 16, 110))), "complex"),
        (lambda: speckle(jax.random.key(0), jnp.ones((2, 2)), 0.0), "density"),
    ],
)
def test_refuses(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_below_the_floor_counts_pull_up():
    """Value, slope and, from one count on, curvature go on at the floor; below it the force grows with depth, and rests at 0 without counts."""
    plain, noise = emission_counts(2.0, 0.5), emission_counts(2.0, 0.5, floor=1.0)
    y, ones = jnp.array([4.0, -0.5, 0.0]), jnp.ones(3)
    for order in (lambda f: f, lambda f: jax.grad(f, 1), lambda f: jax.jacfwd(jax.grad(f, 1), 1)):
        below, above = (np.asarray(order(noise.log_likelihood)(y, step * ones)) for step in (-1e-9, 1e-9))  # mean counts of 1
        exact = np.asarray(order(plain.log_likelihood)(y, 1e-9 * ones))
        assert np.allclose(above, exact, rtol=1e-12)
        counts = [0, 2] if below.ndim == 2 else [0, 1, 2]  # without counts the parabola bends, the line does not
        assert np.allclose(below[counts][:, counts] if below.ndim == 2 else below, exact[counts][:, counts] if below.ndim == 2 else exact, atol=1e-6)
    force = jax.grad(noise.log_likelihood, 1)
    assert np.all(force(y, -2 * ones)[::2] > force(y, -1 * ones)[::2]) and np.all(force(y, -ones)[::2] > 0)
    assert np.isclose(force(jnp.full(1, -0.5), jnp.full(1, -0.5))[0], 0, atol=1e-12)
    for bad in (-1.0, jnp.ones(3)):
        with pytest.raises(ValueError, match="floor"):
            emission_counts(floor=bad)
    with pytest.raises(ValueError, match="a known number for floor"):
        jax.jit(lambda f: emission_counts(floor=f).log_likelihood(y, ones))(1.0)
