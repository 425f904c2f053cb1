"""Changes of training images, against their formulas: where the change is read off images that are linear, which cubic convolution keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.data.augment import cubic, elastic, mirrored, moved, recalibrated, windowed

ROWS, COLUMNS = np.meshgrid(np.arange(24.0), np.arange(20.0), indexing="ij")
PLACES = np.stack([ROWS, COLUMNS], -1)
"""An image whose value is where it is."""
KEYS = jax.random.split(jax.random.key(0), 400)


def draws(change, image=PLACES, **options):
    """400 of a constant image."""
    return np.asarray(jax.jit(jax.vmap(change(lambda key: jnp.asarray(image), **options)))(KEYS))


def test_cubic_is_exact_on_squares_and_at_pixels():
    """Keys' kernel of third order: polynomials of degree two inside, the pixels themselves anywhere; the third axis goes along."""
    places = np.random.default_rng(0).uniform(2, 16, (2, 50))
    image = np.stack([1 + ROWS * COLUMNS, ROWS**2 - 3 * COLUMNS**2], -1)
    expected = np.stack([1 + places[0] * places[1], places[0] ** 2 - 3 * places[1] ** 2], -1)
    assert np.allclose(cubic(jnp.asarray(image), jnp.asarray(places)), expected, rtol=1e-12, atol=1e-10)
    assert np.array_equal(cubic(jnp.asarray(image), jnp.stack([jnp.asarray(ROWS), jnp.asarray(COLUMNS)]), 7.0), image)


@pytest.mark.parametrize(("outside", "mode"), [(-3.0, {"constant_values": -3.0}), (None, {"mode": "symmetric"})], ids=["value", "mirror image"])
def test_beyond_its_border_an_image_goes_on(outside, mode):
    """As that image with a wide margin of the value, or of its mirror images, would."""
    image, places = np.random.default_rng(1).normal(size=(6, 5)), np.random.default_rng(2).uniform(-8, 13, (2, 300))
    wide = np.pad(image, 12, **mode)
    assert np.allclose(cubic(jnp.asarray(image), jnp.asarray(places), outside), cubic(jnp.asarray(wide), jnp.asarray(places + 12)), atol=1e-12)


def test_moved_turns_magnifies_and_shifts_within_its_limits():
    """x'(c + r) = x(c + R(phi)^T r / s - t), phi, log s and t uniform up to their limits."""
    found = draws(moved, degrees=8.0, scale=1.1, shift=0.05)[:, 6:-6, 6:-6]
    r = np.stack([ROWS - 11.5, COLUMNS - 9.5, np.ones_like(ROWS)], -1)[6:-6, 6:-6].reshape(-1, 3)
    fitted = np.stack([np.linalg.lstsq(r, each.reshape(-1, 2), rcond=None)[0].T for each in found])
    assert np.abs(np.einsum("nap,mp->nma", fitted, r) - found.reshape(len(found), -1, 2)).max() < 1e-10
    matrix, t = fitted[:, :, :2], np.array([11.5, 9.5]) - fitted[:, :, 2]
    size, turn = np.linalg.det(matrix) ** -0.5, np.rad2deg(np.arctan2(matrix[:, 0, 1], matrix[:, 0, 0]))
    assert np.allclose(size[:, None, None] ** 2 * matrix @ matrix.transpose(0, 2, 1), np.eye(2))
    for values, limit in ((turn, 8.0), (np.log(size), np.log(1.1)), (t[:, 0], 0.05 * 24), (t[:, 1], 0.05 * 20)):
        assert 0.98 * limit < np.abs(values).max() <= limit * (1 + 1e-9)
        assert np.isclose(np.mean(values**2), limit**2 / 3, rtol=0.18)  # four standard deviations of 400 draws
    assert np.abs(np.corrcoef([turn, size, *t.T]) - np.eye(4)).max() < 0.2


def test_elastic_bends_by_sine_waves_and_leaves_the_border():
    """The displacement is in the span of K x K sines, 0 at the border, and has the mean square of its formula."""
    u = draws(elastic, amplitude=0.8, num_waves=3)[:, 2:-2, 2:-2] - PLACES[2:-2, 2:-2]
    sines = [np.sin(np.pi * np.arange(1, 4)[:, None] * np.arange(n) / (n - 1))[:, 2:-2] for n in (24, 20)]
    basis = np.einsum("jh,kw->hwjk", *sines).reshape(-1, 9)
    fitted = np.linalg.lstsq(basis, u.transpose(1, 2, 0, 3).reshape(len(basis), -1), rcond=None)[0]
    assert np.abs(basis @ fitted - u.transpose(1, 2, 0, 3).reshape(len(basis), -1)).max() < 1e-10
    expected = 0.8 / np.add.outer(np.arange(1, 4) ** 2, np.arange(1, 4) ** 2).ravel()
    assert np.allclose(np.sqrt(np.mean(fitted**2, 1)), expected, rtol=0.1)  # four standard deviations of 800 draws
    whole = draws(elastic, amplitude=0.8)
    assert np.allclose(whole[:, 0], PLACES[0], atol=1e-12) and np.allclose(whole[:, :, -1], PLACES[:, -1], atol=1e-12)


def test_mirrored_and_recalibrated():
    """As often as the probability says, along the axis; stretched about zero by one factor within its limit."""
    image = np.random.default_rng(3).normal(size=(5, 4))
    found = draws(mirrored, image, axis=0, probability=0.25)
    turned = np.array([np.array_equal(each, image[::-1]) for each in found])
    assert all(np.array_equal(each, image) for each in found[~turned]) and abs(turned.mean() - 0.25) < 0.087  # four standard deviations
    gains = (draws(recalibrated, image, gain=0.1, zero=-2.0) + 2) / (image + 2)
    assert np.ptp(gains, axis=(1, 2)).max() < 1e-10 and 0.098 < np.abs(gains - 1).max() <= 0.1 + 1e-9


def test_windowed_clips_to_windows_within_their_ranges():
    """Centres and logarithms of widths are uniform; inside a window nothing is changed, or all by the line that takes its ends to a screen's."""
    image = np.linspace(-1200.0, 1200, 5001)[:, None]
    found = draws(windowed, image, centre=(-50.0, 250.0), width=(100.0, 1600.0))
    low, high = found.min((1, 2)), found.max((1, 2))
    assert np.array_equal(found, np.clip(image, low[:, None, None], high[:, None, None]))
    for values, least, largest in (((low + high) / 2, -50, 250), (np.log2(high - low), np.log2(100), np.log2(1600))):
        assert least - 1e-9 <= values.min() and values.max() <= largest + 1e-9
        assert abs(values.mean() - (least + largest) / 2) < 0.06 * (largest - least)  # four standard deviations of the mean of 400 draws
        assert np.isclose(values.var(), (largest - least) ** 2 / 12, rtol=0.18)
    shown = draws(windowed, image, centre=(-50.0, 250.0), width=(100.0, 1600.0), onto=(1.0, 3.0))
    assert np.allclose(shown, 1 + 2 * (found - low[:, None, None]) / (high - low)[:, None, None], atol=1e-9)
    for bad in ({"width": (0.0, 5.0)}, {"width": (5.0, 4.0)}, {"centre": (1.0, 0.0)}):
        with pytest.raises(ValueError, match="widths above 0, got"):
            windowed(lambda key: image, **bad)
