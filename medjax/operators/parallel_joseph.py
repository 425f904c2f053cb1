"""Parallel-beam line integrals by Joseph's method."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax

from medjax import linalg
from medjax.operators.chosen_views import chosen_views
from medjax.typing import Leaf


def parallel_joseph(image_size, angles, num_detectors, detector_spacing=1.0, pixel_size=1.0, detector_offset=0.0):
    r"""Line integrals of an image along parallel rays, by Joseph's method.

    .. math::
        (A x)_{\theta, k} = \frac{p}{m} \sum_j \sum_i x_{j i} \max\left(0, 1 - \frac{|t_{i j} - t_k|}{p m}\right), \quad
        m = \max(|\cos\theta|, |\sin\theta|)

    with p the pixel size and t_ij the detector coordinate of a pixel's centre: along its steeper axis a ray takes one sample a row
    (or column), interpolated linearly and weighted by the length m^{-1} p that the ray spends there. Outside the image x is zero.

    Args:
      image_size, num_detectors, detector_spacing, pixel_size: as `parallel_beam`.
      angles: `[num_angles]` [rad], any values; may be traced and differentiated.
      detector_offset: [mm]; may be traced and differentiated.

    Returns:
      A `ParallelJoseph`: `[n, n]` -> `[num_angles, num_detectors]`, in units of x times [mm].

    Reference:
      Joseph (1982), An improved algorithm for reprojecting rays through pixel images, https://doi.org/10.1109/TMI.1982.4307572
    """
    sizes = (image_size, num_detectors, float(detector_spacing), float(pixel_size))
    return ParallelJoseph(jnp.asarray(angles, float), jnp.asarray(detector_offset, float), *sizes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ParallelJoseph:
    """Parallel-beam projector; build it with `parallel_beam`.

    angles: `[num_angles]` [rad], a leaf.
    detector_offset: scalar [mm], a leaf.
    """

    angles: Leaf
    detector_offset: Leaf
    image_size: int = dataclasses.field(metadata={"static": True})
    num_detectors: int = dataclasses.field(metadata={"static": True})
    detector_spacing: float = dataclasses.field(metadata={"static": True})
    pixel_size: float = dataclasses.field(metadata={"static": True})

    @linalg.traced_once
    def __call__(self, x):
        """A x: `[n, n]` -> `[num_angles, num_detectors]`."""
        linalg.checked_shape(x, (self.image_size, self.image_size), "image")
        return linalg.linear_with_adjoint(self._project, self._backproject, x, (self.angles, self.detector_offset))

    @linalg.traced_once
    def adjoint(self, y):
        """A^H y: `[num_angles, num_detectors]` -> `[n, n]`."""
        linalg.checked_shape(y, (*self.angles.shape, self.num_detectors), "sinogram")
        return linalg.linear_with_adjoint(self._backproject, self._project, y, (self.angles, self.detector_offset))

    def views(self, indices):
        """The operator of the views `indices`, an integer array, a list or a slice."""
        indices = chosen_views(indices, self.angles.shape[0])
        return dataclasses.replace(self, angles=self.angles[indices])

    def _detectors(self, dtype):
        """Detector coordinates `[num_detectors]` in pixels."""
        k = jnp.arange(self.num_detectors, dtype=dtype) - (self.num_detectors - 1) / 2
        return (k * self.detector_spacing + self.detector_offset.astype(dtype)) / self.pixel_size

    def _project(self, x):
        """Gather over rows: row j of the image serves the steep views, column j the shallow ones, side by side in one line."""
        n, dtype = self.image_size, x.real.dtype
        cos, sin = jnp.cos(self.angles).astype(dtype), jnp.sin(self.angles).astype(dtype)
        steep = jnp.abs(cos) >= jnp.abs(sin)
        along, across = jnp.where(steep, cos, sin)[:, None], jnp.where(steep, sin, cos)[:, None]
        upwards = x[::-1]
        padding = ((0, 0), (1, 2))  # zeros outside the image, so that clipped positions read 0
        lines = jnp.concatenate([jnp.pad(upwards, padding), jnp.pad(upwards.T, padding)], axis=1)
        start = jnp.where(steep, 0, n + 3).astype(jnp.uint32)[:, None]
        origin = self._detectors(dtype)[None, :] / along + ((n - 1) / 2 + 1)
        slope = across / along

        def step(total, row):
            line, height = row
            lower, weight = linalg.cell(jnp.clip(origin - height * slope, 0, n + 1), n)
            index = start + lower
            return total + linalg.take(line, index) * (1 - weight) + linalg.take(line, index + 1) * weight, None

        heights = jnp.arange(n, dtype=dtype) - (n - 1) / 2
        total, _ = lax.scan(step, jnp.zeros(origin.shape, x.dtype), (lines, heights))
        return total * (self.pixel_size / jnp.abs(along))

    def _backproject(self, y):
        """Gather over views: a pixel reads the detectors under its hat function, at most `num_taps` of them."""
        n, dtype = self.image_size, y.real.dtype
        cos, sin = jnp.cos(self.angles).astype(dtype), jnp.sin(self.angles).astype(dtype)
        spacing = self.detector_spacing / self.pixel_size
        num_taps = math.ceil(2 / spacing)
        along = jnp.maximum(jnp.abs(cos), jnp.abs(sin))
        x = jnp.arange(n, dtype=dtype) - (n - 1) / 2
        first_detector = self._detectors(dtype)[0]
        weighted = jnp.pad(y * (self.pixel_size / along)[:, None], ((0, 0), (num_taps, num_taps)))

        def step(total, view):
            row, cos, sin, along = view
            centre = ((x * cos)[None, :] - (x * sin)[:, None] - first_detector) / spacing  # row 0 is the top: y = -x reversed
            radius = along / spacing
            tap = jnp.clip(linalg.below(centre - radius, self.num_detectors + n) + 1, -num_taps, self.num_detectors)
            index = tap.astype(jnp.int32) + num_taps
            distance = centre - tap
            for i in range(num_taps):
                total = total + linalg.take(row, index + i) * jnp.maximum(0, 1 - jnp.abs(distance - i) / radius)
            return total, None

        return lax.scan(step, jnp.zeros((n, n), y.dtype), (weighted, cos, sin, along))[0]
