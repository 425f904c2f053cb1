"""Where the organs of a random chest lie: the numbers of a body and the signed distances [mm] of its parts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax.phantoms.texture import texture

NUM_RIBS = 7
NUM_BRANCHES = 5
NUM_CELLS = 32

# Ranges of the anatomy in [mm] of a body of ordinary size, [rad] and [HU]; `level` runs from the apices (0) to the domes of the diaphragm (1).
RANGES = {
    "level": (0.0, 1.0),
    "scale": (0.92, 1.22),
    "rotation": (-0.09, 0.09),
    "shift_x": (-12.0, 12.0),
    "shift_y": (0.0, 22.0),
    "cage_width": (130.0, 152.0),
    "cage_depth": (90.0, 113.0),
    "cage_square": (-0.5, -0.15),
    "body_square": (-0.65, -0.25),
    "obesity": (0.0, 1.0),
    "muscle": (0.8, 1.25),
    "female": (0.0, 1.0),
    "breast": (6.0, 24.0),
    "gland": (0.0, 1.0),
    "mediastinum": (5.0, 17.0),
    "heart_size": (0.95, 1.28),
    "heart_angle": (0.45, 0.85),
    "aorta": (10.5, 14.5),
    "trachea": (7.5, 10.0),
    "enhanced": (0.0, 1.0),
    "enhancement": (110.0, 300.0),
    "lung_base": (-895.0, -830.0),
    "gravity": (10.0, 50.0),
    "lung_grain": (10.0, 26.0),
    "grain": (3.0, 11.0),
    "cortex": (450.0, 900.0),
    "marrow": (160.0, 320.0),
    "scapula": (0.0, 1.0),
    "liver": (50.0, 68.0),
    "dome": (0.0, 1.0),
    "gas": (0.0, 1.0),
    "table": (0.0, 1.0),
    "table_gap": (6.0, 30.0),
    "table_curve": (0.0004, 0.0022),
    "sheet": (0.0, 1.0),
    "haze": (0.0, 1.0),
    "effusion": (-1.0, 1.0),
    "clavicle": (0.0, 1.0),
}


class Canvas(NamedTuple):
    """What has been drawn so far, with the coordinates of the body [mm] of every pixel; arrays `[size, size]`, `pixel` [mm]."""

    x: Array
    y: Array
    pixel: Array
    cage: Array
    body: Array
    smooth: Array
    lumps: Array
    fine: Array
    image: Array
    labels: Array


def ramp(s, start, stop):
    """0 before `start`, 1 after `stop`, smooth between."""
    t = jnp.clip((s - start) / (stop - start), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def between(s, start, stop, width=0.05):
    """1 between `start` and `stop`, 0 elsewhere, with edges of half width `width`."""
    return ramp(s, start - width, start + width) * (1 - ramp(s, stop - width, stop + width))


def ellipse(x, y, cx, cy, rx, ry, angle=0.0):
    """Signed distance to an ellipse, exact to first order at its edge."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    p = ((x - cx) * c + (y - cy) * s) / rx
    q = ((y - cy) * c - (x - cx) * s) / ry
    return 0.5 * (p * p + q * q - 1) * jax.lax.rsqrt((p / rx) ** 2 + (q / ry) ** 2 + 1e-6)


def squircle(x, y, rx, ry, square):
    """Signed distance to a box with the roundness of an ellipse (square = 0) or less (square < 0), exact to first order at its edge."""
    u, v = (x / rx) ** 2, (y / ry) ** 2
    u_near, v_near = jnp.minimum(u, 1.5), jnp.minimum(v, 1.5)
    slope = (x / rx**2 * (1 + square * v_near)) ** 2 + (y / ry**2 * (1 + square * u_near)) ** 2
    return 0.5 * (u + v + square * u_near * v_near - 1) * jax.lax.rsqrt(slope + 1e-6)


def capsule(x, y, start, stop, radius, end_radius=None):
    """Signed distance to a thick line that may taper."""
    bx, by = stop[0] - start[0], stop[1] - start[1]
    px, py = x - start[0], y - start[1]
    t = jnp.clip((px * bx + py * by) / (bx * bx + by * by + 1e-3), 0.0, 1.0)
    taper = 0.0 if end_radius is None else (end_radius - radius) * t
    return jnp.sqrt((px - bx * t) ** 2 + (py - by * t) ** 2 + 1e-6) - radius - taper


