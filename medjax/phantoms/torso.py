"""Axial CT slices of the chest: endless random anatomy in Hounsfield units, with labels and measured truth."""

import jax
import jax.numpy as jnp

from medjax.phantoms.torso_anatomy import (
    blank,
    capsule,
    cover,
    draw_anatomy,
    ellipse,
    place_organs,
    ramp,
    rib_distance,
    squircle,
    tree_distance,
    twig_cover,
)
from medjax.typing import Phantom

LABELS = {
    "background": 0,
    "soft_tissue": 1,
    "fat": 2,
    "lung": 3,
    "lung_vessel": 4,
    "airway": 5,
    "heart": 6,
    "great_vessel": 7,
    "bone": 8,
    "abdomen": 9,
    "table": 10,
    "nodule": 11,
}


def _paint(canvas, distance, value, label, opacity=1.0):
    share = cover(distance, canvas.pixel)
    image = canvas.image + opacity * share * (value - canvas.image)
    return canvas._replace(image=image, labels=jnp.where(share > 0.5, LABELS[label], canvas.labels))


def _table(canvas, p):
    """The couch under the back, two shells of carbon fibre, and a sheet over the patient."""
    x, y = canvas.x, canvas.y
    top = -(p["B"] + 26.0 + 0.8 * p["fat"]) - p["table_gap"] + p["table_curve"] * x * x
    shell = jnp.abs(y - top) - 1.3
    deep = top - 14.0 - 26.0 * (1 - (x / 215.0) ** 2) * p["table"]
    lower = jnp.abs(y - deep) - 1.0
    inside = jnp.maximum(jnp.maximum(y - top, deep - y), jnp.abs(x) - 212.0)
    canvas = _paint(canvas, inside, -970.0, "background")
    canvas = _paint(canvas, jnp.maximum(jnp.minimum(shell, lower), jnp.abs(x) - 214.0), -150.0 - 550.0 * p["scapula"], "table")
    sheet = jnp.abs(canvas.body - 7.0 - 5.0 * canvas.smooth) - 0.8
    return _paint(canvas, sheet, -900.0, "background", jnp.where(p["sheet"] > 0.4, 1.0, 0.0) * (y > -30.0))


def _wall(canvas, p):
    """Skin, fat, and the muscles between skin and ribs."""
    x, y, A, B = jnp.abs(canvas.x), canvas.y, p["A"], p["B"]
    fat = -105.0 + p["grain"] * canvas.fine + 6.0 * canvas.smooth
    canvas = _paint(canvas, canvas.body, -10.0, "soft_tissue")
    canvas = _paint(canvas, canvas.body + 2.2, fat, "fat")
    gland = jnp.maximum(canvas.body + 12.0, 14.0 - canvas.cage) + 9.0 * canvas.lumps + jnp.where(p["is_female"], 16.0 * p["gland"], 99.0)
    canvas = _paint(canvas, gland, 25.0, "soft_tissue", 0.8)
    high = 1 - ramp(p["level"], 0.2, 0.6)
    m = p["muscle"]
    back = ellipse(x, y, 23.0, -B - 8.0, 21.0 * m, 14.0 * m, -0.1)
    chest = ellipse(x, y, 0.56 * A, 0.86 * B + 8.0, 46.0, 9.0 * m * (0.5 + 0.5 * high), -0.5)
    outer = ellipse(x, y, 0.78 * A + 8.0, -0.74 * B - 3.0, 44.0, (10.0 + 9.0 * high) * m, 0.62)
    side = ellipse(x, y, A + 7.0 + 10.0 * high, -0.22 * B, (9.0 + 18.0 * high) * m, 40.0, 0.15)
    trapezius = ellipse(x, y, 34.0, -B - 24.0, 42.0, 6.0 * m, 0.2)
    groups = jnp.minimum(jnp.minimum(jnp.minimum(back, chest), jnp.minimum(outer, side)), jnp.minimum(canvas.cage - 3.0, trapezius))
    muscle = jnp.maximum(groups, canvas.body + 3.0 + 0.6 * p["fat"])
    value = 52.0 + 1.3 * p["grain"] * canvas.fine - 14.0 * jnp.maximum(canvas.lumps, 0.0)
    return _paint(canvas, muscle, value, "soft_tissue")


