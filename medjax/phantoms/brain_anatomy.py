"""Random axial anatomy of a head as signed distances."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from medjax.phantoms.smooth_field import smooth_field
from medjax.typing import Leaf

_RANGES = {  # name -> (low, high); lengths in mm, angles in rad, the rest are factors
    "level": (-5.0, 50.0), "size": (0.9, 1.01), "aspect": (0.95, 1.05), "rotation": (-0.1, 0.1), "pitch": (-0.1, 0.14), "roll": (-0.06, 0.06),
    "shift_x": (-4.0, 4.0), "shift_y": (-4.0, 3.0), "taper": (0.02, 0.12), "square": (2.1, 2.45), "age": (0.0, 1.0), "ventricles": (0.7, 1.15),
    "lopsided": (-0.05, 0.05), "sulcus_depth": (16.0, 23.0), "sulci": (11.0, 15.0), "phase_left": (0.0, 6.28), "phase_right": (0.0, 6.28),
    "cortex": (2.7, 3.3), "skull": (5.5, 8.5), "scalp": (3.5, 8.0), "tables": (1.2, 1.7), "muscle": (1.5, 5.5),
    "tumour_angle": (-0.9, 0.9), "tumour_range": (0.35, 0.68), "tumour_radius": (6.0, 18.0), "oedema": (2.0, 14.0), "necrosis": (-0.2, 0.7),
    "push": (0.0, 0.45), "flow": (0.25, 1.0), "chance": (0.0, 1.0), "rim": (1.5, 3.5),
}  # fmt: skip

# Lateral ventricle and tail of the caudate: (x, y, z, radius) along the axis, [mm], x away from the midline, origin at the anterior commissure.
_VENTRICLE = (
    (14.0, 33.0, 4.0, 2.2),
    (8.0, 20.0, 11.0, 4.2),
    (6.5, 0.0, 19.0, 3.8),
    (12.0, -24.0, 23.0, 3.8),
    (24.0, -43.0, 14.0, 5.6),
    (23.0, -66.0, 8.0, 1.5),
)
_CAUDATE_TAIL = ((14.0, 10.0, 14.0, 4.0), (17.0, -8.0, 22.0, 2.8), (21.0, -26.0, 22.0, 2.0))
# Centre, half axes and turn about z [rad] of the deep nuclei.
_NUCLEI = {
    "caudate": ((13.5, 15.0, 7.0), (5.0, 9.0, 11.0), -0.25),
    "putamen": ((26.0, 3.0, 2.0), (5.2, 16.0, 12.0), 0.25),
    "pallidum": ((19.5, -2.0, 0.0), (4.0, 9.0, 8.0), 0.45),
    "thalamus": ((12.0, -18.0, 7.0), (8.0, 15.5, 10.0), 0.45),
}
# Pieces of the Sylvian fissure in the plane: (x, y, 0, radius) of both ends.
_SYLVIAN = (
    ((60.0, 14.0, 0.0, 0.0), (43.0, 12.0, 0.0, 0.0)),
    ((34.5, 22.0, 0.0, 0.0), (40.5, 4.0, 0.0, 0.0)),
    ((40.5, 4.0, 0.0, 0.0), (38.5, -22.0, 0.0, 0.0)),
)

# x, y, radius and highest level of the anterior and middle cerebral arteries and of the inner veins.
_VESSELS = (
    *((1.8, 38.0, 1.0, 20.0), (-1.8, 36.5, 1.0, 20.0), (41.0, 8.0, 1.1, 12.0), (-41.0, 6.0, 1.1, 12.0)),
    *((1.2, -36.0, 1.0, 15.0), (-1.2, -36.0, 1.0, 15.0)),
)


class BrainAnatomy(NamedTuple):
    """Signed distances `[h, w]` in mm, negative inside, of one slice.

    head, muscle, bone, csf: surface of the scalp, of the temporal muscle, outer and inner surface of the skull.
    brain: its convex hull; cortex: the border of grey and white matter, negative in white.
    clefts: (distance from the middle sheet, half width) of the sulci, of the fissure between the hemispheres and of the Sylvian fissure.
    falx: the same pair; sinus, vessels: blood.
    ventricles: with the third ventricle and the cistern behind the midbrain; nuclei: caudate, putamen, pallidum, thalamus.
    tumour, oedema: their surfaces.
    tables: thickness of the compact bone [mm], scalar.
    centre: (x, y) of the tumour in the image [mm].
    scalars: "present" (bool), "radius" and "rim" [mm] and "necrosis" of the tumour, "age" and "flow" in [0, 1], "level" [mm], and the other draws.
    """

    head: Leaf
    muscle: Leaf
    bone: Leaf
    csf: Leaf
    brain: Leaf
    cortex: Leaf
    clefts: Leaf
    falx: Leaf
    sinus: Leaf
    vessels: Leaf
    ventricles: Leaf
    nuclei: Leaf
    tumour: Leaf
    oedema: Leaf
    tables: Leaf
    centre: Leaf
    scalars: Leaf


def _draw(key):
    """A uniform number for each name in `_RANGES`."""
    uniform = jax.random.uniform(key, (len(_RANGES),))
    return {name: low + (high - low) * uniform[i] for i, (name, (low, high)) in enumerate(_RANGES.items())}


def _cone(p, a, b):
    """Distance from a capsule whose radius runs from a[3] to b[3]."""
    ab = [v - u for u, v in zip(a[:3], b[:3], strict=True)]
    ap = [c - u for c, u in zip(p, a[:3], strict=True)]
    h = jnp.clip(sum(u * v for u, v in zip(ap, ab, strict=True)) / sum(v * v for v in ab), 0, 1)
    return jnp.sqrt(sum((u - h * v) ** 2 for u, v in zip(ap, ab, strict=True)) + 1e-6) - (a[3] + h * (b[3] - a[3]))


def _chain(p, points):
    """Distance from a chain of capsules."""
    distance = _cone(p, points[0], points[1])
    for a, b in zip(points[1:-1], points[2:], strict=True):
        distance = jnp.minimum(distance, _cone(p, a, b))
    return distance


def _ellipsoid(p, centre, axes, turn=0.0):
    """Distance from an ellipsoid turned about z, to first order."""
    c, s = jnp.cos(turn), jnp.sin(turn)
    x, y, z = (u - v for u, v in zip(p, centre, strict=True))
    x, y = c * x + s * y, c * y - s * x
    scaled = sum((u / r) ** 2 for u, r in zip((x, y, z), axes, strict=True)) + 1e-6
    slope = sum((u / r**2) ** 2 for u, r in zip((x, y, z), axes, strict=True)) + 1e-9
    return jnp.sqrt(scaled) * (jnp.sqrt(scaled) - 1) / jnp.sqrt(slope)


def _power(x, p):
    """x^p for x >= 0, kept from 0; several times faster than `pow` on a CPU."""
    return jnp.exp(p * jnp.log(x + 1e-4))


def _outline(x, y, z, s):
    """Depth below the brain's surface along the ray to its centre, and how much thicker a slanted layer looks at height z."""
    log_dome = jnp.log(jnp.maximum(1 - _power(jnp.abs(z - 8) / 74, 2.3), 0.05)) / 2.3
    a = 66 * jnp.exp(log_dome) * (1 - s["taper"] * y / 87)
    b = 86 * s["aspect"] * jnp.exp(0.85 * log_dome)
    p = s["square"]
    q = _power(_power(jnp.abs(x) / a, p) + _power(jnp.abs(y) / b, p), 1 / p)
    r = jnp.sqrt(x**2 + y**2)
    return r / q - r, jnp.exp(-0.6 * log_dome)