def union(a, b, width):
    """Smooth minimum, rounded over `width` [mm]."""
    h = jnp.maximum(width - jnp.abs(a - b), 0.0)
    return jnp.minimum(a, b) - h * h / (4 * width)


def cover(distance, pixel):
    """Share of a pixel that lies inside, for a scanner whose point spread is a pixel and a half."""
    t = jnp.clip(0.5 - distance / (1.5 * pixel), 0.0, 1.0)
    # XLA computes what ends in a division once, and what ends in a product once for the image and again for the labels
    return t * t / (t * t + (1 - t) ** 2)


def draw_anatomy(key):
    """All numbers of one body: the draws of `RANGES` and what follows from them."""
    low, high = (jnp.array(side) for side in zip(*RANGES.values(), strict=True))
    # one call for all: each call of the generator costs compile time
    u = jax.random.uniform(key, (len(RANGES) + NUM_RIBS * 8 + NUM_BRANCHES * 12,))
    own, ribs, branches = jnp.split(u, (len(RANGES), len(RANGES) + NUM_RIBS * 8))
    p = dict(zip(RANGES, low + (high - low) * own, strict=True))
    p |= {"ribs": ribs.reshape(NUM_RIBS, 4, 2), "branches": branches.reshape(NUM_BRANCHES, 6, 2)}
    s = p["level"]
    grown = 0.2 + 0.8 * ramp(s, -0.25, 0.4)
    enhanced = p["enhanced"] > 0.45
    blood = jnp.where(enhanced, 50.0 + p["enhancement"], 42.0)
    p |= {
        "grown": grown,
        "A": p["cage_width"] * (0.5 + 0.5 * grown),
        "B": p["cage_depth"] * (0.66 + 0.34 * grown),
        "fat": 3.0 + 34.0 * p["obesity"] ** 2.5,
        "is_enhanced": enhanced,
        "blood": blood,
        "right_blood": jnp.where(enhanced, blood + 60.0 * (p["gas"] - 0.5), 42.0),
        "myocardium": jnp.where(enhanced, 95.0, 50.0),
        "fog": 900.0 * jnp.maximum(p["haze"] - 0.75, 0.0),
        "flood": jnp.maximum(jnp.abs(p["effusion"]) - 0.85, 0.0) / 0.15,
        "is_female": p["female"] > 0.5,
    }
    return p | {"spine": 42.0 - p["B"], "lift": (2 * p["B"] - 42.0) / 127.0}


def blank(keys, p, size, field_of_view):
    """The coordinates of the body, its distances to skin and rib cage, its grain."""
    bend_x, bend_y = jax.vmap(lambda k: texture(k, size, 3.0, 6))(keys[:2])
    smooth, lumps = jax.vmap(lambda k: texture(k, size, 2.6, 14))(keys[2:4])
    centre = ((jnp.arange(size) + 0.5) / size - 0.5) * field_of_view
    X, Y = centre[None, :] - p["shift_x"], -centre[:, None] - p["shift_y"]
    c, s = jnp.cos(p["rotation"]) / p["scale"], jnp.sin(p["rotation"]) / p["scale"]
    x = c * X + s * Y + 2.6 * bend_x
    y = c * Y - s * X + 2.6 * bend_y
    wide, deep = p["cage_width"] + 6.0 * p["muscle"] + p["fat"], p["B"] + 18.0 + 0.8 * p["fat"]
    body = squircle(x, y + 8.0, wide, deep, p["body_square"])
    groove = jnp.maximum(1 - (x / 20.0) ** 2, 0.0) ** 2 * jnp.where(y < 0, 5.0, 2.0)
    size_of_breast = jnp.where(p["is_female"], p["breast"] + 0.4 * p["fat"], 0.1 * p["fat"]) * between(p["level"], 0.35, 1.1, 0.15)
    breast = ellipse(jnp.abs(x), y, 0.56 * p["A"], deep - 24.0, 52.0, 12.0 + size_of_breast, -0.35)
    body = union(body + groove, breast, 16.0)
    zero = jnp.zeros_like(x)
    return Canvas(
        x=x,
        y=y,
        pixel=field_of_view / (size * p["scale"]),
        cage=squircle(x, y, p["A"], p["B"], p["cage_square"]),
        body=body,
        smooth=smooth,
        lumps=lumps,
        fine=texture(keys[4], size, 0.8, 31),
        image=zero - 1000.0,
        labels=zero.astype(jnp.int32),
    )


