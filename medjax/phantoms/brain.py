"""Generated axial slices of brain MRI."""

import jax
import jax.numpy as jnp

from medjax.phantoms.brain_anatomy import brain_anatomy
from medjax.phantoms.smooth_field import smooth_field
from medjax.phantoms.texture import texture
from medjax.physics.inversion_recovery import inversion_recovery
from medjax.physics.spin_echo import spin_echo
from medjax.physics.spoiled_gradient_echo import spoiled_gradient_echo
from medjax.typing import Phantom

LABELS = {
    "background": 0, "scalp": 1, "skull": 2, "csf": 3, "grey": 4, "white": 5, "ventricle": 6, "caudate": 7, "putamen": 8, "pallidum": 9,
    "thalamus": 10, "tumour": 11, "oedema": 12, "vessel": 13, "dura": 14,
}  # fmt: skip

# tissue -> (label, PD, T1 at 1.5 T, T1 at 3 T, T2), times in ms
_TISSUES = {
    "skin": ("scalp", 0.70, 750.0, 900.0, 38.0),
    "fat": ("scalp", 0.85, 288.0, 371.0, 135.0),
    "muscle": ("scalp", 0.72, 950.0, 1300.0, 36.0),
    "bone": ("skull", 0.06, 300.0, 400.0, 4.0),
    "marrow": ("skull", 0.55, 300.0, 371.0, 110.0),
    "csf": ("csf", 1.00, 4000.0, 4200.0, 1900.0),
    "grey": ("grey", 0.83, 1050.0, 1400.0, 95.0),
    "white": ("white", 0.70, 650.0, 880.0, 74.0),
    "ventricle": ("ventricle", 1.00, 4000.0, 4200.0, 1900.0),
    "caudate": ("caudate", 0.81, 1030.0, 1350.0, 88.0),
    "putamen": ("putamen", 0.79, 940.0, 1250.0, 80.0),
    "pallidum": ("pallidum", 0.73, 760.0, 1030.0, 62.0),
    "thalamus": ("thalamus", 0.77, 880.0, 1180.0, 82.0),
    "tumour": ("tumour", 0.87, 1350.0, 1700.0, 150.0),
    "necrosis": ("tumour", 0.95, 2300.0, 2600.0, 320.0),
    "rim": ("tumour", 0.85, 1200.0, 1500.0, 115.0),
    "oedema": ("oedema", 0.84, 1150.0, 1500.0, 135.0),
    "vessel": ("vessel", 0.90, 1450.0, 1750.0, 160.0),
    "dura": ("dura", 0.50, 800.0, 1000.0, 25.0),
}

_SPIN_ECHO, _INVERSION, _GRADIENT = range(3)
# contrast -> (sequence, then low and high of TR and TE [ms], of TI as a part of that which nulls fluid, and of the flip angle [degrees])
_PROTOCOLS = {
    "t1": (_SPIN_ECHO, 400.0, 650.0, 8.0, 18.0, 0.0, 0.0, 90.0, 90.0),
    "t2": (_SPIN_ECHO, 3000.0, 6000.0, 80.0, 120.0, 0.0, 0.0, 90.0, 90.0),
    "pd": (_SPIN_ECHO, 2200.0, 4000.0, 10.0, 30.0, 0.0, 0.0, 90.0, 90.0),
    "flair": (_INVERSION, 8000.0, 11000.0, 85.0, 130.0, 0.97, 1.03, 90.0, 90.0),
    "gre": (_GRADIENT, 10.0, 25.0, 2.0, 5.0, 0.0, 0.0, 16.0, 30.0),
    "ir": (_INVERSION, 2500.0, 4000.0, 4.0, 15.0, 0.9, 1.05, 90.0, 90.0),
}
_GADOLINIUM_RATE = 1 / 450.0  # added to 1/T1 where the agent leaks or flows [1/ms]


def _cover(distance, soft):
    """Part of a pixel inside a surface at this signed distance."""
    return jnp.clip(0.5 - distance / soft, 0, 1)


def _slab(distance, half_width, soft):
    """Part of a pixel inside a sheet thinner or thicker than the pixel."""
    return jnp.clip((half_width + soft / 2 - distance) / soft, 0, jnp.minimum(2 * half_width / soft, 1))