def _bone(canvas, p, distance, cortex=1.0, shell=1.4):
    """Paint a bone: a cortical shell round marrow."""
    canvas = _paint(canvas, distance, cortex * p["cortex"], "bone")
    marrow = cortex * (p["marrow"] + 40.0 * canvas.fine + 25.0 * canvas.smooth)
    return _paint(canvas, distance + shell, marrow, "bone")


def _skeleton(canvas, p):
    """Vertebra, ribs, sternum, scapulae."""
    x, y, spine = jnp.abs(canvas.x), canvas.y, p["spine"]
    canvas = _bone(canvas, p, rib_distance(canvas, p), 0.6, 2.6)
    sternum = squircle(canvas.x, y - p["B"] + 3.0, 19.0 + 6.0 * (1 - p["grown"]), 6.5, -0.3)
    canvas = _bone(canvas, p, sternum, 0.7)
    gone = 1e4 * (p["level"] > 0.3 + 0.25 * p["scapula"])
    turn = 0.1 * p["scapula"]
    blade = capsule(x, y, ((0.56 + turn) * p["A"], -p["B"] - 6.0), (p["A"] + 13.0, (turn - 0.2) * p["B"]), 2.2, 5.0) + gone
    blade = jnp.minimum(blade, capsule(x, y, (0.88 * p["A"], -0.62 * p["B"]), (0.88 * p["A"] + 11.0, -0.62 * p["B"] - 13.0), 2.0, 3.0) + gone)
    canvas = _bone(canvas, p, blade, 0.9)
    collar = capsule(x, y, (16.0, p["B"] + 3.0), (70.0, p["B"] - 4.0), 6.0, 4.5) + 1e4 * (p["level"] > 0.15 * p["clavicle"])
    canvas = _bone(canvas, p, collar, 0.8)
    arch = capsule(x, y, (11.0, spine - 14.0), (13.0, spine - 24.0), 4.0)
    wing = capsule(x, y, (14.0, spine - 23.0), (34.0, spine - 31.0), 4.2, 3.4)
    thorn = capsule(x, y, (0.0, spine - 33.0), (0.0, spine - 58.0), 5.5, 3.0)
    lamina = capsule(x, y, (0.0, spine - 34.0), (13.0, spine - 24.0), 3.2)
    canvas = _bone(canvas, p, jnp.minimum(jnp.minimum(arch, wing), jnp.minimum(thorn, lamina)), 0.9)
    vertebra = squircle(canvas.x, y - spine, 17.5, 14.5, -0.35)
    canvas = _bone(canvas, p, vertebra, 0.8)
    return _paint(canvas, ellipse(x, y, 0.0, spine - 21.0, 9.0, 7.5), 25.0, "soft_tissue")


def _mediastinum(canvas, p, organs):
    """Fat, oesophagus, heart and great vessels, from the sternum to the spine."""
    spine, grain, lift = p["spine"], p["grain"] * canvas.fine, p["lift"]
    fat = -92.0 + grain + 28.0 * canvas.lumps
    inside = jnp.maximum(jnp.maximum(organs["envelope"], canvas.cage + 8.5), -40.0)
    canvas = _paint(canvas, inside, fat, "fat")
    gullet = ellipse(canvas.x, canvas.y, 5.0, spine + 25.0 * lift, 8.5, 6.0, 0.3)
    canvas = _paint(canvas, gullet, 38.0 + grain, "soft_tissue")
    nodes = jnp.maximum(inside + 6.0, 9.0 - 11.0 * canvas.smooth)
    canvas = _paint(canvas, nodes, 40.0, "soft_tissue")
    left, right, wall = organs["chambers"]
    canvas = _paint(canvas, wall, p["myocardium"] + grain, "heart")
    canvas = _paint(canvas, left, p["blood"] + grain, "heart")
    canvas = _paint(canvas, right, p["right_blood"] + grain, "heart")
    arteries, veins = organs["vessels"]
    canvas = _paint(canvas, veins, p["right_blood"] + grain, "great_vessel")
    return _paint(canvas, arteries, p["blood"] + grain, "great_vessel")