def _great_vessels(canvas, p):
    """Distances of (arteries, veins) of the mediastinum, aorta first."""
    x, y, s, spine, r, lift = canvas.x, canvas.y, p["level"], p["spine"], p["aorta"], p["lift"]
    gone = 1e4
    descending = ellipse(x, y, 21.0 - 12.0 * ramp(s, 0.6, 1.0), spine + 17.0 * lift + 5.0 * ramp(s, 0.6, 1.0), r, r) + gone * (s < 0.31)
    ascending = ellipse(x, y, -9.0 + 9.0 * ramp(s, 0.5, 0.7), spine + 74.0 * lift, 1.3 * r, 1.25 * r) + gone * ((s < 0.33) | (s > 0.68))
    arch = capsule(x, y, (-4.0, spine + 70.0 * lift), (20.0, spine + 22.0 * lift), 1.1 * r, r) + gone * ((s < 0.2) | (s > 0.33))
    neck = jnp.minimum(ellipse(x, y, 20.0, spine + 46.0 * lift, 7.0, 6.5), ellipse(x, y, -13.0, spine + 58.0 * lift, 7.5, 7.0))
    neck = jnp.minimum(neck, ellipse(x, y, 9.0, spine + 59.0 * lift, 5.0, 5.5)) + gone * (s > 0.2)
    trunk = ellipse(x, y, 20.0, spine + 71.0 * lift, 15.0, 17.0, 0.5)
    trunk = jnp.minimum(trunk, capsule(x, y, (18.0, spine + 60.0 * lift), (-38.0, spine + 44.0 * lift), 10.0, 7.5))
    trunk = jnp.minimum(trunk, capsule(x, y, (20.0, spine + 62.0 * lift), (44.0, spine + 40.0 * lift), 9.0, 7.0)) + gone * ((s < 0.43) | (s > 0.57))
    cava = ellipse(x, y, -27.0, spine + 62.0 * lift, 9.0, 8.0, 0.4) + gone * ((s < 0.1) | (s > 0.62))
    vein = capsule(x, y, (-27.0, spine + 72.0 * lift), (30.0, spine + 80.0 * lift), 6.5) + gone * ((s < 0.08) | (s > 0.19))
    arteries = jnp.minimum(jnp.minimum(descending, ascending), jnp.minimum(arch, neck))
    return arteries, jnp.minimum(trunk, jnp.minimum(cava, vein))


def _chambers(canvas, p):
    """Distances of the blood (left heart, right heart) and of the wall round them."""
    s, k = p["level"], p["heart_size"]
    low = ramp(s, 0.66, 0.82)
    shown = ramp(s, 0.5, 0.66) * (1 - 0.45 * ramp(s, 0.93, 1.05))
    c, t = jnp.cos(p["heart_angle"]), jnp.sin(p["heart_angle"])
    dx, dy = canvas.x - 14.0 - 8.0 * low, canvas.y - p["spine"] - 68.0 * p["lift"]
    u, v = (c * dx + t * dy) / k, (c * dy - t * dx) / k
    size = 0.35 + 0.65 * shown
    gone = 1e4 * (s < 0.54)
    left = ellipse(u, v, 18.0, -15.0, (14.0 + 22.0 * low) * size, (10.0 + 7.0 * low) * size, -0.15)
    atrium = ellipse(u, v, -30.0 + 4.0 * low, -22.0, (30.0 - 6.0 * low) * size, (17.0 - 3.0 * low) * size, -0.6)
    atrium = atrium + 30.0 * ramp(s, 0.82, 0.9)
    right = ellipse(u, v, 16.0, 20.0, 36.0 * size, (13.0 + 3.0 * low) * size, -0.2)
    right_atrium = ellipse(u, v, -34.0, 16.0, 20.0 * size, 23.0 * size, 0.3)
    wall = union(union(left - 9.5 * low - 2.0, atrium - 2.0, 6.0), union(right - 3.5, right_atrium - 2.5, 6.0), 5.0)
    return jnp.minimum(left, atrium) * k + gone, jnp.minimum(right, right_atrium) * k + gone, wall * k + gone