def _layers(a, soft):
    """(tissue, part of the pixel) from the outside inwards; each layer covers those before it."""
    s = a.scalars
    fluid = _cover(-a.brain, soft)
    for distance, half_width in a.clefts:
        fluid = jnp.maximum(fluid, _slab(distance, half_width, soft))
    head, white, brain = _cover(a.head, soft), _cover(a.cortex, soft), _cover(a.brain, soft)
    caudate, putamen, pallidum, thalamus = (_cover(d, 1.5 * soft) for d in a.nuclei)
    return [
        ("fat", head),
        ("skin", head - _cover(a.head + 1.6, soft)),
        ("muscle", _cover(a.muscle, soft)),
        ("bone", _cover(a.bone, soft)),
        ("marrow", jnp.minimum(_cover(a.bone + a.tables, soft), _cover(a.tables - a.csf, soft))),
        ("csf", _cover(a.csf, soft)),
        ("grey", brain * (1 - fluid)),
        ("white", white),
        ("dura", _slab(a.falx[0], a.falx[1], soft) * _cover(a.csf, soft)),
        ("pallidum", pallidum),
        ("putamen", putamen),
        ("thalamus", thalamus),
        ("ventricle", _cover(a.ventricles, soft)),
        ("caudate", caudate),
        ("vessel", jnp.maximum(_cover(a.vessels, soft), _cover(a.sinus, soft))),
        ("oedema", s["present"] * 0.9 * _cover(a.oedema, 4.0) * white),
        ("rim", s["present"] * _cover(a.tumour, soft)),
        ("tumour", s["present"] * _cover(a.tumour + s["rim"], soft)),
        ("necrosis", s["present"] * _cover(a.tumour + s["radius"] * (1 - s["necrosis"]), 2 * soft)),
    ]


def _tissue_maps(spread, layers, a, size, enhanced, field):
    """Labels, PD, T1 and 1/T2 `[h, w]`, mixed by volume at edges: mixing 1/T1 would draw a rim brighter than either side on PD and FLAIR."""
    labels = jnp.zeros((size, size), jnp.int32)
    density, time1, rate2 = jnp.zeros((size, size)), jnp.full((size, size), 300.0), jnp.full((size, size), 1 / 70.0)
    for i, (tissue, part) in enumerate(layers):
        label, pd, t1_low, t1_high, t2 = _TISSUES[tissue]
        own1 = spread[i, 1] * (t1_low + field * (t1_high - t1_low))
        own2 = spread[i, 2] / t2
        if tissue == "vessel":
            pd = pd * a.scalars["flow"]  # part of the blood has left the slice before the echo
        if tissue in ("rim", "vessel"):
            own1 = own1 / (1 + enhanced * _GADOLINIUM_RATE * own1)
        if tissue == "white":
            # ageing loosens the white matter around the ventricles
            own2 = own2 * (1 - 0.45 * a.scalars["age"] ** 2 * jnp.exp(-jnp.maximum(a.ventricles, 0) / 3.0))
        density = density + part * (jnp.minimum(pd * spread[i, 0], 1) - density)
        time1 = time1 + part * (own1 - time1)
        rate2 = rate2 + part * (own2 - rate2)
        labels = jnp.where(part > 0.5, LABELS[label], labels)
    return labels, density, time1, rate2


def _protocol(u, contrast, csf_t1):
    """Sequence index, TR, TE, TI [ms] and flip angle [rad] from five uniform numbers."""
    names = list(_PROTOCOLS) if contrast == "random" else [contrast]
    row = jnp.array([_PROTOCOLS[name] for name in names])[(u[4] * len(names)).astype(jnp.int32)]
    tr, te, ti, flip = row[1::2] + u[:4] * (row[2::2] - row[1::2])
    null = csf_t1 * jnp.log(2 / (1 + jnp.exp(-tr / csf_t1)))
    return row[0].astype(jnp.int32), tr, te, ti * null, jnp.deg2rad(flip)


def _signal(pd, t1, t2, protocol):
    """Magnitude by the signal equation of the sequence; the field is taken as homogeneous, T2* = T2."""
    sequence, tr, te, ti, flip = protocol
    choices = [spin_echo(pd, t1, t2, tr, te), jnp.abs(inversion_recovery(pd, t1, t2, tr, te, ti)), spoiled_gradient_echo(pd, t1, t2, tr, te, flip)]
    return jnp.select([sequence == i for i in range(3)], choices)


def _receive(key, coefficients, size, field_of_view, phase):
    """Smooth sensitivity `[h, w]`: a few ten percent in magnitude and, if `phase`, a few radians."""
    bias, wave = smooth_field(key, 2, size, field_of_view, 90.0)
    magnitude = jnp.exp(0.18 * (bias - jnp.mean(bias)))
    if not phase:
        return magnitude
    axis = (jnp.arange(size) + 0.5) * (2 / size) - 1
    x, y = axis[None, :], -axis[:, None]
    c = coefficients
    angle = 1.5 * (c[0] * x + c[1] * y) + 0.8 * (c[2] * x * y + c[3] * x**2 + c[4] * y**2) + 0.5 * wave + 10 * c[5]
    return magnitude * jnp.exp(1j * angle)


def _reference(protocol, field):
    """Signal level that becomes 1: the brightest of the common tissues, fluid and fat counted less."""
    weights = {"white": 1.0, "grey": 1.0, "csf": 0.8, "fat": 0.7}
    tissue = jnp.array([_TISSUES[name][1:] for name in weights])
    level = _signal(tissue[:, 0], tissue[:, 1] + field * (tissue[:, 2] - tissue[:, 1]), tissue[:, 3], protocol)
    return jnp.max(level * jnp.array(list(weights.values())))


