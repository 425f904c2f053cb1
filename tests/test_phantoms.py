"""Phantoms with closed forms: ellipses and the Shepp-Logan head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.phantoms import shepp_logan as head
from medjax.phantoms.ellipses import ellipses


def _drawn_by_loop(attributes, size):
    """The definition of the ellipse image, written with loops in numpy."""
    a = {name: np.asarray(values) for name, values in attributes.items()}
    axis = np.linspace(-1, 1, size)
    image, covered = np.zeros((size, size)), np.zeros((size, size), int)
    for e in range(int(a["num_ellipses"])):
        for r in range(size):
            x, y = axis - a["centre_x"][e], axis[size - 1 - r] - a["centre_y"][e]
            turned = (x + 1j * y) * np.exp(-1j * a["rotation"][e])
            inside = (turned.real / a["axis_a"][e]) ** 2 + (turned.imag / a["axis_b"][e]) ** 2 <= 1
            image[r, inside] += a["value"][e]
            covered[r, inside] = 1
    image[image != 0] -= image.min()
    return image / image.max(), covered


def test_ellipses_follow_their_definition(key):
    for each in jax.random.split(key, 3):
        phantom = ellipses(each, 40)
        image, covered = _drawn_by_loop(phantom.attributes, 40)
        assert np.allclose(phantom.image, image, rtol=0, atol=1e-12)
        assert np.array_equal(phantom.labels, covered) and phantom.labels.dtype == jnp.int32


def test_ellipses_follow_their_law(key):
    a = jax.jit(jax.vmap(lambda k: ellipses(k, 8).attributes))(jax.random.split(key, 4000))
    numbers = a["num_ellipses"]
    assert jnp.max(numbers) <= 70
    assert abs(float(jnp.mean(numbers)) - 40) < 0.5  # standard error sqrt(40 / 4000) = .1
    assert abs(float(jnp.var(numbers)) - 40) < 5  # standard error 40 sqrt(2 / 4000) = .9
    used = jnp.arange(70)[None, :] < numbers[:, None]
    assert jnp.all((a["value"] != 0) == used)
    values = a["value"][used]
    laws = {  # samples, quantile function; 160,000 samples or more: standard error below .002 of the range
        "value": (values, lambda q: -0.4 + 1.4 * q),
        "axis_a": (a["axis_a"], lambda q: -0.2 * np.log1p(-q)),
        "axis_b": (a["axis_b"], lambda q: -0.2 * np.log1p(-q)),
        "centre_x": (a["centre_x"], lambda q: -0.9 + 1.8 * q),
        "centre_y": (a["centre_y"], lambda q: -0.9 + 1.8 * q),
        "rotation": (a["rotation"], lambda q: 2 * np.pi * q),
    }
    q = np.array([0.02, 0.25, 0.5, 0.75, 0.98])
    for name, (samples, quantile) in laws.items():
        spread = quantile(0.75) - quantile(0.25)
        assert np.allclose(np.quantile(samples, q), quantile(q), rtol=0, atol=0.03 * spread), name


def test_shepp_logan_grey_levels():
    image, labels, _ = head.shepp_logan(256)
    assert jnp.allclose(image[128, 128], 0.2) and jnp.allclose(image[0, 0], 0)
    assert jnp.allclose(image[128, 98], 0) and labels[128, 98] == 4  # the larger ventricle lies at x < 0
    assert jnp.allclose(image[83, 128], 0.3) and labels[83, 128] == 5  # the largest tumour lies at y > 0, the top
    assert jnp.min(image) > -1e-12 and jnp.max(image) <= 1 and int(jnp.max(labels)) == len(head.LABELS) - 1
    area = sum(value * np.pi * a * b for value, a, b, *_ in head._ELLIPSES)
    assert jnp.allclose(jnp.mean(image) * 4, area, rtol=1e-3)  # midpoint sums over discs


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.9, 3.0])
def test_shepp_logan_sinogram_is_the_integral(angle):
    size, t = 64, np.array([-20.0, -3.3, 0.0, 8.1, 27.0])
    s = (np.arange(200_000) + 0.5) / 200_000 * 96 - 48
    x = t[:, None] * np.cos(angle) - s[None, :] * np.sin(angle)
    y = t[:, None] * np.sin(angle) + s[None, :] * np.cos(angle)
    total = 0
    for value, a, b, x0, y0, degrees in head._ELLIPSES:
        turned = (x / 32 - x0 + 1j * (y / 32 - y0)) * np.exp(-1j * np.deg2rad(degrees))
        total = total + value * ((turned.real / a) ** 2 + (turned.imag / b) ** 2 <= 1)
    numeric = total.sum(1) * (96 / 200_000)
    exact = head.sinogram(jnp.array([angle]), jnp.asarray(t), size)[0]
    assert np.allclose(exact, numeric, rtol=0, atol=0.01)  # each of 20 rims is met to half a step, 5e-4
