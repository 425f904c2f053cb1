"""Contract rows of the CT operators."""

import warnings

import jax.numpy as jnp
import numpy as np
from row import Row
from scipy.interpolate import barycentric_interpolate

from medjax.operators.cone_beam import cone_beam
from medjax.operators.cone_vectors import cone_vectors
from medjax.operators.fan_beam import fan_beam
from medjax.operators.focal_blur import FocalBlur, focal_blur
from medjax.operators.parallel_beam import parallel_beam

ANGLES = np.array([0.1, 0.7, 1.3, 2.2, 3.0, 4.9])  # on both sides of every diagonal, not in order


def rays(A, x):
    """Joseph's projection, ray by ray and pixel by pixel."""
    n, spacing = A.image_size, A.detector_spacing
    out = np.zeros((len(A.angles), A.num_detectors))
    centre = (np.arange(n) - (n - 1) / 2) * A.pixel_size  # of columns, and of rows from the bottom
    upwards = np.asarray(x)[::-1]
    for view, k in np.ndindex(out.shape):
        c, s = np.cos(A.angles[view]), np.sin(A.angles[view])
        t = (k - (A.num_detectors - 1) / 2) * spacing + A.detector_offset
        for j in range(n):
            if abs(c) >= abs(s):  # steep: the ray crosses row j at this x
                line, place = upwards[j], (t - centre[j] * s) / c
            else:
                line, place = upwards[:, j], (t - centre[j] * c) / s
            weights = np.maximum(0, 1 - abs(place - centre) / A.pixel_size)
            out[view, k] += weights @ line * A.pixel_size / max(abs(c), abs(s))
    return out


def _band_limited(x, half, theta, t, width):
    """Line integrals at angle theta and places t in pixels, by sums over pixels and the frequencies of one period of 2 `half` pixels."""
    places = np.arange(len(x)) - (len(x) - 1) / 2
    c, s = np.cos(theta), np.sin(theta)
    along = c if abs(c) >= abs(s) else s
    k = np.arange(-half, half + 1)
    omega = np.pi * k / half / along  # [rad / pixel] of t
    right, up = (np.exp(-1j * np.outer(omega * a, places)) * np.sinc(omega * a / (2 * np.pi))[:, None] for a in (c, s))
    spectrum = np.einsum("kc,kr,rc->k", right, up, np.asarray(x)[::-1]) * np.sinc(omega * width / (2 * np.pi))
    spectrum = spectrum * np.where(np.abs(k) == half, 0.5, 1)
    return np.exp(1j * np.outer(t, omega)) @ spectrum / (2 * half * abs(along))