def _airways(canvas, p):
    """Trachea above the carina, the main bronchi below it."""
    x, y, s, spine, r, lift = jnp.abs(canvas.x - 1.0), canvas.y, p["level"], p["spine"], p["trachea"], p["lift"]
    trachea = ellipse(x, y, 0.0, spine + 40.0 * lift, r, 0.95 * r) + 1e4 * (s > 0.4)
    reach = ramp(s, 0.38, 0.5)
    bronchi = capsule(x, y, (6.0 + 12.0 * reach, spine + 37.0 * lift), (12.0 + 30.0 * reach, spine + 34.0 * lift - 4.0 * reach), 0.72 * r, 0.5 * r)
    lumen = jnp.minimum(trachea, bronchi + 1e4 * ((s <= 0.4) | (s > 0.6)))
    canvas = _paint(canvas, lumen - 1.6, 20.0, "soft_tissue")
    return _paint(canvas, lumen, -985.0, "airway")


def _lung_value(p, y):
    """HU of the parenchyma at height y of the body: denser where it lies lowest."""
    return p["lung_base"] - p["gravity"] * y / p["B"]


def _lungs(key, canvas, p, organs):
    """Pleural fluid, parenchyma with its haze, and its vessels."""
    lung = organs["lung"]
    value = _lung_value(p, canvas.y) + p["lung_grain"] * (canvas.fine + 0.8 * canvas.smooth) + p["fog"] * jnp.maximum(canvas.lumps - 0.4, 0.0)
    canvas = _paint(canvas, organs["fluid"], 10.0 + p["grain"] * canvas.fine, "soft_tissue")
    canvas = _paint(canvas, lung, value, "lung")
    depth = jnp.clip(-lung / 14.0, 0.0, 1.0)
    twigs = twig_cover(key, canvas, p) * depth
    tree = jnp.maximum(tree_distance(canvas, p), lung + 3.0)
    blood = 0.9 * p["right_blood"]
    canvas = _paint(canvas, tree, blood, "lung_vessel")
    image = canvas.image + twigs * (blood - canvas.image)
    return canvas._replace(image=image, labels=jnp.where(twigs > 0.5, LABELS["lung_vessel"], canvas.labels))


def _abdomen(canvas, p, organs):
    """Domes of the diaphragm, blurred because the slice cuts them at a slant."""
    flesh = jnp.where(p["is_enhanced"], p["liver"] + 45.0, p["liver"]) + p["grain"] * canvas.fine
    dome = jnp.clip(0.5 - jnp.minimum(organs["liver"], organs["stomach"]) / 7.0, 0.0, 1.0) * (canvas.cage < -8.0)
    image = canvas.image + dome * (flesh - canvas.image)
    canvas = canvas._replace(image=image, labels=jnp.where(dome > 0.5, LABELS["abdomen"], canvas.labels))
    bubble = jnp.maximum(organs["stomach"] + 9.0, canvas.y * -1.0 + 20.0) + jnp.where(p["gas"] > 0.5, 0.0, 99.0)
    return _paint(canvas, bubble, -970.0, "abdomen")


