"""Line integrals of one slice along the rays of a point source.

The axes are those of `parallel_beam`: x to the right, y up, row 0 of the image at the top. In the view at angle beta the source stands
at D (-sin beta, cos beta), on top of the image at beta = 0, and turns counter-clockwise; the ray of fan angle gamma is the parallel ray

    theta = beta + gamma, t = D sin gamma,

D the distance from source to isocentre. Detector k lies at s = (k - (num_detectors - 1) / 2) detector_spacing + detector_offset along
(cos beta, sin beta), the direction of t at gamma = 0. A flat detector is a line at distance S = D + detector_distance from the source,
normal to the central ray: tan gamma = s / S. A curved (equiangular) one is an arc about the source, s its length: gamma = s / S.

Libraries with the source at (D sin beta, -D cos beta) and the detector axis (cos beta, sin beta), such as ASTRA's `fanflat`, have in
view beta what stands here in view beta + pi with the detectors in reverse order.
"""

import math
import warnings

from medjax import checks
from medjax.operators import divergent_rays
from medjax.operators.fan_fourier import fan_fourier
from medjax.operators.fan_joseph import fan_joseph


def fan_beam(
    image_size,
    angles,
    source_distance,
    detector_distance,
    num_detectors=None,
    detector_spacing=1.0,
    pixel_size=1.0,
    detector_offset=0.0,
    detector="flat",
    model="fourier",
    num_taps=5,
):
    r"""Line integrals of an image along diverging rays.

    .. math:: (A x)_{\beta, k} = \int x(t_k \cos\theta - s \sin\theta, \; t_k \sin\theta + s \cos\theta) \, ds, \quad
        \theta = \beta + \gamma_k, \; t_k = D \sin\gamma_k

    Two models of pixel and detector, as of `parallel_beam`: "fourier" rebins parallel views of the Fourier slice theorem, for angles known when it is
    built, and is the faster; "joseph" interpolates linearly along each ray, is never negative for an image that is not, and takes traced angles.

    Args:
      image_size: n, the image is `[n, n]`.
      angles: `[num_angles]` beta [rad], any values in any order.
      source_distance: D, from source to isocentre [mm], outside the image's circle.
      detector_distance: from isocentre to detector [mm], may be 0 for a virtual detector.
      num_detectors: detectors a view; by default as many as cover the image's diagonal.
      detector_spacing: distance of neighbouring detectors on the detector [mm].
      pixel_size: [mm].
      detector_offset: shift of the detector along s [mm].
      detector: "flat" or "curved".
      model: "fourier" or "joseph".
      num_taps: width of the kernel of "fourier", see `parallel_beam`.

    Returns:
      An operator `[n, n]` -> `[num_angles, num_detectors]`, in units of x times [mm], with `views(indices)`.

    Raises:
      ValueError: without views, with angles or an offset that are not finite, where a size is no integer of at least 1 or a spacing is not positive,
        for an unknown model, with the source inside the image, or for a curved detector of more than a quarter turn to one side.

    Warns:
      UserWarning: where even a full turn misses rays through a part of the image's inscribed disc, with that part.

    Reference:
      Kak & Slaney (1988), Principles of Computerized Tomographic Imaging, section 3.4, for the geometry.
    """
    source_to_detector = source_distance + detector_distance
    with checks.known_now(angles):
        angles = divergent_rays.checked_angles(angles)
    divergent_rays.check_fan(image_size, source_distance, detector_distance, detector_spacing, pixel_size, detector)
    if num_detectors is None:
        radius = image_size * pixel_size / math.sqrt(2)
        num_detectors = divergent_rays.covering_detectors(radius, source_distance, source_to_detector, detector_spacing, detector)
    divergent_rays.check_whole(num_detectors=num_detectors)
    divergent_rays.check_finite(detector_offset=detector_offset)
    divergent_rays.check_quarter_turn(num_detectors, detector_spacing, detector_offset, source_to_detector, detector)
    if model not in ("fourier", "joseph"):
        raise ValueError(f'got model {model!r}, "fourier" or "joseph" is needed')
    sizes = (num_detectors, detector_spacing, pixel_size, detector_offset, detector)
    with checks.known_now(angles, detector_offset):
        A = fan_joseph(image_size, angles, source_distance, source_to_detector, *sizes)
        if checks.is_concrete(detector_offset):
            _warn_of_loss(A, float(detector_offset))
        return fan_fourier(A, num_taps=num_taps) if model == "fourier" else A


def _warn_of_loss(A, offset):
    """Say how much of the image the detector never sees completely."""
    half = A.num_detectors * A.detector_spacing / 2
    first, last = (float(divergent_rays.fan_angles(offset + s, A.source_to_detector, A.detector)) for s in (-half, half))
    field = A.image_size * A.pixel_size / 2
    lost = 1 - divergent_rays.covered_fraction(field, first, last, A.source_distance)
    if lost > 1e-6:
        warnings.warn(
            f"the detector of {A.num_detectors} x {A.detector_spacing:g} mm is too small: {100 * lost:.3g} % of the image's inscribed disc "
            "lie where rays are missing even in a full turn",
            stacklevel=3,
        )
