"""Parallel-beam line integrals by the Fourier slice theorem."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax import linalg
from medjax.operators.chosen_views import chosen_views
from medjax.operators.linogram import Linogram, check_taps, linogram
from medjax.typing import Leaf


def parallel_fourier(image_size, angles, num_detectors, detector_spacing=1.0, pixel_size=1.0, detector_offset=0.0, num_taps=5):
    r"""Line integrals of an image of square pixels, averaged over detector bins, along parallel rays.

    .. math::
        (A x)_{\theta, k} = \frac{p}{|a|} \, \mathcal{F}_1^{-1} \left[ \hat w(\omega) \sum_{r, c} x_{r c} \,
        e^{-i \omega (x_c \cos\theta + y_r \sin\theta) / p} \right] (t_k), \quad
        \hat w = \mathrm{sinc}(\omega_x p) \, \mathrm{sinc}(\omega_y p) \, \mathrm{sinc}(\omega d)

    with the transform of the image by a two-fold oversampled FFT and an exponential-of-semicircle kernel along one axis. A projection is
    band-limited to the pixel grid's Nyquist frequency: it rings a little below zero beside sharp edges. Complex images are projected by parts.

    Args:
      image_size, num_detectors, detector_spacing, pixel_size: as `parallel_beam`.
      angles: `[num_angles]` [rad], known values: they are built into tables, which are the operator's leaves.
      detector_offset: [mm], a known value.
      num_taps: width of the kernel; see `parallel_beam` for its error.

    Returns:
      A `ParallelFourier`: `[n, n]` -> `[num_angles, num_detectors]`, in units of x times [mm].

    Raises:
      ValueError: where angles or offset are traced, or num_taps lies outside [2, 16].

    Reference:
      Edholm & Herman (1987), Linograms in image reconstruction from projections, https://doi.org/10.1109/TMI.1987.4307847;
      the kernel: Barnett, Magland & af Klinteberg (2019), https://arxiv.org/abs/1808.06736.
    """
    if isinstance(angles, Tracer) or isinstance(detector_offset, Tracer):
        raise ValueError('parallel_beam got traced angles or offset; model="fourier" builds tables from known values, model="joseph" is needed')
    check_taps(num_taps)
    angles = np.asarray(angles, float)
    spacing, offset = detector_spacing / pixel_size, float(detector_offset) / pixel_size
    t = (np.arange(num_detectors) - (num_detectors - 1) / 2) * spacing + offset
    table = linogram(image_size, angles, t, spacing, pixel_size, num_taps)
    sizes = (image_size, num_detectors, float(detector_spacing), float(pixel_size), num_taps)
    return ParallelFourier(table, jnp.asarray(angles, float), jnp.asarray(detector_offset, float), *sizes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ParallelFourier:
    """Parallel-beam projector; build it with `parallel_beam`.

    table: `Linogram`, the map itself. angles `[num_angles]` [rad] and detector_offset [mm] only tell what it was built from;
    none of them takes a derivative.
    """

    table: Linogram
    angles: Leaf
    detector_offset: Leaf
    image_size: int = dataclasses.field(metadata={"static": True})
    num_detectors: int = dataclasses.field(metadata={"static": True})
    detector_spacing: float = dataclasses.field(metadata={"static": True})
    pixel_size: float = dataclasses.field(metadata={"static": True})
    num_taps: int = dataclasses.field(metadata={"static": True})

    @linalg.traced_once
    def __call__(self, x):
        """A x: `[n, n]` -> `[num_angles, num_detectors]`."""
        linalg.checked_shape(x, (self.image_size, self.image_size), "image")
        table = jax.lax.stop_gradient(self.table)
        return linalg.by_parts(lambda x: linalg.linear_with_adjoint(table.project, table.backproject, x, table), x)

    @linalg.traced_once
    def adjoint(self, y):
        """A^H y: `[num_angles, num_detectors]` -> `[n, n]`."""
        linalg.checked_shape(y, (*self.angles.shape, self.num_detectors), "sinogram")
        table = jax.lax.stop_gradient(self.table)
        return linalg.by_parts(lambda y: linalg.linear_with_adjoint(table.backproject, table.project, y, table), y)

    def views(self, indices):
        """The operator of the views `indices`, a list, an integer array or a slice, known when it is built."""
        if isinstance(self.angles, Tracer) or isinstance(indices, Tracer):
            raise ValueError('views of model="fourier" are new tables: take them outside jit, or use model="joseph"')
        indices = chosen_views(indices, self.angles.shape[0])
        angles = np.asarray(self.angles)[indices]
        sizes = (self.num_detectors, self.detector_spacing, self.pixel_size, float(self.detector_offset), self.num_taps)
        return parallel_fourier(self.image_size, angles, *sizes)