def brain(key, size=128, contrast="random", tumour_probability=0.3, field_of_view=220.0, phase=True):
    r"""Random axial slice of a head, from the level of the thalami to above the ventricles, imaged by its signal equation.

    .. math::
        x(r) = c(r) \, |S(\rho(r), T_1(r), T_2(r); T_R, T_E, T_I, \alpha)|

    Pixel (i, j) of n x n is centred at x = (j - (n - 1) / 2) h to the right and y = ((n - 1) / 2 - i) h up, h = field of view / n;
    the face looks up. One key gives one head at every `size`. The unit is arbitrary: bright brain tissue is about 1.

    Args:
      key: typed key.
      size: n, pixels a side (static).
      contrast: "t1", "t2", "pd" (spin echo), "flair", "ir" (inversion recovery with fluid nulled, at long or short TE), "gre" (spoiled gradient
        echo, T1-weighted) or "random", one of them (static).
      tumour_probability: chance of a tumour, may be traced.
      field_of_view: n h [mm] (static).
      phase: True for a complex image with a smooth phase of a few radians, False for the real magnitude (static).

    Returns:
      A `Phantom`; labels by `LABELS`. Attributes: "pd" in [0, 1], "t1", "t2" [ms] and the receive field "receive" = c (complex if `phase`),
      `[n, n]`; "sequence" (0 spin echo, 1 inversion recovery, 2 gradient echo), "tr", "te", "ti" [ms], "flip" [rad], "field" [T];
      "areas" [mm^2] by label `[15]`; "tumour_present", "tumour_position" (x, y) [mm], "tumour_radius" [mm], "tumour_enhanced" (contrast agent
      given), "tumour_contrast" = mean magnitude in the tumour / in white matter - 1 (0 without a tumour); "age" in [0, 1], "level" [mm] above
      the anterior commissure.

    Raises:
      ValueError: for an unknown contrast, fewer than 16 pixels or a field of view that is not positive.
    """
    if contrast != "random" and contrast not in _PROTOCOLS:
        raise ValueError(f"brain knows the contrasts {['random', *_PROTOCOLS]}, got {contrast!r}")
    if size < 16 or field_of_view <= 0:
        raise ValueError(f"brain needs size >= 16 and field_of_view > 0, got {size} and {field_of_view}")
    keys = jax.random.split(key, 5)
    pixel = field_of_view / size
    anatomy = brain_anatomy(keys[0], size, field_of_view, tumour_probability)
    uniform = jax.random.uniform(keys[1], (7,))
    normal = jax.random.normal(keys[2], (3 * (len(_TISSUES) + 2),)).reshape(-1, 3)
    field = uniform[5]
    enhanced = anatomy.scalars["present"] & (uniform[6] < 0.5)
    layers = _layers(anatomy, pixel + 0.8)
    spread = 1 + jnp.array([[0.02, 0.06, 0.06]]) * normal[2:]
    labels, pd, t1, rate2 = _tissue_maps(spread, layers, anatomy, size, enhanced, field)
    grain = texture(keys[3], size, exponent=2.0, cutoff=40)
    pd = jnp.clip(pd * (1 + 0.015 * grain), 0, 1)
    t1, t2 = (1 + 0.04 * grain) * t1, (1 + 0.04 * grain) / rate2

    protocol = _protocol(uniform, contrast, 4000 + 200 * field)
    receive = _receive(keys[4], normal[:2].ravel(), size, field_of_view, phase) / _reference(protocol, field)
    image = receive * _signal(pd, t1, t2, protocol)
    attributes = {"pd": pd, "t1": t1, "t2": t2, "receive": receive, **dict(zip(("sequence", "tr", "te", "ti", "flip"), protocol, strict=True))}
    return Phantom(image, labels, attributes | _truth(anatomy, labels, jnp.abs(image), pixel, enhanced, field))


def _truth(a, labels, magnitude, pixel, enhanced, field):
    """The named scalars of the slice."""
    one_hot = (labels[None] == jnp.arange(len(LABELS))[:, None, None]).astype(magnitude.dtype)
    counts = jnp.sum(one_hot, (1, 2))

    def mean(name):
        return jnp.sum(one_hot[LABELS[name]] * magnitude) / jnp.maximum(counts[LABELS[name]], 1)

    present = a.scalars["present"]
    return {
        "areas": counts * pixel**2, "tumour_present": present, "tumour_position": jnp.where(present, a.centre, 0),
        "tumour_radius": a.scalars["radius"], "tumour_enhanced": enhanced,
        "tumour_contrast": jnp.where(present, mean("tumour") / jnp.maximum(mean("white"), 1e-6) - 1, 0),
        "age": a.scalars["age"], "level": a.scalars["level"], "field": 1.5 + 1.5 * field,
    }  # fmt: skip
