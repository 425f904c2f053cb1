"""Contract rows of the CT operators."""

import warnings

import jax.numpy as jnp
import numpy as np
from row import Row

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


def linogram(A, x):
    """The Fourier model as the sum over pixels and frequencies that it approximates: no FFT, no interpolation."""
    n, pixel, half = A.image_size, A.pixel_size, A.table.num_columns // 2
    places = np.arange(n) - (n - 1) / 2
    t = ((np.arange(A.num_detectors) - (A.num_detectors - 1) / 2) * A.detector_spacing + A.detector_offset) / pixel
    k = np.arange(-half, half + 1)
    share = np.where(np.abs(k) == half, 0.5, 1)
    out = []
    for theta in np.asarray(A.angles):
        c, s = np.cos(theta), np.sin(theta)
        along = c if abs(c) >= abs(s) else s
        omega = np.pi * k / half / along  # [rad / pixel] of t
        right, up = (np.exp(-1j * np.outer(omega * a, places)) * np.sinc(omega * a / (2 * np.pi))[:, None] for a in (c, s))
        spectrum = np.einsum("kc,kr,rc->k", right, up, np.asarray(x)[::-1]) * np.sinc(omega * A.detector_spacing / pixel / (2 * np.pi)) * share
        out.append(np.exp(1j * np.outer(t, omega)) @ spectrum / (2 * half * abs(along)) * pixel)
    return np.real(out) if not np.iscomplexobj(x) else np.array(out)


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
WIDE = 1e-9  # a kernel of 14 points is good to 1e-10


def _convolved(A, x):
    return np.stack([np.convolve(row, A.kernel, mode="same") for row in np.asarray(x)])


OPERATORS = {
    "parallel_joseph": Row(_joseph(), (12, 12), jnp.float64, rays),
    "parallel_joseph_odd": Row(_joseph(11, num_detectors=14), (11, 11), jnp.float64, rays),
    "parallel_joseph_fine": Row(_joseph(num_detectors=50, detector_spacing=0.31), (12, 12), jnp.float64, rays),
    "parallel_joseph_coarse": Row(_joseph(13, detector_spacing=5.1, pixel_size=2.0), (13, 13), jnp.float64, rays),
    "parallel_joseph_offset": Row(_joseph(**OFFSET), (12, 12), jnp.float64, rays),
    "parallel_joseph_views": Row(lambda key: _joseph()(key).views([4, 1, 5]), (12, 12), jnp.float64, _some_views),
    "parallel_fourier": Row(_fourier(), (12, 12), jnp.float64, linogram, WIDE),
    "parallel_fourier_default": Row(_fourier(num_taps=5), (12, 12), jnp.float64, linogram, 1e-3),  # its kernel is good to 2e-4 on larger images
    "parallel_fourier_odd": Row(_fourier(11, num_detectors=14), (11, 11), jnp.float64, linogram, WIDE),
    "parallel_fourier_fine": Row(_fourier(num_detectors=50, detector_spacing=0.31), (12, 12), jnp.float64, linogram, WIDE),
    "parallel_fourier_coarse": Row(_fourier(13, detector_spacing=5.1, pixel_size=2.0), (13, 13), jnp.complex128, linogram, WIDE),
    "parallel_fourier_offset": Row(_fourier(**OFFSET), (12, 12), jnp.float64, linogram, WIDE),
    "parallel_fourier_steep": Row(_fourier(angles=[0.0, 0.5]), (12, 12), jnp.float64, linogram, WIDE),
    "parallel_fourier_views": Row(lambda key: _fourier()(key).views([4, 1, 5]), (12, 12), jnp.float64, linogram, WIDE),
    "focal_blur": Row(lambda key: focal_blur(1.2, 1.9, 0.7, aperture=0.6, shape="gaussian"), (5, 16), jnp.float64, _convolved),
    "focal_blur_learned": Row(lambda key: FocalBlur(jnp.array([0.2, 0.5, -0.1, 0.3, 0.4])), (5, 16), jnp.float64, _convolved),
}
