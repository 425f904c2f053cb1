"""Fan-beam line integrals by Joseph's method."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from medjax import linalg
from medjax.operators import divergent_rays
from medjax.operators.chosen_views import chosen_views
from medjax.typing import Leaf


def fan_joseph(image_size, angles, source_distance, source_to_detector, num_detectors, detector_spacing, pixel_size, detector_offset, detector):
    r"""Line integrals of an image along diverging rays, by Joseph's method.

    .. math::
        (A x)_{\beta, k} = \frac{p}{m} \sum_{ij} x_{j i} \max\left(0, 1 - \frac{|t_{i j} - t_k|}{p m}\right), \quad
        m = \max(|\cos\theta_k|, |\sin\theta_k|)

    with the ray's own theta_k = beta + gamma_k and t_k = D sin gamma_k, p the pixel size and t_ij the coordinate of a pixel's centre in
    the direction theta_k, the sum over the two pixels next to the ray in each row (or column, where the ray is nearer to the x axis):
    the weights of `parallel_beam`, by ray. Outside the image x is zero.

    Args:
      image_size, num_detectors, detector_spacing, pixel_size, detector: as `fan_beam`.
      angles, detector_offset: as `fan_beam`; may be traced and differentiated.
      source_distance, source_to_detector: D and S [mm].

    Returns:
      A `FanJoseph`: `[n, n]` -> `[num_angles, num_detectors]`, in units of x times [mm].

    Reference:
      Joseph (1982), An improved algorithm for reprojecting rays through pixel images, https://doi.org/10.1109/TMI.1982.4307572
    """
    static = (float(source_distance), float(source_to_detector), float(detector_spacing), float(pixel_size), detector)
    return FanJoseph(jnp.asarray(angles, float), jnp.asarray(detector_offset, float), image_size, num_detectors, *static)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FanJoseph:
    """Fan-beam projector; build it with `fan_beam`.

    angles: `[num_angles]` [rad], a leaf.
    detector_offset: scalar [mm], a leaf.
    source_to_detector: the sum of source and detector distance [mm].
    """

    angles: Leaf
    detector_offset: Leaf
    image_size: int = dataclasses.field(metadata={"static": True})
    num_detectors: int = dataclasses.field(metadata={"static": True})
    source_distance: float = dataclasses.field(metadata={"static": True})
    source_to_detector: float = dataclasses.field(metadata={"static": True})
    detector_spacing: float = dataclasses.field(metadata={"static": True})
    pixel_size: float = dataclasses.field(metadata={"static": True})
    detector: str = dataclasses.field(metadata={"static": True})

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

    def positions(self, dtype):
        """Detector positions s, `[num_detectors]` [mm]."""
        k = jnp.arange(self.num_detectors, dtype=dtype) - (self.num_detectors - 1) / 2
        return k * self.detector_spacing + self.detector_offset.astype(dtype)

    def _project(self, x):
        """Gather over rows: row j of the image serves the steep rays, column j the shallow ones, side by side in one line."""
        n, dtype = self.image_size, x.real.dtype
        cos, sin = jnp.cos(self.angles).astype(dtype)[:, None], jnp.sin(self.angles).astype(dtype)[:, None]
        tangent = divergent_rays.tangents(self.positions(dtype), self.source_to_detector, self.detector)[None, :]
        steep, along, origin, slope = divergent_rays.lines(tangent, cos, sin, self.source_distance / self.pixel_size)
        upwards = x[::-1]
        padding = ((0, 0), (1, 2))  # zeros outside the image, so that clipped positions read 0
        lines = jnp.concatenate([jnp.pad(upwards, padding), jnp.pad(upwards.T, padding)], axis=1)
        start = jnp.where(steep, 0, n + 3).astype(jnp.uint32)
        origin = origin + ((n - 1) / 2 + 1)

        def step(total, row):
            line, height = row
            lower, weight = linalg.cell(jnp.clip(origin + height * slope, 0, n + 1), n)
            index = start + lower
            return total + linalg.take(line, index) * (1 - weight) + linalg.take(line, index + 1) * weight, None

        heights = jnp.arange(n, dtype=dtype) - (n - 1) / 2
        total, _ = lax.scan(step, jnp.zeros(origin.shape, x.dtype), (lines, heights))
        return total * (self.pixel_size * jnp.sqrt(1 + tangent**2) / jnp.abs(along))

    def _backproject(self, y):
        """Gather over views: a pixel reads the detectors whose rays pass within its hat function, at most `num_taps` of them."""
        n, dtype, num_detectors = self.image_size, y.real.dtype, self.num_detectors
        cos, sin = jnp.cos(self.angles).astype(dtype), jnp.sin(self.angles).astype(dtype)
        source = self.source_distance / self.pixel_size
        span = (self.source_to_detector / self.pixel_size, self.detector)
        spacing = self.detector_spacing / self.pixel_size
        num_taps = min(num_detectors, divergent_rays.most_taps(n, source, span[0], spacing, self.detector))
        s = self.positions(dtype) / self.pixel_size
        tangent = divergent_rays.tangents(s, *span)
        along = divergent_rays.lines(tangent[None, :], cos[:, None], sin[:, None], source)[1]
        weights = (self.pixel_size * jnp.sqrt(1 + tangent**2))[None, :] / along**2
        weighted = jnp.pad(y * weights, ((0, 0), (num_taps, num_taps)))
        tangent = jnp.pad(tangent, num_taps, mode="edge")
        x = (jnp.arange(n, dtype=dtype) - (n - 1) / 2)[None, :]
        below = x.T  # row 0 is the top: y = -x reversed

        def step(total, view):
            row, cos, sin = view
            lateral, depth = x * cos - below * sin, source + x * sin + below * cos
            # a hat function ends at the four neighbours: the first ray under it runs beside one of them
            sideways = jnp.minimum((lateral - cos) / (depth - sin), (lateral + cos) / (depth + sin))
            upwards = jnp.minimum((lateral - sin) / (depth + cos), (lateral + sin) / (depth - cos))
            first = (divergent_rays.positions(jnp.minimum(sideways, upwards), *span) - s[0]) / spacing
            first = jnp.clip(linalg.below(first, num_detectors + n) + 1, -num_taps, num_detectors)
            index = (first + num_taps).astype(jnp.uint32)

            def tap(i, total):
                i = jnp.uint32(i)
                tau = (s[0] + (first + i) * spacing) / span[0] if self.detector == "flat" else linalg.take(tangent, index + i)
                radius = jnp.maximum(jnp.abs(sin + tau * cos), jnp.abs(cos - tau * sin))
                return total + linalg.take(row, index + i) * jnp.maximum(0, radius - jnp.abs(lateral - depth * tau))

            if num_taps > 8:  # a source close to the image, or a fine detector
                return lax.fori_loop(0, num_taps, tap, total), None
            for i in range(num_taps):
                total = tap(i, total)
            return total, None

        return lax.scan(step, jnp.zeros((n, n), y.dtype), (weighted, cos, sin))[0]