def _folds(x, y, side, noise, pixel, s):
    """Distance from the nearest sulcal line: the zeros of a wave around the hemisphere, bent and joined by noise."""
    u, v = (x - 32) / 36, y / 85
    t = jnp.arctan2(v, u)
    t = t + 0.22 * jnp.sin(2 * t) + 0.16 * noise[0]
    # the wave fades where its crests would meet, in the middle of the hemisphere
    strength = jnp.clip(3 * (u**2 + v**2) - 0.3, 0, 1)
    wave = strength * jnp.sin(jnp.round(s["sulci"]) * t + jnp.where(side > 0, s["phase_right"], s["phase_left"])) + 0.8 * noise[1]
    # central differences as products with a matrix: XLA would fuse jnp.gradient with the wave and compute the wave five times
    n = jnp.arange(wave.shape[0])
    difference = ((n[:, None] - n[None, :] == 1).astype(wave.dtype) - (n[None, :] - n[:, None] == 1)) / (2 * pixel)
    slope_x, slope_y = wave @ difference, difference.T @ wave
    return jnp.abs(wave) / jnp.sqrt(slope_x**2 + slope_y**2 + 0.1**2)


def _cortex(s, xb, p, depth, slant, low, middle, fine, pixel):
    """Border of the white matter, the fluid clefts and the falx; p has x away from the midline."""
    x, y, z = p
    age = s["age"]
    # the fissure between the hemispheres ends at the callosal arch
    arch = jnp.sqrt(((y + 6) / 38) ** 2 + ((z - 2) / 27) ** 2 + 1e-6)
    inside = jnp.maximum(1 - arch, 0) * 27
    midline = jnp.abs(xb + 0.8 * low[3])
    fissure = jnp.sqrt(midline**2 + inside**2)
    fissure_width = jnp.maximum(0.5 + 0.9 * age + 0.4 * middle[3], 0.3)
    # the Sylvian fissure opens the side of the hemisphere at the level of the deep nuclei; folds leave its outer wall
    bent = (x + 2.2 * middle[0] + 0.7 * fine[0], y + 2 * middle[1], jnp.zeros_like(x))
    pieces = [_cone(bent, *piece) for piece in _SYLVIAN]
    fade = jnp.maximum(jnp.abs(z - 3) - 13, 0)
    sylvian = jnp.sqrt(jnp.minimum(jnp.minimum(pieces[0], pieces[1]), pieces[2]) ** 2 + fade**2)
    sylvian_width = jnp.maximum(0.6 + 1.2 * age + 0.4 * middle[2], 0.3)

    line = _folds(x, y + 17, xb, (middle[3], fine[1]), pixel, s)
    below = jnp.minimum(jnp.minimum(depth, fissure), sylvian + 2.5 * jnp.maximum(42 - x, 0))
    reach = jnp.where(depth < fissure, s["sulcus_depth"] + 4 * (z > 30), 6.5) * (1 + 0.25 * middle[2] + 0.2 * low[5])
    sulcus = jnp.sqrt(line**2 + jnp.maximum(below - jnp.clip(reach, 3, 26), 0) ** 2)
    sulcus_width = jnp.maximum((0.28 + 0.6 * age + 0.18 * fine[0]) * (0.6 + 1.2 * jnp.exp(-below / 5)), 0.15)

    clefts = ((sulcus, sulcus_width), (fissure, fissure_width), (sylvian, sylvian_width))
    pial = depth
    for distance, width in clefts:
        pial = jnp.minimum(pial, distance - width)
    thickness = s["cortex"] * (1 + 0.08 * fine[1]) * slant
    falx = jnp.maximum(midline, jnp.maximum(depth - jnp.where(y < 0, 45, 25), 0) + jnp.maximum(inside - 1, 0))
    return {"cortex": thickness - pial, "clefts": clefts, "falx": (falx, jnp.full_like(falx, 0.2))}


