"""Contract rows of the CT operators."""

import jax.numpy as jnp
import numpy as np
from row import Row

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


def _projector(size=12, **geometry):
    return lambda key: parallel_beam(size, ANGLES, **geometry)


def _some_views(A, x):
    return rays(parallel_beam(12, ANGLES), x)[jnp.array([4, 1, 5])]


OPERATORS = {
    "parallel_beam": Row(_projector(), (12, 12), jnp.float64, rays),
    "parallel_beam_odd": Row(_projector(11, num_detectors=14), (11, 11), jnp.float64, rays),
    "parallel_beam_fine": Row(_projector(num_detectors=50, detector_spacing=0.31), (12, 12), jnp.float64, rays),
    "parallel_beam_coarse": Row(_projector(13, detector_spacing=5.1, pixel_size=2.0), (13, 13), jnp.float64, rays),
    "parallel_beam_offset": Row(_projector(num_detectors=9, pixel_size=0.8, detector_offset=2.3), (12, 12), jnp.float64, rays),
    "parallel_beam_views": Row(lambda key: parallel_beam(12, ANGLES).views([4, 1, 5]), (12, 12), jnp.float64, _some_views),
}