def _envelope(canvas, p, vessels, wall):
    """Distance to all that parts the lungs: spine, vessels, heart and the fat between them."""
    x, y, s, spine, lift = canvas.x, canvas.y, p["level"], p["spine"], p["lift"]
    wide = p["mediastinum"] + 8.0 * (1 - ramp(s, 0.0, 0.25))
    back = capsule(x, y, (0.0, spine - 60.0), (0.0, spine + 6.0 * lift), 20.0, 18.0)
    middle = capsule(x, y, (1.0, spine + 18.0 * lift), (0.0, spine + 66.0 * lift), 15.0, 12.0 + wide)
    front = capsule(x, y, (0.0, spine + 66.0 * lift), (0.0, p["B"]), 7.0 + wide, 1.0 + 0.6 * wide)
    organs = union(jnp.minimum(vessels[0], vessels[1]) - 2.5, wall - 3.0, 6.0)
    return union(union(back, organs, 8.0), union(middle, front, 10.0), 12.0)


def place_organs(canvas, p):
    """Signed distances to what several stages need."""
    vessels, chambers = _great_vessels(canvas, p), _chambers(canvas, p)
    envelope = _envelope(canvas, p, vessels, chambers[2])
    low, lowest = ramp(p["level"], 0.84, 1.02), ramp(p["level"], 0.9, 1.04)
    liver = ellipse(canvas.x, canvas.y, -0.36 * p["A"], 0.05 * p["B"], 1.0 + 92.0 * low, 1.0 + 86.0 * low)
    stomach = ellipse(canvas.x, canvas.y, 0.5 * p["A"], -0.1 * p["B"], 1.0 + 70.0 * lowest, 1.0 + 66.0 * lowest)
    pleura = -union(-(canvas.cage + 9.5), jnp.minimum(envelope, jnp.minimum(liver, stomach) + 4.0), 7.0)
    # fluid lies at the back of one side and climbs along the ribs
    amount = p["flood"]
    surface = canvas.y + p["B"] - 8.0 - 50.0 * amount - 0.002 * canvas.x**2 + 1e4 * ((amount <= 0) | (p["effusion"] * canvas.x < 0))
    lung, fluid = jnp.maximum(pleura, -surface), jnp.maximum(pleura, surface)
    distances = {"lung": lung, "fluid": fluid, "liver": liver, "stomach": stomach}
    return distances | {"envelope": envelope, "vessels": vessels, "chambers": chambers}


def rib_distance(canvas, p):
    """Distance to the oblique cuts of the ribs along the cage, other on each side."""
    sign = jnp.array([-1.0, 1.0])

    def rib(draw):
        index, u = draw
        angle = -1.25 + 2.5 * (index + 0.8 * (u[0] - 0.5)) / (NUM_RIBS - 1)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        stretch = jnp.sqrt(2.0 / (1.0 + jnp.sqrt(1.0 + 4.0 * p["cage_square"] * (cosine * sine) ** 2)))
        middle = (sign * p["A"] * stretch * cosine, p["B"] * stretch * sine)
        return jnp.stack([*middle, 0.6 * (u[1] - 0.5) * sine, 6.0 + 12.0 * u[2], 2.8 + 1.8 * u[3]])

    # a loop, so that the cosines are not fused into the loop over pixels
    table = jax.lax.map(rib, (jnp.arange(NUM_RIBS), p["ribs"]))
    distance = jnp.inf
    for entries in table:
        cx, cy, slope, length, thick = (jnp.where(canvas.x > 0, entry[1], entry[0]) for entry in entries)
        dx, dy = canvas.x - cx, canvas.y - cy
        ring = jnp.abs(canvas.cage + 4.6 + slope * dx) - thick
        distance = jnp.minimum(distance, jnp.maximum(ring, jnp.sqrt(dx * dx + dy * dy + 1e-6) - length))
    return distance


