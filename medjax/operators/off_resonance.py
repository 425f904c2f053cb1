"""Any Fourier encoding in a field that is not homogeneous, by time segmentation.

Sign: the encoding is exp(-2 pi i k x), so a spin at df > 0 Hz, where the field is stronger, turns the same way as one at larger x does under
a positive gradient: its signal at time t carries exp(-2 pi i df t). A field map that is linear in x moves k, it does not turn it round.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from medjax.operators.sense import Sense
from medjax.typing import Leaf, Operator

_NUM_BINS = 256  # of the histogram of the field map


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OffResonance:
    """y = sum_l B_l F C_l x; leaves those of F, `field_map` `[h, w]` [Hz], `segments` `[L]` [s] and complex `interpolators` `[L, *times]`."""

    fourier: Operator
    field_map: Leaf
    segments: Leaf
    interpolators: Leaf

    def __call__(self, x):
        """A x: complex `[..., h, w]`, what F takes, to what F gives."""
        out = jax.eval_shape(self.fourier, x)

        def step(total, part):
            time, weight = part
            return total + self._spread_out(weight, out) * self.fourier(self._phase(time, x) * x), None

        return lax.scan(step, jnp.zeros(out.shape, out.dtype), (self.segments, self.interpolators))[0]

    def adjoint(self, y):
        """A^H y."""
        out = jax.eval_shape(self.fourier.adjoint, y)

        def step(total, part):
            time, weight = part
            return total + jnp.conj(self._phase(time, out)) * self.fourier.adjoint(jnp.conj(self._spread_out(weight, y)) * y), None

        return lax.scan(step, jnp.zeros(out.shape, out.dtype), (self.segments, self.interpolators))[0]

    def _phase(self, time, image):
        """exp(-2 pi i df tau) with leading axes of length one, in the dtype of the image."""
        turns = (self.field_map * time).astype(jnp.finfo(image.dtype).dtype)
        turns = -2 * jnp.pi * turns.reshape((1,) * (len(image.shape) - turns.ndim) + turns.shape)
        return lax.complex(jnp.cos(turns), jnp.sin(turns))

    def _spread_out(self, weight, data):
        """Interpolators of one segment with leading axes of length one."""
        return weight.astype(data.dtype).reshape((1,) * (len(data.shape) - weight.ndim) + weight.shape)


def off_resonance(fourier: Operator, field_map, times, num_segments=None, tolerance=1e-4, band=None):
    r"""Fourier encoding of an object whose spins precess at their own frequencies while it is read out.

    .. math::
        y_j = \sum_n x_n \, e^{-2 \pi i \, \Delta f_n t_j} F_{j n}, \qquad
        e^{-2 \pi i \, \Delta f_n t_j} \approx \sum_l b_{l j} \, e^{-2 \pi i \, \Delta f_n \tau_l}

    so A = sum_l B_l F C_l with diagonal B and C: one transform a segment. The times tau_l are equally spaced over the readout; b is the
    least-squares fit for the histogram of the field map, or for a flat band.

    Args:
      fourier: any operator that encodes by exp(-2 pi i k x): `masked_fourier` (EPI), `nufft` (spirals), `sense`.
      field_map: df `[h, w]` or `[d, h, w]` [Hz]; may be traced and differentiated, then `band` is needed.
      times: t of every sample, broadcast against the last axes of the data: `[h, 1]` or `[h, w]` for `masked_fourier`, `[samples]` [s].
      num_segments: L >= 1; the fewest that reach `tolerance` if None.
      tolerance: the root mean square error of the fit over voxels and times.
      band: (lowest, highest) frequency [Hz] that is fitted evenly, in place of the histogram.

    Returns:
      An operator between the spaces of `fourier`.

    Raises:
      ValueError: when times are not known, not finite or do not fit the data, the field map is not of rank 2 or 3, does not fit the image, is traced
        without a band, or needs too many segments, when either is complex, num_segments is no integer >= 1, or the band is not finite.

    Reference:
      Sutton, Noll & Fessler (2003), https://doi.org/10.1109/TMI.2002.808360, for segmentation with optimal interpolators; Fessler, Lee,
      Olafsson, Shi & Noll (2005), https://doi.org/10.1109/TSP.2005.853152, for the histogram.
    """
    if np.iscomplexobj(times) or np.iscomplexobj(field_map):
        raise ValueError("off_resonance needs real times [s] and a real field map [Hz], got complex numbers")
    if isinstance(times, Tracer) or not np.all(np.isfinite(times)) or np.size(times) == 0:
        raise ValueError("off_resonance needs known, finite times of the samples")
    if jnp.ndim(field_map) not in (2, 3):
        raise ValueError(f"off_resonance needs a field map [h, w] or [d, h, w], got shape {jnp.shape(field_map)}")
    if band is None and isinstance(field_map, Tracer):
        raise ValueError("off_resonance needs a band (lowest, highest) [Hz] when the field map is traced")
    if num_segments is not None and (not num_segments >= 1 or num_segments % 1):
        raise ValueError(f"off_resonance needs an integer num_segments >= 1, got {num_segments}")
    if band is not None and (np.shape(band) != (2,) or not np.all(np.isfinite(band))):
        raise ValueError(f"off_resonance needs a finite band (lowest, highest) [Hz], got {band}")
    times = np.asarray(times, float)
    _check_fits(fourier, jnp.shape(field_map), times.shape)
    unique, where = np.unique(times, return_inverse=True)
    spectrum = _histogram(field_map) if band is None else (np.linspace(band[0], band[1], _NUM_BINS), np.full(_NUM_BINS, 1 / _NUM_BINS))
    segments, b = _fit(*spectrum, unique, num_segments or _fewest(*spectrum, unique, tolerance))[:2]
    dtype = jnp.result_type(float)
    field_map = jnp.asarray(field_map) if jnp.issubdtype(jnp.result_type(field_map), jnp.floating) else jnp.asarray(field_map, dtype)
    b = b[:, where.reshape(-1)].reshape(-1, *times.shape)
    return OffResonance(fourier, field_map, jnp.asarray(segments, dtype), jnp.asarray(b, jnp.result_type(complex)))


def _check_fits(fourier, field_shape, times_shape):
    """Refuse a field map of another shape than the image's, and times that do not broadcast against the last axes of the data."""
    sets = fourier.maps.shape[:-3] if isinstance(fourier, Sense) else ()
    try:
        data = jax.eval_shape(fourier, jax.ShapeDtypeStruct(sets + field_shape, jnp.complex64)).shape
    except (TypeError, ValueError) as error:
        raise ValueError(f"off_resonance needs a field map of the shape of the image, got {field_shape}: {error}") from error
    if len(times_shape) > len(data) or any(t not in (1, n) for t, n in zip(times_shape[::-1], data[::-1], strict=False)):
        raise ValueError(f"off_resonance needs times that broadcast against the last axes of data {data}, got times of shape {times_shape}")