def _deep(s, p):
    """Ventricles with the cistern, and the deep nuclei."""
    grow = s["ventricles"] * (0.8 + 1.1 * s["age"])
    lateral = jnp.maximum(_chain(p, [(*point[:3], point[3] * grow) for point in _VENTRICLE]), 0.6 - p[0])
    third = _ellipsoid(p, (0.0, -13.0, -3.0), (1.2 + 1.8 * s["age"], 15.0, 10.0))
    cistern = _ellipsoid(p, (0.0, -37.0, -1.0), (7.0, 4.5, 7.0))
    caudate, *nuclei = (_ellipsoid(p, *nucleus) for nucleus in _NUCLEI.values())
    caudate = jnp.minimum(caudate, _chain(p, _CAUDATE_TAIL))
    return {"ventricles": jnp.minimum(jnp.minimum(lateral, third), cistern), "nuclei": (caudate, *nuclei)}


def _shell(s, out, slant, x, y, z, low):
    """Skull, muscle and scalp around the hull, whose outward distance is `out`."""
    csf = out - (1.2 + 3.0 * s["age"]) * (1 + 0.3 * low[4]) * slant
    bone = csf - s["skull"] * (1 + 0.12 * low[5] + 0.15 * (y / 87) ** 2) * slant
    muscle = s["muscle"] * jnp.exp(-(((y - 25) / 26) ** 2)) * jnp.clip((30 - z) / 25, 0, 1) * jnp.clip((jnp.abs(x) - 25) / 20, 0, 1)
    head = bone - s["scalp"] * (1 + 0.15 * low[4]) * slant - 0.8 * muscle
    return {"brain": out, "csf": csf, "bone": bone, "muscle": bone - muscle, "head": head, "tables": s["tables"]}