def tree_distance(canvas, p):
    """Distance to the arteries and veins that fan out from the hila: branches of two generations, other on each side."""
    sign = jnp.array([-1.0, 1.0])
    hilum = jnp.stack([36.0 * sign, p["spine"] + 44.0 * p["lift"] + 0.0 * sign])
    strong = 0.35 + 0.65 * between(p["level"], 0.4, 0.72, 0.1)

    def step(angle, length):
        return length[None, :] * jnp.stack([sign * jnp.cos(angle), jnp.sin(angle)])

    def branch(draw):
        index, u = draw
        angle = -1.3 + 2.5 * (index + 0.9 * (u[0] - 0.5)) / (NUM_BRANCHES - 1)
        fork = hilum + step(angle, 18.0 + 22.0 * u[1])
        tips = [fork + step(angle + turn * (0.25 + 0.5 * u[2 + k]), 14.0 + 22.0 * u[4 + k]) for k, turn in enumerate((-1.0, 1.0))]
        return jnp.stack([jnp.concatenate([hilum, fork]), *(jnp.concatenate([fork, tip]) for tip in tips)])

    table = jax.lax.map(branch, (jnp.arange(NUM_BRANCHES), p["branches"]))
    distance = jnp.inf
    for stem_and_tips in table:
        for ends, wide, thin, faint in zip(stem_and_tips, (3.1, 1.3, 1.3), (1.2, 0.2, 0.2), (0.1, 0.35, 0.35), strict=True):
            ax, ay, bx, by = (jnp.where(canvas.x > 0, end[1], end[0]) for end in ends)
            # a vessel thinner than the pixel is fainter, not wider
            line = capsule(canvas.x, canvas.y, (ax, ay), (bx, by), strong * wide, strong * thin) + faint * canvas.pixel
            distance = jnp.minimum(distance, line)
    return distance


def twig_cover(key, canvas, p):
    """Cover [0, 1] of the small vessels: in some cells of a grid over the image one cut, a dot or a short line that points to the hilum."""
    size = canvas.x.shape[0]
    side = size // NUM_CELLS
    cell = canvas.pixel * side
    middle = cell * (jnp.arange(NUM_CELLS) - NUM_CELLS / 2 + 0.5)
    local = canvas.pixel * (jnp.arange(side) - side / 2 + 0.5)
    hx = jnp.sign(middle)[None, :] * 38.0 - middle[None, :]
    hy = p["spine"] + 44.0 * p["lift"] + middle[:, None]
    far = jnp.sqrt(hx**2 + hy**2 + 1.0)

    # odd rows of cells are shifted by half a cell, so that no lattice shows: their first pixels belong to the cell on the left
    first = (jnp.arange(side) < side // 2)[:, None]
    odd = (jnp.arange(NUM_CELLS) % 2 == 1)[None, :]
    shifted = local[:, None] + jnp.where(odd, jnp.where(first, 0.5, -0.5) * cell, 0.0)

    def layer(draw):
        u, thickest, share = draw
        turn = 2.4 * (u[0] - 0.5)
        ux, uy = (hx + turn * hy) / far, (hy - turn * hx) / far
        unit = jax.lax.rsqrt(ux**2 + uy**2 + 1e-6)
        radius = thickest * (0.2 + 0.8 * u[1] ** 2) * jnp.exp(-far / 80.0)
        length = jnp.where(u[2] > 0.6, 0.4 * cell * u[2], 0.0)
        # a vessel thinner than the pixel is fainter, not smaller
        bright = jnp.minimum(1.3 * radius / canvas.pixel, 1.0) * (u[5] < share)
        radius = jnp.maximum(radius, 0.25 * canvas.pixel)
        cells = jnp.stack([ux * unit, uy * unit, radius, length, bright, 0.6 * cell * (u[3] - 0.5), 0.6 * cell * (u[4] - 0.5)])
        # the pixels of a cell come first and the cells last, so that the inner loop runs over cells
        cells = jnp.where((odd & first)[None, :, :, None], jnp.roll(cells, 1, 2)[:, None], cells[:, None])[:, None]
        ux, uy, radius, length, bright, ox, oy = cells
        dx = shifted[None, :, :, None] - ox
        dy = -local[:, None, None, None] - oy
        along = jnp.maximum(jnp.abs(dx * ux + dy * uy) - length, 0.0)
        distance = jnp.sqrt(along**2 + (dx * uy - dy * ux) ** 2 + 1e-6) - radius
        return (cover(distance, canvas.pixel) * bright).transpose(2, 0, 3, 1).reshape(size, size)

    draws = jax.random.uniform(key, (2, 6, NUM_CELLS, NUM_CELLS))
    return jax.lax.map(layer, (draws, jnp.array([3.6, 2.4]), jnp.array([0.22, 0.45]))).max(0)