def _nodules(key, canvas, p, lung, num_nodules, field_of_view):
    """Round to lobulated nodules in the lungs, each at a random place of a coarse grid."""
    size, grid = canvas.x.shape[0], 32
    coarse = lung.reshape(grid, size // grid, grid, size // grid).mean((1, 3))
    centre = ((jnp.arange(size) + 0.5) / size - 0.5) * field_of_view
    found = []
    for u in jax.random.uniform(key, (num_nodules, 5 + grid * grid)):
        radius = 3.0 * 5.0 ** u[0]
        score = jnp.where(coarse < -0.7 * radius - 2.0, u[5:].reshape(grid, grid), -1.0)
        best = jnp.argmax(score)
        row, column = best // grid, best % grid
        present = (jnp.max(score) > 0) & (u[1] > 0.4)
        px, py = ((column + 0.5) / grid - 0.5) * field_of_view, (0.5 - (row + 0.5) / grid) * field_of_view
        around = _lung_value(p, canvas.y.reshape(grid, size // grid, grid, size // grid).mean((1, 3))[row, column])
        contrast = jnp.where(u[2] > 0.25, 780.0 + 160.0 * u[3], 250.0 + 300.0 * u[3])
        reach = jnp.sqrt((centre[None, :] - px) ** 2 + (centre[:, None] + py) ** 2)
        distance = reach - radius * (1.0 + 0.15 * u[4] * jnp.clip(canvas.smooth, -1.2, 1.2)) + jnp.where(present, 0.0, 1e4)
        canvas = _paint(canvas, distance / p["scale"], around + contrast + p["grain"] * canvas.fine, "nodule")
        off = jnp.where(present, 1.0, 0.0)
        found.append((jnp.stack([px, py]), radius * off, contrast * off, present))
    names = ("nodule_position", "nodule_radius", "nodule_contrast", "nodule_present")
    empty = (jnp.zeros((0, 2)), jnp.zeros(0), jnp.zeros(0), jnp.zeros(0, bool))
    columns = [jnp.stack(column) for column in zip(*found, strict=True)] if found else empty
    return canvas, dict(zip(names, columns, strict=True))


def _areas(canvas, labels, pixel_area):
    """Areas [mm^2] of what the labels name."""
    lung = (labels == LABELS["lung"]) | (labels == LABELS["lung_vessel"]) | (labels == LABELS["nodule"])
    masks = {
        "area_body": (labels != LABELS["background"]) & (labels != LABELS["table"]),
        "area_lung_right": lung & (canvas.x <= 0),
        "area_lung_left": lung & (canvas.x > 0),
        "area_heart": labels == LABELS["heart"],
        "area_bone": labels == LABELS["bone"],
    }
    return {name: jnp.sum(mask, dtype=canvas.image.dtype) * pixel_area for name, mask in masks.items()}


def torso(key, size=128, num_nodules=1, field_of_view=400.0):
    r"""One axial CT slice through a random chest, patient's left at the right of the image.

    Organs are signed distance functions in the coordinates of the body, painted from the skin inwards over edges one pixel wide, so
    that the image is what a scanner of that pixel sees; grain and smooth shading fill them.

    Args:
      key: random key; one key is one body at every `size`.
      size: pixels a side, a multiple of 32.
      num_nodules: the most lung nodules (static).
      field_of_view: side of the image [mm].

    Returns:
      A `Phantom`: image `[size, size]` [HU]; labels as in `LABELS`; attributes `area_*` [mm^2] (the lungs with their vessels and
      nodules), `nodule_position` `[num_nodules, 2]` [mm] from the centre of the image, `nodule_radius` [mm], `nodule_contrast` [HU]
      over clear parenchyma at that height, `nodule_present` (each `[num_nodules]`, zero where absent), `level` (0 apices, 1 diaphragm), `scale`,
      `rotation` [rad], `fat_thickness` [mm], `enhanced`, `blood` [HU], `haze` [HU] and `effusion` (0 where there is none).

    Raises:
      ValueError: when size is not a positive multiple of 32 or num_nodules is negative.
    """
    if size < 32 or size % 32 or num_nodules < 0:
        raise ValueError(f"torso needs size a multiple of 32 and num_nodules >= 0, got size {size} and num_nodules {num_nodules}")
    keys = jax.random.split(key, 8)
    p = draw_anatomy(keys[0])
    canvas = blank(keys[3:], p, size, field_of_view)
    organs = place_organs(canvas, p)
    stages = (
        lambda now: _wall(_table(now, p), p),
        lambda now: _mediastinum(now, p, organs),
        lambda now: _lungs(keys[1], now, p, organs),
        lambda now: _abdomen(now, p, organs),
        lambda now: _airways(_skeleton(now, p), p),
    )

    def draw(state, index):
        after = jax.lax.switch(index, stages, canvas._replace(image=state[0], labels=state[1]))
        return (after.image, after.labels), None

    # a loop, so that XLA compiles the stages apart: fused into one they take five times as long
    (image, labels), _ = jax.lax.scan(draw, (canvas.image, canvas.labels), jnp.arange(len(stages)))
    canvas = canvas._replace(image=image, labels=labels)
    canvas, attributes = _nodules(keys[2], canvas, p, organs["lung"], num_nodules, field_of_view)
    attributes |= _areas(canvas, canvas.labels, (field_of_view / size) ** 2)
    attributes |= {"level": p["level"], "scale": p["scale"], "rotation": p["rotation"], "enhanced": p["is_enhanced"], "blood": p["blood"]}
    attributes |= {"fat_thickness": p["fat"] * p["scale"], "haze": p["fog"], "effusion": p["flood"]}
    return Phantom(canvas.image, canvas.labels, attributes)
