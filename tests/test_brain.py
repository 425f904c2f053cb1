"""Generated brains: tissue values, contrast, truth and the signal equation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.phantoms.brain import LABELS, brain
from medjax.phantoms.smooth_field import smooth_field
from medjax.physics.inversion_recovery import inversion_recovery
from medjax.physics.spin_echo import spin_echo
from medjax.physics.spoiled_gradient_echo import spoiled_gradient_echo

NUM = 24
# label -> ranges of PD, T1 [ms] and T2 [ms] over 1.5-3 T, wide enough for the spread between people
LITERATURE = {
    "white": ((0.6, 0.8), (550, 1100), (55, 130)),
    "grey": ((0.75, 0.95), (900, 2000), (70, 160)),  # a ribbon of 1.3 pixels shares many with the fluid
    "ventricle": ((0.9, 1.0), (3000, 5000), (500, 2600)),
    "putamen": ((0.7, 0.9), (800, 1600), (60, 140)),
    "thalamus": ((0.65, 0.9), (700, 1500), (60, 130)),
}


@functools.cache
def _compiled(contrast, size):
    draw = jax.vmap(lambda key, probability: brain(key, size, contrast, tumour_probability=probability), in_axes=(0, None))
    return jax.jit(draw)


@functools.cache
def _draw(contrast, size=96, tumour_probability=0.3):
    """NUM brains, the same heads for every contrast and size."""
    keys = jax.random.split(jax.random.key(7), NUM)
    return jax.tree.map(np.asarray, _compiled(contrast, size)(keys, tumour_probability))


def _level(phantom, values, *names, least=40):
    """Median of `values` over each brain's pixels of these labels, NaN where there are fewer than `least`."""
    out = np.full(NUM, np.nan)
    for i in range(NUM):
        inside = np.isin(phantom.labels[i], [LABELS[name] for name in names])
        if inside.sum() >= least:
            out[i] = np.median(values[i][inside])
    return out


@pytest.mark.parametrize("name", LITERATURE)
def test_tissue_values_are_those_of_the_literature(name):
    phantom = _draw("t1", tumour_probability=0.0)
    assert np.isfinite(_level(phantom, phantom.attributes["pd"], name)).sum() >= 4
    for quantity, (low, high) in zip(("pd", "t1", "t2"), LITERATURE[name], strict=True):
        # slit-like ventricles are all edge
        level = _level(phantom, phantom.attributes[quantity], name, least=100 if name == "ventricle" else 40)
        assert np.nanmin(level) >= low and np.nanmax(level) <= high, (quantity, np.nanmin(level), np.nanmax(level))


# brightest first
ORDER = {"t1": ("white", "grey", "ventricle"), "gre": ("white", "grey", "ventricle"), "ir": ("white", "grey", "ventricle")}
ORDER |= {"t2": ("ventricle", "grey", "white"), "flair": ("white", "ventricle"), "pd": ("grey", "white")}


@pytest.mark.parametrize("contrast", ORDER)
def test_contrast_order(contrast):
    phantom = _draw(contrast, tumour_probability=0.0)
    # the receive field is divided out: it is smooth, and tissues sit in different places
    magnitude = np.abs(phantom.image / phantom.attributes["receive"])
    levels = [_level(phantom, magnitude, name) for name in ORDER[contrast]]
    for brighter, darker in zip(levels[:-1], levels[1:], strict=True):
        both = np.isfinite(brighter + darker)
        assert both.sum() >= 4
        assert np.mean(brighter[both] > darker[both]) >= (0.85 if contrast == "pd" else 1.0)  # the order on PD hangs on TR
    if contrast == "flair":
        assert np.nanmedian(levels[1] / levels[0]) < 0.3


@pytest.mark.parametrize("contrast", ["t1", "flair", "gre", "random"])
def test_image_is_the_signal_equation_of_its_maps(contrast):
    phantom = _draw(contrast)
    for i in range(NUM):
        a = {name: value[i] for name, value in phantom.attributes.items()}
        maps = (a["pd"], a["t1"], a["t2"], a["tr"], a["te"])
        signals = spin_echo(*maps), np.abs(inversion_recovery(*maps, a["ti"])), spoiled_gradient_echo(*maps, a["flip"])
        assert np.allclose(phantom.image[i], a["receive"] * signals[a["sequence"]], rtol=1e-12, atol=1e-13)


def test_random_contrast_draws_every_sequence():
    assert set(_draw("random").attributes["sequence"]) == {0, 1, 2}


def test_areas_count_the_labels():
    phantom = _draw("t1")
    counts = np.array([[np.sum(labels == i) for i in LABELS.values()] for labels in phantom.labels])
    assert np.allclose(phantom.attributes["areas"], counts * (220 / 96) ** 2, rtol=1e-12)
    assert phantom.attributes["areas"].shape[1] == max(LABELS.values()) + 1


def test_anatomy_has_the_size_of_a_head():
    """Areas in mm^2 of heads of adults; the cortex takes 0.4 to 1.4 of the area of white matter in any such slice."""
    areas = {name: _draw("t1", tumour_probability=0.0).attributes["areas"][:, i] for name, i in LABELS.items()}
    inner = sum(areas[name] for name in LABELS if name not in ("background", "scalp", "skull"))
    assert inner.min() > 9_000 and inner.max() < 22_000
    assert (areas["grey"] > 0.4 * areas["white"]).all() and (areas["grey"] < 1.4 * areas["white"]).all()
    assert 0.2 < np.mean(areas["ventricle"] > 150) < 0.9 and areas["ventricle"].max() < 6_000
    assert areas["background"].min() > 8_000 and areas["skull"].min() > 1_500 and areas["scalp"].min() > 1_200


