"""Attenuation tables, tube spectra and beam hardening against published numbers and closed forms."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.operators.fbp import fbp
from medjax.operators.parallel_beam import parallel_beam
from medjax.operators.uniform_views import uniform_views
from medjax.physics.attenuation import attenuation
from medjax.physics.compton import klein_nishina, scattered_energy
from medjax.physics.mass_attenuation import mass_attenuation
from medjax.physics.polychromatic import polychromatic
from medjax.physics.spectrum import spectrum
from medjax.physics.water_correction import water_correction

# mu / rho [cm^2/g] by NIST SRD 126 at these energies [keV]
ENERGIES = (20.0, 30.0, 60.0, 100.0, 150.0)
NIST = {
    "water": (0.8096, 0.3756, 0.2059, 0.1707, 0.1505),
    "cortical_bone": (4.001, 1.331, 0.3148, 0.1855, 0.1480),
    "aluminium": (3.441, 1.128, 0.2778, 0.1704, 0.1378),
    "iron": (25.68, 8.176, 1.205, 0.3717, 0.1964),
    "copper": (33.79, 10.92, 1.593, 0.4584, 0.2217),
    "iodine": (25.43, 8.561, 7.579, 1.942, 0.6978),
}


def attenuate(spec, **lengths):
    """Polychromatic attenuation behind lengths [mm] of materials."""
    coefficients = jnp.stack([attenuation(name, spec.energies) for name in lengths])
    return polychromatic(jnp.stack([jnp.asarray(v, float) for v in lengths.values()]), coefficients, spec.weights)


@pytest.mark.parametrize("name", NIST)
def test_attenuation_is_that_of_nist(name):
    # the sampled table is linear between nodes 8 % apart (0.2 %), NIST's has 4 digits
    assert np.allclose(mass_attenuation(name, jnp.array(ENERGIES)), NIST[name], rtol=2.5e-3)


def test_linear_attenuation_and_mixtures():
    assert np.isclose(attenuation("water", 60.0), 0.02059, rtol=1e-3)  # [1/mm], 4 digits of NIST
    assert np.isclose(attenuation("titanium", 60.0), 0.7661 * 4.54 / 10, rtol=1e-3)  # NIST, 4 digits
    mixed = mass_attenuation({"H": 0.111894, "O": 0.888106}, 45.0)
    assert np.isclose(mixed, mass_attenuation("water", 45.0), rtol=1e-5)  # mass fractions of 6 digits
    assert np.isclose(attenuation("iodine", 60.0, 0.010), 0.010 * 7.579 / 10, rtol=1e-3)  # NIST, 4 digits


def test_edge_of_iodine_and_its_gradient():
    below, at, above = (float(mass_attenuation("iodine", e)) for e in (33.16, 33.16996, 33.18))
    assert np.isclose(below, 6.56, rtol=5e-3) and np.isclose(above, 35.8, rtol=5e-3)  # NIST gives 6.553 and 35.82 at 33.169 keV
    assert np.isclose(at, above, rtol=2e-3)  # the slope over 0.01 keV
    assert np.isfinite(jax.grad(lambda e: mass_attenuation("iodine", e))(33.16996))
    slope = jax.grad(lambda e: mass_attenuation("water", e))(70.0)
    assert np.isclose(slope, (mass_attenuation("water", 70.01) - mass_attenuation("water", 69.99)) / 0.02, rtol=1e-6)
    assert mass_attenuation("water", jnp.float32(70.0)).dtype == jnp.float32


def test_filters_are_pairs():
    for bad in ({"filtration": ("aluminium", 6.0)}, {"filtration": (("aluminium",),)}, {"absorber": "cesium_iodide"}):
        with pytest.raises(ValueError, match="pairs"):
            spectrum(100.0, **bad)


def test_energies_are_those_of_the_docstring():
    ends = [float(end) for end in re.search(r"any shape, in \[(.+?), (.+?)\]", mass_attenuation.__doc__).groups()]
    assert np.all(np.isfinite(mass_attenuation("water", np.array(ends))))
    for beyond in (ends[0] - 0.001, ends[1] + 0.001):
        with pytest.raises(ValueError, match="needs energies"):
            mass_attenuation("water", beyond)


def test_bad_materials_and_energies():
    for call in (
        lambda: mass_attenuation("unobtainium", 60.0),
        lambda: mass_attenuation({"Xx": 1.0}, 60.0),
        lambda: mass_attenuation("water", 2.0),
        lambda: attenuation({"H": 1.0}, 60.0),
        lambda: spectrum(200.0),
        lambda: spectrum(100.0, detector="film"),
        lambda: spectrum(100.0, window=(60.0, 50.0)),
        lambda: spectrum(100.0, window=(200.0, 300.0)),
        lambda: spectrum(100.0, window=(60.1, 60.2)),
        lambda: spectrum(100.0, filtration=(("copper", 6000.0),)),
        lambda: spectrum(100.0, filtration=(("copper", -0.1),)),
        lambda: spectrum(100.0, absorber=("cesium_iodide", 0.0)),
        lambda: polychromatic(jnp.ones((2, 3)), jnp.ones((1, 4)), jnp.ones(4)),
        lambda: water_correction(spectrum(100.0), degree=0),
    ):
        with pytest.raises(ValueError):
            call()


# SpekPy 2.5.4 (casim, 8 degrees) behind 6 mm Al, with attenuation by xraydb 4.5.8:
# photons [1/(mm^2 mAs)] above 10 keV, mean energy [keV], energy that passes 200 mm of water
SPEKPY = {85.0: (957636, 50.0638, 0.0125174), 100.0: (1.45316e6, 54.8512, 0.0153755), 147.0: (3.26479e6, 67.1023, 0.0224648)}


@pytest.mark.parametrize("voltage", SPEKPY)
def test_spectrum_is_that_of_spekpy(voltage):
    spec = spectrum(voltage)
    fluence, mean, transmission = SPEKPY[voltage]
    assert np.isclose(jnp.sum(spec.fluence), fluence, rtol=4e-3)  # voltages between tables 10 kV apart
    assert np.isclose(jnp.sum(spec.fluence * spec.energies) / jnp.sum(spec.fluence), mean, rtol=1e-3)  # as above
    assert np.isclose(jnp.exp(-attenuate(spec, water=200.0)), transmission, rtol=2e-3)  # as above; mu within 0.05 %
    assert jnp.all(spec.fluence[spec.energies > voltage] == 0) and np.isclose(jnp.sum(spec.weights), 1, rtol=1e-12)


def test_spectrum_knows_detectors_filters_and_gradients():
    integrating, counting = spectrum(120.0), spectrum(120.0, detector="counting")
    assert jnp.array_equal(integrating.fluence, counting.fluence)
    by_energy = counting.weights * counting.energies
    assert jnp.allclose(integrating.weights, by_energy / jnp.sum(by_energy), rtol=1e-12)
    absorbed = spectrum(120.0, absorber=("cesium_iodide", 0.5))
    edge = absorbed.response / absorbed.energies
    assert edge[22] < 0.85 < 0.99 < edge[26]  # CsI absorbs suddenly better above 36 keV
    thicker = spectrum(120.0, filtration=(("aluminium", 6.0), ("copper", 0.5)))
    wanted = integrating.fluence * jnp.exp(-0.5 * attenuation("copper", integrating.energies))
    assert jnp.allclose(thicker.fluence, wanted, rtol=1e-12)
    binned = spectrum(120.0, detector="counting", window=(50.0, 60.0))
    assert jnp.sum(binned.weights > 0) == 10

    def mean(voltage):
        spec = spectrum(voltage)
        return jnp.sum(spec.weights * spec.energies)

    assert np.isclose(jax.grad(mean)(123.0), (mean(123.01) - mean(122.99)) / 0.02, rtol=1e-5)  # differences of a sum with kinks at bins


def test_one_energy_is_beer_lambert():
    lengths = jnp.array([[1.0, 50.0, 400.0], [0.0, 10.0, 90.0]])
    mu = jnp.array([[0.02], [0.06]])
    assert jnp.allclose(polychromatic(lengths, mu, jnp.full(1, 3.0)), jnp.sum(mu * lengths, 0), rtol=1e-14)
    whole = polychromatic(lengths.astype(int), mu, np.full(1, 3))  # lengths and weights that are integers
    assert jnp.allclose(whole, jnp.sum(mu * lengths, 0), rtol=1e-14)


def test_hardening_goes_from_the_mean_to_the_least():
    spec = spectrum(120.0)
    mu = attenuation("water", spec.energies)
    slope = jax.grad(lambda x: attenuate(spec, water=x))
    assert np.isclose(slope(0.0), jnp.sum(spec.weights * mu), rtol=1e-12)  # mu effective of a thin object
    slopes = jnp.array([slope(x) for x in (0.0, 10.0, 100.0, 400.0, 1e8)])
    assert jnp.all(jnp.diff(slopes) < 0)
    assert np.isclose(slopes[-1], jnp.min(jnp.where(spec.weights > 0, mu, 1)), rtol=1e-9)
    # second derivative: minus the variance of mu over the spectrum
    variance = jnp.sum(spec.weights * mu**2) - jnp.sum(spec.weights * mu) ** 2
    assert np.isclose(jax.grad(slope)(0.0), -variance, rtol=1e-10)


def test_brute_force_and_metal_in_single_precision(key):
    spec = spectrum(80.0)
    lengths = 30 * jax.random.uniform(key, (2, 4, 3))
    mu = jnp.stack([attenuation(m, spec.energies) for m in ("water", "cortical_bone")])
    wanted = -jnp.log(jnp.sum(spec.weights[:, None, None] * jnp.exp(-jnp.einsum("me,mij->eij", mu, lengths)), 0))
    assert jnp.allclose(polychromatic(lengths, mu, spec.weights), wanted, rtol=1e-12)

    thick = jnp.array([[0.0, 30.0, 400.0]], jnp.float32)
    metal = attenuation("platinum", spec.energies)[None]
    single, double = (polychromatic(x, metal, spec.weights) for x in (thick, thick.astype(float)))
    assert single.dtype == jnp.float32 and double[-1] > 1000
    assert jnp.allclose(single, double, rtol=1e-5, atol=1e-6)  # float32
    for argument in range(3):
        gradient = jax.grad(lambda *a: jnp.sum(polychromatic(*a)), argument)(thick, metal, spec.weights)
        assert jnp.all(jnp.isfinite(gradient))


def test_counting_hardens_less_and_a_window_least():
    def loss(spec):
        """Part of its first slope that water loses by 300 mm."""
        return 1 - jax.grad(lambda x: attenuate(spec, water=x))(300.0) / jax.grad(lambda x: attenuate(spec, water=x))(0.0)

    integrating, counting = spectrum(120.0), spectrum(120.0, detector="counting")
    window = spectrum(120.0, detector="counting", window=(60.0, 75.0))
    losses = [loss(s) for s in (integrating, counting, window)]
    assert losses[0] > 0.1 and losses[1] > 0.1 and 0 < losses[2] < 0.02


def test_water_correction_inverts_water():
    spec = spectrum(120.0)
    lengths = jnp.linspace(0.0, 500.0, 37)
    correct = water_correction(spec)
    assert jnp.max(jnp.abs(correct(attenuate(spec, water=lengths)) - lengths)) < 5e-3  # [mm], degree 6
    assert jnp.max(jnp.abs(water_correction(spec, degree=8)(attenuate(spec, water=lengths)) - lengths)) < 5e-4  # [mm], degree 8
    # straight on both sides of the fit, with the slope at its ends
    top = attenuate(spec, water=500.0)
    for y in (0.0, top):
        assert np.isclose(correct(y + 1.0) if y else -correct(jnp.asarray(-1.0)), jax.grad(correct)(y) + correct(jnp.asarray(y)), rtol=1e-6)


def test_cupping_of_a_water_disc_and_its_correction():
    r"""200 mm of water: 2 % lower in the middle than at the rim, as Abel's inverse says, and flat after the correction.

    For a disc and f(L) the attenuation behind L it is x(r) = 2 / pi int_0^{pi/2} f'(2 sqrt(R^2 - r^2) cos(phi)) dphi.
    """
    spec, size, pixel, radius = spectrum(120.0), 96, 2.4, 100.0
    A = parallel_beam(size, uniform_views(60), num_detectors=128, detector_spacing=2.0, pixel_size=pixel)
    t = (jnp.arange(128) - 63.5) * 2.0
    chords = 2 * jnp.sqrt(jnp.maximum(radius**2 - t**2, 0))
    raw, first = attenuate(spec, water=chords), jnp.sum(spec.weights * attenuation("water", spec.energies))
    centre = (np.arange(size) - (size - 1) / 2) * pixel
    r = np.hypot(centre[:, None], centre[None])
    rings = [r < 20, (r > 70) & (r < 85)]
    reconstruct = jax.jit(lambda y: fbp(A, jnp.broadcast_to(y, (60, 128))))

    def levels(y):
        image = reconstruct(y)
        return np.array([float(jnp.mean(image[ring])) for ring in rings])

    phi = (np.arange(64) + 0.5) * np.pi / 128
    slope = jax.vmap(jax.grad(lambda x: attenuate(spec, water=x)))
    wanted = []
    for ring in rings:
        places = jnp.asarray(r[ring][:: max(1, ring.sum() // 40)])
        chord = 2 * jnp.sqrt(radius**2 - places**2)[:, None] * np.cos(phi)[None]
        wanted.append(float(jnp.mean(slope(chord.ravel())) / first))
    whole = levels(chords)
    assert np.allclose(levels(raw / first) / whole, wanted, rtol=1e-3)  # rays at the rim of the disc, 2 mm apart
    assert wanted[0] / wanted[1] - 1 < -0.015
    corrected = levels(water_correction(spec)(raw)) / whole
    assert np.allclose(corrected, 1, atol=1e-4)  # the polynomial of degree 6 is within .005 mm


def test_compton():
    assert np.isclose(scattered_energy(510.99895, np.pi), 510.99895 / 3, rtol=1e-12)
    assert np.isclose(scattered_energy(60.0, np.pi / 2), 60 / (1 + 60 / 510.99895), rtol=1e-12)
    assert np.isclose(klein_nishina(1e-3, 0.7), 0.0794078774 / 2 * (1 + np.cos(0.7) ** 2), rtol=1e-5)  # Thomson at low energies
    # all directions, times the electrons of a gram of water: XCOM's incoherent scattering of 0.1626 cm^2/g at 100 keV
    theta = (np.arange(2000) + 0.5) * np.pi / 2000
    total = np.sum(2 * np.pi * np.sin(theta) * klein_nishina(100.0, theta)) * np.pi / 2000
    assert np.isclose(total * 1e-24 * 6.02214e23 * 10 / 18.015, 0.1626, rtol=0.02)  # bound electrons scatter 1.3 % less