def _histogram(field_map):
    """Mean frequencies and shares of the occupied bins."""
    values = np.asarray(field_map, float)
    if not np.all(np.isfinite(values)):
        raise ValueError("off_resonance needs a finite field map, got one with NaN or infinity")
    counts, edges = np.histogram(values, _NUM_BINS)
    sums, _ = np.histogram(values, edges, weights=values)
    occupied = counts > 0
    return sums[occupied] / counts[occupied], counts[occupied] / values.size


def _fewest(frequencies, weights, times, tolerance):
    """The number of segments that reaches the tolerance, found on some of the times."""
    some = times[np.unique(np.linspace(0, len(times) - 1, min(len(times), _NUM_BINS)).astype(int))]

    def error(count):
        return _fit(frequencies, weights, some, count)[2]

    enough = next((count for count in (1, 2, 4, 8, 16, 32, 64) if error(count) <= tolerance), None)
    if enough is None:
        raise ValueError(f"off_resonance needs more than 64 segments to reach tolerance {tolerance}, its error is {error(64):.2g}")
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        enough, too_few = (middle, too_few) if error(middle) <= tolerance else (enough, middle)
    return enough


def _fit(frequencies, weights, times, count):
    """Segment times, least-squares interpolators `[count, times]` and their root mean square error."""
    first, last = times.min(), times.max()
    segments = np.linspace(first, last, count) if count > 1 else np.array([(first + last) / 2])
    root = np.sqrt(weights)[:, None]
    basis, target = (root * np.exp(-2j * np.pi * np.outer(frequencies, t)) for t in (segments, times))
    b = np.linalg.lstsq(basis, target, rcond=1e-12)[0]
    return segments, b, np.sqrt(np.mean(np.sum(np.abs(basis @ b - target) ** 2, 0)))