def test_tumour_truth():
    phantom = _draw("t1", tumour_probability=1.0)
    axis = (np.arange(96) - 47.5) * 220 / 96
    for i in range(NUM):
        a = {name: value[i] for name, value in phantom.attributes.items()}
        x, y = a["tumour_position"]
        inside = phantom.labels[i] == LABELS["tumour"]
        assert a["tumour_present"] and inside[np.argmin(np.abs(-axis - y)), np.argmin(np.abs(axis - x))]
        rows, columns = np.nonzero(inside)
        assert np.hypot(axis[columns].mean() - x, -axis[rows].mean() - y) < 0.35 * a["tumour_radius"] + 1
        # the outline wanders about its circle by 17 percent (one standard deviation), more slowly than it is long
        assert 0.6 < np.sqrt(inside.sum() / np.pi) * 220 / 96 / a["tumour_radius"] < 1.4
        magnitude = np.abs(phantom.image[i])
        contrast = magnitude[inside].mean() / magnitude[phantom.labels[i] == LABELS["white"]].mean() - 1
        assert np.isclose(a["tumour_contrast"], contrast, rtol=1e-9)


def test_no_tumour_is_no_tumour():
    phantom = _draw("t1", tumour_probability=0.0)
    assert not np.isin(phantom.labels, [LABELS["tumour"], LABELS["oedema"]]).any()
    for name in ("tumour_present", "tumour_position", "tumour_radius", "tumour_contrast", "tumour_enhanced"):
        assert not phantom.attributes[name].any()


def test_one_key_is_one_head_at_every_size():
    """Blocks of 2 x 2 of the fine maps are the coarse maps, up to edges that are as soft as a pixel."""
    fine, coarse = _draw("t1", 128), _draw("t1", 64)
    blocks = fine.attributes["pd"].reshape(NUM, 64, 2, 64, 2).mean((2, 4))
    for i in range(NUM):
        assert np.corrcoef(blocks[i].ravel(), coarse.attributes["pd"][i].ravel())[0, 1] > 0.98
    assert np.array_equal(fine.attributes["tumour_position"], coarse.attributes["tumour_position"])
    for name in ("skull", "white", "grey"):
        ratio = fine.attributes["areas"][:, LABELS[name]] / coarse.attributes["areas"][:, LABELS[name]]
        assert 0.8 < np.median(ratio) < 1.25, (name, np.median(ratio))  # thin sheets below a pixel go to their neighbours


def test_image_is_finite_in_range_and_nowhere_flat():
    phantom = _draw("random")
    magnitude = np.abs(phantom.image)
    assert np.isfinite(phantom.image).all() and (magnitude[:, 0] == 0).mean() > 0.9
    top = np.percentile(magnitude, 99, axis=(1, 2))
    assert top.min() > 0.5 and top.max() < 2.2 and 0.9 < np.median(top) < 1.6
    assert phantom.attributes["pd"].min() >= 0 and phantom.attributes["pd"].max() <= 1
    head = magnitude[phantom.labels > 0]
    assert np.unique(head).size > 0.95 * head.size


def test_phase_is_smooth_and_winds():
    image = _draw("t1").image
    phase = np.angle(_draw("t1").attributes["receive"])
    assert np.iscomplexobj(image)
    assert np.median(np.ptp(np.unwrap(np.unwrap(phase, axis=2), axis=1), axis=(1, 2))) > 1.5
    assert np.abs(np.angle(np.exp(1j * np.diff(phase, axis=2)))).max() < 0.5


def test_without_phase_it_is_the_magnitude(key):
    real, complex_ = (jax.jit(functools.partial(brain, size=32, contrast="t2", phase=phase))(key).image for phase in (False, True))
    assert not jnp.iscomplexobj(real)
    assert np.allclose(real, jnp.abs(complex_), rtol=1e-12)


def test_keys_decide(key):
    draw = jax.jit(lambda key: brain(key, 32, "t2").image)
    a, b, c = draw(key), draw(key), draw(jax.random.fold_in(key, 1))
    assert np.array_equal(a, b)
    assert jnp.linalg.norm(jnp.abs(a) - jnp.abs(c)) > 0.2 * jnp.linalg.norm(a)


def test_smooth_field_statistics(key):
    fields = smooth_field(key, 400, 40, 200.0, 20.0)
    assert abs(fields.mean()) < 0.05 and abs(jnp.mean(fields**2) - 1) < 0.08
    halved = smooth_field(key, 400, 20, 200.0, 20.0)
    # pixels of 5 and 10 mm average a field that lives on 20 mm knots
    assert np.abs(fields.reshape(400, 20, 2, 20, 2).mean((2, 4)) - halved).max() < 0.25


@pytest.mark.parametrize("options", [{"contrast": "ct"}, {"size": 8}, {"field_of_view": 0.0}])
def test_refuses(key, options):
    with pytest.raises(ValueError, match="brain"):
        brain(key, **options)
