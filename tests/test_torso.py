"""Generated torsos: the anatomy carries the density, the size and the truth that it claims."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.phantoms.texture import texture
from medjax.phantoms.torso import LABELS, torso

NUM = 32
FIELD = 400.0
HU = {  # name -> range that the median over the label must keep
    "background": (-1000, -990),
    "soft_tissue": (0, 90),
    "fat": (-130, -60),
    "lung": (-900, -650),
    "airway": (-1000, -800),
    "heart": (40, 380),
    "great_vessel": (25, 400),
    "bone": (120, 800),
    "abdomen": (30, 130),
}


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(7), NUM)


@pytest.fixture(scope="module")
def draw():
    return jax.jit(lambda keys: jax.lax.map(lambda key: torso(key, 128, num_nodules=1), keys, batch_size=8))


@pytest.fixture(scope="module")
def torsos(keys, draw):
    return jax.tree.map(np.asarray, draw(keys))


@pytest.fixture(scope="module")
def halves(keys):
    halved = jax.jit(lambda keys: jax.lax.map(lambda key: torso(key, 64, num_nodules=1), keys, batch_size=8))
    return jax.tree.map(np.asarray, halved(keys))


@pytest.mark.parametrize("name", HU)
def test_density(torsos, name):
    medians = [np.median(image[labels == LABELS[name]]) for image, labels in zip(*torsos[:2], strict=True) if (labels == LABELS[name]).sum() > 12]
    assert len(medians) >= 2
    assert HU[name][0] <= min(medians) and max(medians) <= HU[name][1]


def test_finite_and_in_range(torsos):
    assert np.all(np.isfinite(torsos.image))
    assert torsos.image.min() > -1100 and torsos.image.max() < 1500
    assert set(np.unique(torsos.labels)) == set(LABELS.values())


def test_same_key_same_body_other_key_other_body(keys, draw, torsos):
    again = draw(keys)
    np.testing.assert_array_equal(again.image, torsos.image)
    difference = np.abs(torsos.image[1:] - torsos.image[:-1]).mean((1, 2))
    assert difference.min() > 20


def test_areas_count_the_labels(torsos):
    pixel = (FIELD / 128) ** 2
    found = torsos.attributes
    lung = np.isin(torsos.labels, [LABELS[name] for name in ("lung", "lung_vessel", "nodule")]).sum((1, 2)) * pixel
    body = (~np.isin(torsos.labels, [LABELS["background"], LABELS["table"]])).sum((1, 2)) * pixel
    np.testing.assert_allclose(found["area_lung_left"] + found["area_lung_right"], lung, rtol=1e-6)
    np.testing.assert_allclose(found["area_body"], body, rtol=1e-6)
    np.testing.assert_allclose(found["area_heart"], (torsos.labels == LABELS["heart"]).sum((1, 2)) * pixel, rtol=1e-6)
    assert lung.min() > 8_000 and lung.max() < 60_000 and body.max() < 150_000  # [mm^2], of people


def test_heart_is_on_the_patients_left(torsos):
    columns = np.arange(128)[None, None, :]
    low = (torsos.attributes["level"] > 0.75) & (torsos.attributes["area_heart"] > 2_000)
    heart = (torsos.labels == LABELS["heart"])[low]
    bone = (torsos.labels == LABELS["bone"])[low]
    middle = (bone * columns).sum((1, 2)) / bone.sum((1, 2))
    assert low.sum() >= 3
    assert np.all((heart * columns).sum((1, 2)) / heart.sum((1, 2)) > middle)
    table = torsos.labels == LABELS["table"]
    assert (table * np.arange(128)[None, :, None]).sum() / table.sum() > 96  # below the patient, row 0 at the top


def test_nodules_lie_where_the_attributes_say(torsos):
    found = torsos.attributes
    places = np.argwhere(found["nodule_present"])
    assert 5 < len(places) < NUM
    for i, k in places:
        x, y = found["nodule_position"][i, k]
        column, row = int((x / FIELD + 0.5) * 128), int((0.5 - y / FIELD) * 128)
        assert torsos.labels[i, row, column] == LABELS["nodule"]
        reach = np.hypot(np.arange(128)[None, :] - column, np.arange(128)[:, None] - row) * FIELD / 128
        rim = np.abs(reach - 1.2 * found["nodule_radius"][i, k] - 4) < 3
        assert np.isin(torsos.labels[i][rim], [LABELS["lung"], LABELS["lung_vessel"], LABELS["nodule"]]).mean() > 0.4
        if found["nodule_radius"][i, k] < 7 or found["haze"][i] > 0:  # at 3.1 mm a pixel a smaller one is blurred; haze hides the lung
            continue
        around = torsos.image[i][(torsos.labels[i] == LABELS["lung"]) & (reach < 2 * found["nodule_radius"][i, k] + 15)]
        inside = torsos.image[i, row - 1 : row + 2, column - 1 : column + 2].mean()
        assert abs(inside - np.median(around) - found["nodule_contrast"][i, k]) < 80  # grain of the lung, and gravity over the ring
    assert np.all(found["nodule_radius"][~found["nodule_present"]] == 0)


def test_nodule_area_is_that_of_its_radius(torsos):
    radius = torsos.attributes["nodule_radius"][:, 0]
    area = (torsos.labels == LABELS["nodule"]).sum((1, 2)) * (FIELD / 128) ** 2
    large = radius > 6
    assert large.sum() >= 4
    np.testing.assert_allclose(area[large] / (np.pi * radius[large] ** 2), 1.0, atol=0.45)  # lobes move the edge by 0.18 of the radius


def test_size_changes_the_sampling_only(torsos, halves):
    pooled = torsos.image.reshape(NUM, 64, 2, 64, 2).mean((2, 4))
    for a, b in zip(pooled, halves.image, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.98
    for name in ("area_body", "area_lung_left", "area_lung_right"):
        np.testing.assert_allclose(halves.attributes[name], torsos.attributes[name], rtol=0.1, atol=1_000)  # a rim of one pixel
    present = torsos.attributes["nodule_present"]
    assert (halves.attributes["nodule_present"] == present).mean() > 0.9


def test_not_piecewise_constant(torsos):
    for image, labels in zip(torsos.image, torsos.labels, strict=True):
        inside = (labels == LABELS["lung"])[:, 1:] & (labels == LABELS["lung"])[:, :-1]
        assert np.mean(np.abs(np.diff(image, axis=1)[inside]) > 1.0) > 0.8


@pytest.mark.slow
def test_jit_equals_eager(keys, torsos):
    eager = torso(keys[0], 128, num_nodules=1)
    np.testing.assert_allclose(eager.image, torsos.image[0], atol=1e-6)


def test_single_precision_by_default_and_no_nodules(keys):
    with jax.enable_x64(False):
        shapes = jax.eval_shape(lambda key: torso(key, 64, num_nodules=0), jax.random.key(0))
    assert shapes.image.dtype == jnp.float32 and shapes.labels.dtype == jnp.int32
    assert shapes.attributes["nodule_position"].shape == (0, 2)
    assert all(a.dtype != jnp.float64 for a in shapes.attributes.values())


@pytest.mark.parametrize("options", [{"size": 100}, {"size": 0}, {"num_nodules": -1}])
def test_refuses(key, options):
    with pytest.raises(ValueError, match="torso needs"):
        torso(key, **options)


def test_texture(key):
    fields = jax.jit(jax.vmap(lambda k: texture(k, 64, 2.0, 16)))(jax.random.split(key, 200))
    small, large = fields[0], jax.jit(lambda k: texture(k, 128, 2.0, 16))(jax.random.split(key, 200)[0])
    np.testing.assert_allclose([large.mean(), large.std()], [0, 1], atol=1e-6)
    pooled = large.reshape(64, 2, 64, 2).mean((1, 3))
    assert np.corrcoef(pooled.ravel(), small.ravel())[0, 1] > 0.999
    power = np.abs(np.fft.fft2(fields)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64, 1 / 64), np.fft.fftfreq(64, 1 / 64)))
    assert power[:, frequency > 16.01].max() < 1e-12 * power.max()
    ring = [power.mean(0)[np.abs(frequency - k) < 0.5].mean() for k in (3, 12)]
    assert abs(np.log(ring[0] / ring[1]) / np.log(4.0) - 2.0) < 0.25  # 200 draws
    along, across = power.mean(0)[0, 2:15], power.mean(0)[2:15, 0]
    assert 0.8 < along.sum() / across.sum() < 1.25  # isotropic, 200 draws


def test_texture_refuses(key):
    with pytest.raises(ValueError, match="texture needs"):
        texture(key, 2)
