"""Filtered backprojection for the views of a point source."""

import math
import warnings

import jax
import jax.numpy as jnp
from jax import lax

from medjax import checks, linalg
from medjax.operators import divergent_rays
from medjax.operators.ramp_filter import ramp_filter
from medjax.operators.redundancy_weights import redundancy_weights, since_start


def fan_fbp(A, y, window: str = "hann", cutoff=1.0, scan: str = "full"):
    r"""Fan-beam filtered backprojection, for flat and curved detectors, full, short and offset scans.

    .. math::
        \hat x(P) = \sum_\beta \frac{D^2}{\ell_\beta(P)^2} \left( h * (w_\beta \cos\gamma\, y_\beta) \right)(P)

    with w the `redundancy_weights`, h the ramp on the detector scaled to the isocentre, built in space (on a curved detector times
    (gamma / sin gamma)^2), and l the distance of P from the source, for a flat detector its depth along the central ray. Filtered views are
    resampled to at most half a pixel (band-limited) and read linearly at each pixel's centre.

    Args:
      A: operator of `fan_beam` by Joseph's method, whose geometry alone is used; `fbp` takes either model.
      y: `[num_angles, num_detectors]` line integrals.
      window: one of "ram-lak", "shepp-logan", "cosine", "hamming", "hann".
      cutoff: where the window ends, as a fraction in (0, 1] of the detector's Nyquist frequency.
      scan: "full", "short" (views over pi and the fan, Parker's weights) or "offset" (a turn with a half-fan detector).

    Returns:
      `[n, n]`, in units of y by [mm].

    Raises:
      ValueError: for an unknown window or scan, or a sinogram that does not fit A.

    Warns:
      UserWarning: for a short scan of fewer views than pi and the fan of the image's inscribed disc.

    Reference:
      Kak & Slaney (1988), Principles of Computerized Tomographic Imaging, section 3.4.
    """
    linalg.checked_shape(y, (*A.angles.shape, A.num_detectors), "sinogram")
    warn_of_short_arc(A, scan)
    dtype = y.real.dtype
    gamma = divergent_rays.fan_angles(A.positions(dtype), A.source_to_detector, A.detector)
    spacing, refinement = isocentre_spacing(A, A.detector_spacing)
    weighted = y * (redundancy_weights(A.angles, gamma, scan) * jnp.cos(gamma)[None, :])
    margin = margin_of(A.num_detectors, scan)
    weighted = jnp.pad(weighted, ((0, 0), (margin, margin)))
    step = A.detector_spacing / A.source_to_detector if A.detector == "curved" else 0.0
    filtered = ramp_filter(weighted, spacing, window, cutoff, refinement, step)
    return _backprojected(A, filtered, A.positions(dtype)[0] - margin * A.detector_spacing, refinement, dtype)


def warn_of_short_arc(A, scan):
    """Warn of a short scan that is too short."""
    if scan == "short" and checks.is_concrete(A.angles) and A.angles.shape[0] > 1:
        with jax.ensure_compile_time_eval():
            arc = float(jnp.max(since_start(A.angles))) * A.angles.shape[0] / (A.angles.shape[0] - 1)
        needed = math.pi + 2 * math.asin(min(1.0, A.image_size * A.pixel_size / 2 / A.source_distance))
        if arc < needed * (1 - 1e-6):
            warnings.warn(f"the views span {arc:.4g} rad, a short scan of this image needs {needed:.4g}", stacklevel=3)


def isocentre_spacing(A, spacing):
    """A detector's spacing at the isocentre [mm], and how many times finer filtered views have to be for half a pixel."""
    spacing = spacing * A.source_distance / A.source_to_detector
    return spacing, math.ceil(2 * spacing / A.pixel_size)


def margin_of(size, scan):
    """Detectors to add on each side: on the short side of an offset scan filtered views go on where no ray is measured."""
    return size if scan == "offset" else 0


def _backprojected(A, filtered, first, refinement, dtype):
    """Gather over views: each pixel reads the filtered view at its own ray."""
    n, source = A.image_size, A.source_distance
    x = ((jnp.arange(n, dtype=dtype) - (n - 1) / 2) * A.pixel_size)[None, :]
    below = x.T
    last = filtered.shape[1]
    padded = jnp.pad(filtered, ((0, 0), (1, 2)))  # zeros beside the detector

    def step(total, view):
        row, cos, sin = view
        lateral, depth = x * cos - below * sin, source + x * sin + below * cos
        position = divergent_rays.positions(lateral / depth, A.source_to_detector, A.detector)
        position = jnp.clip((position - first) * (refinement / A.detector_spacing) + 1, 0, last + 1)
        lower, weight = linalg.cell(position, last)
        value = linalg.take(row, lower) * (1 - weight) + linalg.take(row, lower + 1) * weight
        square = depth**2 if A.detector == "flat" else depth**2 + lateral**2
        return total + value * (source**2 / square), None

    turned = jnp.cos(A.angles).astype(dtype), jnp.sin(A.angles).astype(dtype)
    return lax.scan(step, jnp.zeros((n, n), filtered.dtype), (padded, *turned))[0]