def linogram(A, x):
    """The Fourier model as the sum over pixels and frequencies that it approximates: no FFT, no interpolation."""
    t = _detectors(A.num_detectors, A.detector_spacing, A.detector_offset) / A.pixel_size
    views = [_band_limited(x, A.table.num_columns // 2, theta, t, A.detector_spacing / A.pixel_size) for theta in np.asarray(A.angles)]
    return (np.array(views) if np.iscomplexobj(x) else np.real(views)) * A.pixel_size


def rebinned(A, x):
    """Each ray of a fan from the polynomial through six parallel ones, at its own place t and at angles on both sides, also beyond pi."""
    beam, step = A.beam, np.pi / A.num_parallel
    s = _detectors(beam.num_detectors, beam.detector_spacing, beam.detector_offset)
    gamma = np.arctan(s / beam.source_to_detector) if beam.detector == "flat" else s / beam.source_to_detector
    width = beam.detector_spacing * beam.source_distance / beam.source_to_detector / beam.pixel_size
    out = np.zeros((len(beam.angles), len(s)))
    for view, k in np.ndindex(out.shape):
        theta = float(beam.angles[view]) + gamma[k]
        nodes = (np.floor(theta / step) + np.arange(-2, 4)) * step
        t = beam.source_distance * np.sin(gamma[k]) / beam.pixel_size
        values = [np.real(_band_limited(x, A.table.num_columns // 2, node, [t], width)[0]) for node in nodes]
        out[view, k] = barycentric_interpolate(nodes, values, theta) * beam.pixel_size
    return out


def _joseph(size=12, **geometry):
    return lambda key: _quietly(size, model="joseph", **geometry)


def _fourier(size=12, num_taps=14, **geometry):
    return lambda key: _quietly(size, num_taps=num_taps, **geometry)


def _quietly(size, angles=ANGLES, **geometry):
    """A projector whose detector may be too small."""
    with warnings.catch_warnings(action="ignore"):
        return parallel_beam(size, angles, **geometry)


def _some_views(A, x):
    return rays(parallel_beam(12, ANGLES, model="joseph"), x)[jnp.array([4, 1, 5])]


OFFSET = {"num_detectors": 9, "pixel_size": 0.8, "detector_offset": 2.3}
ROWS = {"wrong": ((),), "wrong_data": ((),)}  # any number of rows of any length
TABLES = {"tolerance": 1e-9, "constant": True}  # a kernel of 14 points is good to 1e-10


def _convolved(A, x):
    return np.stack([np.convolve(row, A.kernel, mode="same") for row in np.asarray(x)])


def joseph(x, sources, points, spacing, steps):
    """Joseph's projection of `x` along single rays in 2 or 3 dimensions, a loop over rays and layers.

    sources, points: `[num_rays, x.ndim]` [mm] along the axes of x, the last counted from the centre, with rows upwards.
    spacing: of the voxels along the axes of x [mm].
    steps: the axes that a ray may be stepped along.
    """
    x = np.asarray(x)[..., ::-1, :]
    centres = [(np.arange(size) - (size - 1) / 2) * step for size, step in zip(x.shape, spacing, strict=True)]
    out = np.zeros(len(points))
    for ray, (source, point) in enumerate(zip(sources, points, strict=True)):
        direction = point - source
        axis = max(steps, key=lambda i: abs(direction[i] / spacing[i]))
        for j, layer in enumerate(np.moveaxis(x, axis, 0)):
            place = source + direction * (centres[axis][j] - source[axis]) / direction[axis]
            for i in reversed([i for i in range(x.ndim) if i != axis]):
                layer = layer @ np.maximum(0, 1 - abs(place[i] - centres[i]) / spacing[i])
            out[ray] += layer * np.linalg.norm(direction) * spacing[axis] / abs(direction[axis])
    return out


def _fan_points(A, s):
    """Source `[num_angles, 2]` and detector points `[num_angles, num_detectors, 2]` of a fan, as (y, x)."""
    b, far = np.asarray(A.angles)[:, None], A.source_to_detector
    central, along = np.concatenate([-np.cos(b), np.sin(b)], 1), np.concatenate([np.sin(b), np.cos(b)], 1)
    if A.detector == "flat":
        points = far * central[:, None] + s[None, :, None] * along[:, None]
    else:
        points = far * (np.cos(s / far)[None, :, None] * central[:, None] + np.sin(s / far)[None, :, None] * along[:, None])
    source = -A.source_distance * central
    return source, source[:, None] + points


def _detectors(num, spacing, offset):
    return (np.arange(num) - (num - 1) / 2) * spacing + np.asarray(offset)


def fan_rays(A, x):
    """Ray by ray, from the points of source and detectors."""
    source, points = _fan_points(A, _detectors(A.num_detectors, A.detector_spacing, A.detector_offset))
    sources = np.broadcast_to(source[:, None], points.shape).reshape(-1, 2)
    return joseph(x, sources, points.reshape(-1, 2), (A.pixel_size,) * 2, (0, 1)).reshape(points.shape[:2])


def cone_rays(A, x):
    """Ray by ray, never stepped along z."""
    source, points = _fan_points(A, _detectors(A.num_columns, A.column_spacing, A.column_offset))
    v, heights = _detectors(A.num_rows, A.row_spacing, A.row_offset), np.asarray(A.heights)
    shape = (len(heights), A.num_rows, A.num_columns, 3)
    sources, ends = np.zeros(shape), np.zeros(shape)
    sources[..., 0], sources[..., 1:] = heights[:, None, None], source[:, None, None]
    ends[..., 0], ends[..., 1:] = (heights[:, None] + v[None])[:, :, None], points[:, None]
    return joseph(x, sources.reshape(-1, 3), ends.reshape(-1, 3), (A.slice_spacing, A.pixel_size, A.pixel_size), (1, 2)).reshape(shape[:3])


def vector_rays(A, x):
    """Ray by ray, from the vectors."""
    source, centre, u, v = np.split(np.asarray(A.vectors)[:, None, None], 4, axis=-1)
    r, k = _detectors(A.num_rows, 1, 0)[None, :, None, None], _detectors(A.num_columns, 1, 0)[None, None, :, None]
    points = centre + k * u + r * v
    sources = np.broadcast_to(source, points.shape)
    return joseph(x, *(p.reshape(-1, 3)[:, ::-1] for p in (sources, points)), A.spacing, (0, 1, 2)).reshape(points.shape[:3])


def _fan(size=12, model="joseph", **geometry):
    return lambda key: fan_beam(size, ANGLES, **{"source_distance": 25.0, "detector_distance": 11.0, "model": model, **geometry})


def _cone(**geometry):
    return lambda key: cone_beam(8, 5, ANGLES, 20.0, 9.0, 7, 13, **geometry)


def _tilted(**geometry):
    """Views from all around, some stepped along z, with sheared detectors."""
    rng = np.random.default_rng(0)
    away = rng.standard_normal((5, 3)) + 0.1
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    u = np.cross(away, rng.standard_normal((5, 3)))
    v = np.cross(away, u) + 0.2 * u + 0.1 * away
    views = np.concatenate([-22 * away, 9 * away + 0.5 * u, 1.3 * u, 1.1 * v], axis=1)

    def make(key):
        with warnings.catch_warnings(action="ignore"):  # of a small detector
            return cone_vectors(8, 5, views, 9, 11, **geometry)

    return make


def _some_tilted(A, x):
    return vector_rays(_tilted()(None), x)[jnp.array([3, 0])]


OPERATORS = {
    "parallel_joseph": Row(_joseph(11, num_detectors=50, detector_spacing=0.31), (11, 11), jnp.float64, rays),
    "parallel_joseph_coarse": Row(_joseph(13, detector_spacing=5.1, pixel_size=2.0), (13, 13), jnp.float64, rays),
    "parallel_joseph_offset": Row(_joseph(**OFFSET), (12, 12), jnp.float64, rays),
    "parallel_joseph_views": Row(lambda key: _joseph()(key).views([4, 1, 5]), (12, 12), jnp.float64, _some_views),
    "parallel_fourier": Row(_fourier(), (12, 12), jnp.float64, linogram, **TABLES),
    "parallel_fourier_default": Row(
        _fourier(11, num_taps=5, **OFFSET), (11, 11), jnp.float64, linogram, 1e-3, constant=True
    ),  # 5e-5 on smoother images
    "parallel_fourier_coarse": Row(_fourier(13, detector_spacing=5.1, pixel_size=2.0), (13, 13), jnp.complex128, linogram, **TABLES),
    "parallel_fourier_steep": Row(_fourier(angles=[0.0, 0.5], num_detectors=50, detector_spacing=0.31), (12, 12), jnp.float64, linogram, **TABLES),
    "parallel_fourier_views": Row(lambda key: _fourier()(key).views([4, 1, 5]), (12, 12), jnp.float64, linogram, **TABLES),
    "fan_fourier": Row(_fan(model="fourier", num_taps=14), (12, 12), jnp.float64, rebinned, **TABLES),
    "fan_fourier_curved": Row(
        _fan(11, model="fourier", num_taps=14, detector="curved", detector_spacing=3.1, detector_offset=1.2, pixel_size=1.1),
        (11, 11),
        jnp.float64,
        rebinned,
        **TABLES,
    ),
    "focal_blur": Row(lambda key: focal_blur(1.2, 1.9, 0.7, aperture=0.6, shape="gaussian"), (5, 16), jnp.float64, _convolved, **ROWS),
    "focal_blur_learned": Row(lambda key: FocalBlur(jnp.array([0.2, 0.5, -0.1, 0.3, 0.4])), (5, 16), jnp.float64, _convolved, **ROWS),
    "fan_beam": Row(_fan(pixel_size=1.1, num_detectors=30), (12, 12), jnp.float64, fan_rays),
    "fan_beam_curved": Row(_fan(13, detector="curved", detector_spacing=3.1, detector_offset=1.2), (13, 13), jnp.float64, fan_rays),
    "cone_beam": Row(
        _cone(pitch=1.5, row_spacing=1.2, slice_spacing=0.6, pixel_size=0.7, row_offset=0.3, column_offset=-0.4, detector="curved"),
        (5, 8, 8),
        jnp.float64,
        cone_rays,
    ),
    "cone_beam_flat": Row(_cone(pitch=1.5, pixel_size=0.9, row_offset=0.3, column_offset=-0.4), (5, 8, 8), jnp.float64, cone_rays),
    "cone_vectors_views": Row(lambda key: _tilted()(key).views([3, 0]), (5, 8, 8), jnp.float64, _some_tilted),
    "cone_vectors": Row(_tilted(pixel_size=0.9, slice_spacing=1.7), (5, 8, 8), jnp.float64, vector_rays),
}