def _blood(x, y, z, depth):
    """Sagittal sinus under the skull, and the arteries and veins that cross the slice."""
    edge = jnp.where((y < -17) | (z > 35), jnp.abs(depth + 0.5), 99)
    vessels = [jnp.sqrt((x - cx) ** 2 + (y - cy) ** 2) - r + jnp.maximum(z - top, 0) for cx, cy, r, top in _VESSELS]
    return {"sinus": jnp.sqrt(x**2 + edge**2) - 3.0, "vessels": jnp.min(jnp.stack(vessels), 0)}


def _tumour(s, present, x, y, middle, fine):
    """Its distances, centre and radius in the head, and how far the tissue around it moves away, as a fraction of the way from the centre."""
    scale = _power(1 - _power(jnp.abs(s["level"] - 8) / 74, 2.3), 1 / 2.3)
    side = jnp.where(s["phase_left"] > jnp.pi, -1.0, 1.0)
    cx = side * 66 * scale * s["tumour_range"] * jnp.cos(s["tumour_angle"])
    cy = 85 * scale * s["tumour_range"] * jnp.sin(s["tumour_angle"]) - 4
    radius = jnp.where(present, s["tumour_radius"] * scale, 0)
    ball = jnp.sqrt((x - cx) ** 2 + (y - cy) ** 2 + 1e-6)
    tumour = ball - radius * (1 + 0.14 * jnp.clip(middle[0], -2, 2) + 0.06 * jnp.clip(fine[0], -2, 2))
    oedema = ball - (radius + s["oedema"]) * (1 + 0.22 * middle[1])
    push = s["push"] * jnp.exp(-((ball / (1.8 * radius + 1e-3)) ** 2))
    return {"tumour": tumour, "oedema": oedema}, (cx, cy), radius, push


def brain_anatomy(key, size, field_of_view, tumour_probability):
    """Draw the anatomy of one axial slice, in mm; x right and y up in the image.

    Every structure is a surface in three dimensions, cut by a slightly tilted plane at a random height. Sulci are the zeros of a wave that
    runs around each hemisphere, bent and joined by noise; the cortex is what lies within its thickness of the nearest pial surface.

    Args:
      key: typed key.
      size: pixels a side (static).
      field_of_view: side of the image [mm] (static).
      tumour_probability: chance of a tumour.

    Returns:
      A `BrainAnatomy`.
    """
    keys = jax.random.split(key, 4)
    s = _draw(keys[0])
    pixel = field_of_view / size
    low = smooth_field(keys[1], 6, size, field_of_view, 40.0)
    middle = smooth_field(keys[2], 4, size, field_of_view, 16.0)
    fine = smooth_field(keys[3], 2, size, field_of_view, 6.0)
    present = s["chance"] < tumour_probability

    axis = (jnp.arange(size) - (size - 1) / 2) * pixel
    X, Y = jnp.broadcast_to(axis[None, :], (size, size)), jnp.broadcast_to(-axis[:, None], (size, size))
    c, n = jnp.cos(s["rotation"]), jnp.sin(s["rotation"])
    x = (c * (X - s["shift_x"]) + n * (Y - s["shift_y"])) / s["size"]
    y = (c * (Y - s["shift_y"]) - n * (X - s["shift_x"])) / s["size"]
    z = s["level"] + s["pitch"] * y + s["roll"] * x
    depth, slant = _outline(x * (1 + 0.012 * low[0]), y * (1 + 0.012 * low[0]), z, s)

    tumour, (cx, cy), radius, push = _tumour(s, present, x, y, middle, fine)
    # coordinates of the brain, from the anterior commissure, which lies 17 mm before the centre of the section
    xb = x - push * (x - cx) + 1.6 * low[1] + 0.5 * middle[2]
    yb = y - push * (y - cy) + 1.6 * low[2] - 17
    p = (jnp.abs(xb) * (1 + s["lopsided"] * jnp.sign(xb)), yb, z)
    parts = _shell(s, -depth, slant, x, y, z, low) | _cortex(s, xb, p, depth, slant, low, middle, fine, pixel) | _deep(s, p)
    parts = jax.tree.map(lambda d: d * s["size"], parts | _blood(xb, yb, z, depth) | tumour)
    centre = jnp.stack([s["shift_x"] + s["size"] * (c * cx - n * cy), s["shift_y"] + s["size"] * (n * cx + c * cy)])
    return BrainAnatomy(**parts, centre=centre, scalars=s | {"present": present, "radius": radius * s["size"]})
