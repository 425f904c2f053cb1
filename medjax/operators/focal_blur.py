"""Blur of projections by the focal spot and by the width of detector bins."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from medjax import linalg
from medjax.typing import Leaf


def focal_blur(focal_spot, magnification, detector_spacing=1.0, aperture=0.0, shape="box"):
    r"""Convolution of each row of a sinogram with the shadow of the focal spot and the aperture of the detector.

    .. math::
        (B y)_k = \sum_j h_j \, y_{k - j}, \quad h \propto f_{s (m - 1)} * b_a

    with f the profile of the spot, whose penumbra at the detector is m - 1 times as wide as the spot, and b_a a box. Outside the
    detector y is 0. The blur mixes intensities: applied to line integrals it is the linear approximation, good where they vary little under h.

    Args:
      focal_spot: s, width of the spot [mm] (of a Gaussian, its full width at half maximum); 0 for none.
      magnification: m >= 1, distance from the source to the detector over that to the object; the penumbra is that of points there.
      detector_spacing: [mm].
      aperture: a, width of a detector's sensitive face [mm]; 0 for none.
      shape: profile of the spot, "box" or "gaussian".

    Returns:
      A `FocalBlur`: `[..., num_detectors]` to the same shape. `FocalBlur(kernel)` takes any kernel of odd length, a learned one say.

    Raises:
      ValueError: for a negative width, a magnification below 1, a spacing that is not positive, any of them not finite, or an unknown shape.
    """
    widths = (focal_spot, aperture, magnification, detector_spacing)
    if not all(least <= width < math.inf for width, least in zip(widths, (0, 0, 1, 0), strict=True)) or detector_spacing == 0:
        widths = f"focal_spot {focal_spot}, aperture {aperture}, magnification {magnification}, detector_spacing {detector_spacing}"
        raise ValueError(f"focal_blur needs finite widths >= 0, magnification >= 1 and a spacing > 0, got {widths}")
    if shape not in ("box", "gaussian"):
        raise ValueError(f"focal_blur knows 'box' and 'gaussian', got {shape!r}")
    penumbra = focal_spot * (magnification - 1) / detector_spacing
    kernel = _profile(penumbra, aperture / detector_spacing, shape)
    return FocalBlur(jnp.asarray(kernel, float))


def _profile(penumbra, aperture, shape):
    """Kernel `[2 r + 1]` in bins, sum 1: both profiles sampled finely, joined, and each bin's hat integrated so that the first moments hold."""
    fine = 64
    reach = (3 if shape == "gaussian" else 0.5) * penumbra + 0.5 * aperture
    radius = math.ceil(reach + 1)
    t = np.arange(-fine * radius, fine * radius + 1) / fine
    gaussian = np.exp(-4 * math.log(2) * (t / max(penumbra, 1e-9)) ** 2)
    spot = gaussian if shape == "gaussian" else _box(t, penumbra, fine)
    both = np.convolve(spot, _box(t, aperture, fine), mode="same")
    both /= both.sum()
    bins = np.arange(-radius, radius + 1)
    return np.maximum(0, 1 - np.abs(bins[:, None] - t[None])) @ both


def _box(t, width, fine):
    """Part of each sample's cell inside a centred box, one cell for no width."""
    width = max(width, 1 / fine)
    return np.clip((width / 2 - np.abs(t)) * fine + 0.5, 0, 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FocalBlur:
    """Convolution along the last axis; build it with `focal_blur`.

    kernel: `[2 r + 1]`, the middle is the bin itself, a leaf.
    """

    kernel: Leaf

    def __call__(self, x):
        """B x: `[..., num_detectors]` to the same shape."""
        return self._convolve(x, self.kernel)

    def adjoint(self, y):
        """B^H y: correlation with the kernel."""
        return self._convolve(y, jnp.conj(self.kernel[::-1]))

    def _convolve(self, x, kernel):
        """Sum of shifted rows, zero outside: a kernel has few taps."""
        if not jnp.ndim(x):
            raise ValueError("focal_blur needs detector rows [..., num_detectors], got a single number")
        if kernel.shape[0] % 2 == 0:
            raise ValueError(f"a blur needs a kernel of odd length, got {kernel.shape[0]}")
        x, radius, n = linalg.inexact(x), kernel.shape[0] // 2, jnp.shape(x)[-1]
        padded = jnp.pad(x, ((0, 0),) * (x.ndim - 1) + ((radius, radius),))
        kernel = kernel.astype(x.dtype)
        return sum((kernel[2 * radius - i] * padded[..., i : i + n] for i in range(2 * radius + 1)), start=jnp.zeros_like(x))
