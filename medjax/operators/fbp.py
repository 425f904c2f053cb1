"""Filtered backprojection of one slice."""

import dataclasses
import math

import jax.numpy as jnp

from medjax import linalg
from medjax.operators.fan_fbp import fan_fbp
from medjax.operators.fan_fourier import FanFourier
from medjax.operators.fan_joseph import FanJoseph
from medjax.operators.parallel_fourier import ParallelFourier
from medjax.operators.parallel_joseph import ParallelJoseph
from medjax.operators.ramp_filter import ramp_filter
from medjax.operators.redundancy_weights import view_gaps


def fbp(A, y, window: str = "hann", cutoff=1.0, scan: str = "full"):
    r"""Filtered backprojection: the discrete inverse of the Radon transform.

    .. math::
        \hat x = \frac{d}{p^2} A^* \left( \Delta_\theta\, (h * y_\theta) \right), \quad
        h_0 = \frac{1}{4 d^2},\ h_k = -\frac{1}{(\pi k d)^2} \text{ for odd } k,\ 0 \text{ for even } k

    with d the detector spacing and p the pixel size: the factor makes of the adjoint, whose hat functions sum to p^2 / d, an
    interpolation. The ramp is built in space, so that its mean is right, and convolved without wrap-around. The adjoint of the Fourier model
    interpolates filtered rows to its band limit; for that of Joseph, whose hat functions on a coarse detector do not sum to one constant, rows are
    resampled (band-limited) to at most half a pixel first.

    Each view weighs half its two gaps to the next angles modulo pi; for equal steps over [0, pi) that is pi / num_angles. A gap
    longer than 4 pi / num_angles is taken for a missing wedge and counts as the mean of the other gaps. Fan beams go to `fan_fbp`.

    Args:
      A: operator of `parallel_beam` or `fan_beam`, either model.
      y: `[num_angles, num_detectors]` line integrals; complex ones are reconstructed by parts. One NaN spreads over the image: fill dead bins by
        `interpolate_trace`.
      window: one of "ram-lak", "shepp-logan", "cosine", "hamming", "hann".
      cutoff: where the window ends, as a fraction in (0, 1] of the detector's Nyquist frequency 1 / (2 d).
      scan: of a fan beam, "full", "short" or "offset"; see `fan_fbp`.

    Returns:
      `[n, n]`, in units of y by [mm].

    Raises:
      ValueError: for another operator, an unknown window or scan, or a sinogram that does not fit A.

    Reference:
      Kak & Slaney (1988), Principles of Computerized Tomographic Imaging, chapter 3, eq. 61.
    """
    y = linalg.inexact(y)
    if not isinstance(A, FanFourier | FanJoseph | ParallelFourier | ParallelJoseph):
        raise ValueError(f"fbp needs an operator of parallel_beam or fan_beam, got {type(A).__name__}")
    if jnp.iscomplexobj(y):
        return linalg.by_parts(lambda part: fbp(A, part, window, cutoff, scan), y)
    if isinstance(A, FanFourier | FanJoseph):
        return fan_fbp(A.beam if isinstance(A, FanFourier) else A, y, window, cutoff, scan)
    if scan != "full":
        raise ValueError(f'got scan {scan!r} for parallel views, which know only "full"')
    linalg.checked_shape(y, (*A.angles.shape, A.num_detectors), "sinogram")
    refinement = math.ceil(2 * A.detector_spacing / A.pixel_size) if isinstance(A, ParallelJoseph) else 1
    spacing, num_detectors = A.detector_spacing / refinement, refinement * (A.num_detectors - 1) + 1
    fine = dataclasses.replace(A, num_detectors=num_detectors, detector_spacing=spacing)
    weights = view_gaps(A.angles, jnp.pi).astype(y.dtype) * (spacing / A.pixel_size**2)
    return fine.adjoint(ramp_filter(y * weights[:, None], A.detector_spacing, window, cutoff, refinement))
