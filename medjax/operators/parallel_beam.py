"""Parallel-beam line integrals of one slice.

Geometry, the same for every CT operator: x points to the right, y up, and row 0 of an image is its top, so pixel `[r, c]` of an
`[n, n]` image has its centre at x = (c - (n - 1) / 2) pixel_size, y = ((n - 1) / 2 - r) pixel_size. A ray of the view at angle
theta is the line x cos(theta) + y sin(theta) = t: at angle 0 rays run along y and t is x, at pi / 2 they run along x and t is y.
Detector k lies at t = (k - (num_detectors - 1) / 2) detector_spacing + detector_offset.
"""

import math
import warnings

import numpy as np
from jax.core import Tracer

from medjax.operators import divergent_rays
from medjax.operators.parallel_fourier import parallel_fourier
from medjax.operators.parallel_joseph import parallel_joseph


def parallel_beam(image_size, angles, num_detectors=None, detector_spacing=1.0, pixel_size=1.0, detector_offset=0.0, model="fourier", num_taps=5):
    r"""Line integrals of an image along parallel rays.

    .. math:: (A x)_{\theta, k} = \int x(t_k \cos\theta - s \sin\theta, \; t_k \sin\theta + s \cos\theta) \, ds

    Two models of pixel and detector. "fourier": square pixels and detector bins, band-limited, in O(n^2 log n), the faster by 4 to 20 times;
    it rings a little below zero beside sharp edges, and its angles are known when it is built. "joseph": linear interpolation along each ray, never
    negative for an image that is not, for angles and an offset that may be traced, learned or differentiated.

    Args:
      image_size: n, the image is `[n, n]`.
      angles: `[num_angles]` [rad], any values in any order.
      num_detectors: detectors a view; by default as many as cover the image's diagonal.
      detector_spacing: distance of neighbouring detectors [mm], finer or coarser than a pixel.
      pixel_size: [mm].
      detector_offset: shift of the whole detector along t [mm].
      model: "fourier" or "joseph".
      num_taps: width of the kernel of "fourier"; its error on a Shepp-Logan phantom is 5e-5 and falls sevenfold with each tap.

    Returns:
      An operator `[n, n]` -> `[num_angles, num_detectors]`, in units of x times [mm], with `views(indices)`, the operator of some of the views.

    Raises:
      ValueError: without views, for angles that are not finite, an unknown model, where a size is no integer of at least 1 or a spacing
        is not positive.
      Warns where the detector misses rays through the image's inscribed disc, and says how many.
    """
    divergent_rays.check_whole(image_size=image_size)
    divergent_rays.check_positive(detector_spacing=detector_spacing, pixel_size=pixel_size)
    if num_detectors is None:
        num_detectors = math.ceil(math.sqrt(2) * image_size * pixel_size / detector_spacing)
    divergent_rays.check_whole(num_detectors=num_detectors)
    known = angles if isinstance(angles, Tracer) else np.asarray(angles)
    divergent_rays.checked_angles(known)
    divergent_rays.check_finite(detector_offset=detector_offset)
    geometry = (image_size, known, num_detectors, detector_spacing, pixel_size, detector_offset)
    if model not in ("fourier", "joseph"):
        raise ValueError(f'got model {model!r}, "fourier" or "joseph" is needed')
    if not isinstance(detector_offset, Tracer):
        _warn_of_lost_rays(image_size * pixel_size / 2, num_detectors * detector_spacing / 2, float(detector_offset))
    return parallel_fourier(*geometry, num_taps=num_taps) if model == "fourier" else parallel_joseph(*geometry)


def _warn_of_lost_rays(radius, half_width, offset):
    """Of the rays through the inscribed disc; a detector that reaches past the centre sees them all once in a full turn, which is not known here."""
    seen = max(min(radius, offset + half_width) - max(-radius, offset - half_width), 0) / (2 * radius)
    if seen < 1 - 1e-6:
        found = f"the detector spans {offset - half_width:.4g} to {offset + half_width:.4g} mm, the image's disc {-radius:.4g} to {radius:.4g} mm"
        warnings.warn(f"{found}: {1 - seen:.1%} of its rays are lost in each view", stacklevel=3)
