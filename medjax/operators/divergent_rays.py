"""The rays of one view of a point source, shared by `fan_beam` and `cone_beam`, which hold the geometry's words.

All lengths are in pixels here. In the frame of the view at angle beta a point P has the lateral coordinate a = P . e and the depth
d = D + P . f, with e = (cos, sin) along the detector, f = (sin, -cos) from source to isocentre and D their distance. The ray of
tangent tau runs from the source along f + tau e and holds the points with a = tau d.
"""

import math
import operator

import jax.numpy as jnp
import numpy as np

from medjax import checks

DETECTORS = ("flat", "curved")


def checked_angles(angles):
    """Angles as `[num_angles]`, refused where empty or not finite."""
    if checks.is_concrete(angles) and np.iscomplexobj(angles):
        raise ValueError("got complex angles, real ones [rad] are needed")
    angles = jnp.asarray(angles, float)
    if angles.ndim != 1 or angles.size == 0:
        raise ValueError(f"got angles of shape {angles.shape}, [num_angles] with at least one view is needed")
    if checks.is_concrete(angles) and not bool(jnp.all(jnp.isfinite(angles))):
        raise ValueError(f"got {int(jnp.sum(~jnp.isfinite(angles)))} angles that are not finite, all must be")
    return angles


def check_positive(**sizes):
    """Refuse sizes that are not positive numbers, each named."""
    for name, size in sizes.items():
        if not 0 < size < math.inf:
            raise ValueError(f"got {name} {size}, a positive number is needed")


def check_whole(**sizes):
    """Refuse sizes that are not integers of 1 or more, each named; 64.0 is none."""
    for name, size in sizes.items():
        try:
            whole = operator.index(size)
        except TypeError:
            whole = 0
        if whole < 1:
            raise ValueError(f"got {name} {size}, an integer of at least 1 is needed")


def check_finite(**lengths):
    """Refuse lengths that are not single numbers, or known and not finite, each named."""
    for name, length in lengths.items():
        if np.ndim(length) or (checks.is_concrete(length) and (np.iscomplexobj(length) or not np.isfinite(float(length)))):
            raise ValueError(f"got {name} {length}, a finite number [mm] is needed")


def check_quarter_turn(num_detectors, spacing, offset, source_to_detector, detector):
    """Refuse a curved detector that goes further than a quarter turn about the source, if its offset is known."""
    if detector == "curved" and checks.is_concrete(offset):
        half = num_detectors * spacing / 2 + abs(float(offset))
        if half >= source_to_detector * math.pi / 2:
            raise ValueError(f"got a detector that reaches {half:.6g} mm from the central ray, less than a quarter turn about the source is needed")


def check_fan(image_size, source_distance, detector_distance, spacing, pixel_size, detector):
    """Refuse what no projector can be built of."""
    check_whole(image_size=image_size)
    check_positive(source_distance=source_distance, detector_spacing=spacing, pixel_size=pixel_size)
    if not 0 <= detector_distance < math.inf:
        raise ValueError(f"got detector_distance {detector_distance}, 0 or more is needed")
    if detector not in DETECTORS:
        raise ValueError(f"got detector {detector!r}, one of {DETECTORS} is needed")
    radius = support_radius(image_size) * pixel_size
    if source_distance <= radius:
        raise ValueError(f"got source_distance {source_distance}, inside the image, whose circle has a radius of {radius:.6g} mm")


def support_radius(image_size):
    """Radius [pixels] of the circle outside which no hat function of the image reaches."""
    return (image_size - 1) / math.sqrt(2) + 1


def covering_detectors(radius, source_distance, source_to_detector, spacing, detector):
    """Detectors needed to see a disc of `radius` about the isocentre."""
    angle = math.asin(min(radius / source_distance, 0.999))
    half = source_to_detector * (math.tan(angle) if detector == "flat" else angle)
    return math.ceil(2 * half / spacing)


def fan_angles(s, source_to_detector, detector):
    """Fan angles [rad] of the detector positions s."""
    return jnp.arctan(s / source_to_detector) if detector == "flat" else s / source_to_detector


def tangents(s, source_to_detector, detector):
    """Tangents of the fan angles of the detector positions s."""
    return s / source_to_detector if detector == "flat" else jnp.tan(s / source_to_detector)


def positions(tangent, source_to_detector, detector):
    """Detector positions of the rays of a tangent, the inverse of `tangents`."""
    return source_to_detector * (tangent if detector == "flat" else jnp.arctan(tangent))


def lines(tangent, cos, sin, source_distance):
    """Rays as lines over the steps of their steeper axis: (steep, along, origin, slope), each of the shape of `tangent`.

    A steep ray crosses the row at height y at x = origin + slope y, another one the column at x at y = origin + slope x; `along` is
    the component of f + tau e on the steeper axis, so that a step is sqrt(1 + tau^2) / |along| pixels long.
    """
    dx, dy = sin + tangent * cos, tangent * sin - cos
    steep = jnp.abs(dy) >= jnp.abs(dx)
    along, across = jnp.where(steep, dy, dx), jnp.where(steep, dx, dy)
    return steep, along, jnp.where(steep, -source_distance, source_distance) * tangent / along, across / along


def most_taps(image_size, source_distance, source_to_detector, spacing, detector):
    """A bound on the detectors whose rays pass within one pixel of a pixel's centre, along the rays' shallower axis.

    The gradient of the detector position is L^-1 cos^-2 of the fan angle (flat) or L^-1 (curved) times the distance from source to
    detector, L the distance from the source; a pixel's hat function ends within one pixel of its centre.
    """
    turn = np.linspace(0, np.pi, 4097)
    radius = support_radius(image_size)
    lateral, depth = radius * np.sin(turn), source_distance - radius * np.cos(turn)
    reach = np.hypot(lateral, depth)
    steepest = np.max(reach / depth**2 if detector == "flat" else 1 / reach) * source_to_detector
    return max(1, math.ceil(2 * steepest / spacing * (1 + 1e-6)))


def covered_fraction(field, first, last, source_distance):
    """The share of a disc of radius `field` whose rays of all directions are measured in a full turn by fan angles in [first, last]."""
    seen = source_distance * math.sin(min(max(abs(first), abs(last)), math.pi / 2))
    hole = source_distance * math.sin(max(first, -last, 0.0))
    return max(0.0, min(seen, field) ** 2 - min(hole, field) ** 2) / field**2
