"""Pulse-echo ultrasound of a linear array, and delay-and-sum beamforming as its adjoint.

Geometry: the array lies at depth z = 0, element e at x = (e - (num_elements - 1) / 2) pitch. Pixel `[r, c]` of an `[h, w]` image lies at depth
z = first_depth + r spacing, at x = (c - (w - 1) / 2) spacing: row 0 is next to the array. Lengths in mm, times in us, frequencies in MHz.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from medjax import linalg
from medjax.operators.blur import blur
from medjax.typing import Leaf


def ultrasound(
    shape, spacing, num_elements, pitch, num_samples, *, first_depth, angles=(0.0,), sources=None, frequency=5.0, bandwidth=0.6,
    sampling_rate=10.0, first_time=0.0, sound_speed=1.54, f_number=0.0,
):  # fmt: skip
    r"""Channel data of point scatterers to first order (Born), as complex baseband (IQ) samples.

    .. math::
        y_{t e k} = \sum_p a_{e p} \, x_p \, e^{-2 \pi i f \tau} \, g(t_k - \tau),
        \quad \tau = \tau_t(p) + \frac{|p - p_e|}{c}, \quad t_k = t_0 + k / f_s

    with the transmit delay :math:`(z \cos\alpha + x \sin\alpha) / c` of a plane wave that passes the middle of the array at time 0, or
    :math:`|p - s| / c` of a synthetic source; g a Gaussian envelope, and a = 1 inside the receive aperture |x_p - x_e| <= z / (2 F). The adjoint
    is delay and sum: matched filter, samples fetched at tau by linear interpolation, phase turned back, summed over elements and transmits.
    The exact adjoint of that is what A does: an echo is shared out linearly between the two samples around tau before g is convolved with it. So
    midway between samples it is 7 % off the formula at the default f_s, 1.7 % at twice that. An echo whose tau lies outside the samples is lost.

    Data are IQ and not RF: the phase is exact at any delay, so neither samples nor pixels must resolve the carrier, and the envelope that
    is shown is |x|. RF data become IQ by a Hilbert transform times :math:`e^{-2 \pi i f t}`. Directivity of elements and loss with depth are not
    modelled.

    Args:
      shape: (h, w).
      spacing: of pixels [mm].
      num_elements, pitch: of the array, pitch in [mm].
      num_samples: k, samples a line.
      first_depth: of row 0 [mm], > 0.
      angles: `[num_transmits]` alpha [rad], plane waves; a leaf.
      sources: `[num_transmits, 2]` x and z [mm] of synthetic or virtual point sources, in place of plane waves; a leaf.
      frequency: f, of the carrier [MHz].
      bandwidth: width of the spectrum at -6 dB over f.
      sampling_rate: f_s of the IQ samples [MHz], above f times bandwidth.
      first_time: t_0 [us].
      sound_speed: c [mm/us]; a leaf.
      f_number: F; 0 for the whole aperture.

    Returns:
      An `Ultrasound` from complex `[h, w]` to complex `[num_transmits, num_elements, num_samples]`.

    Raises:
      ValueError: for sizes or lengths that are not positive, a sampling rate below the bandwidth, a known speed of sound that is not positive, or
        known angles or sources that are not finite.

    Reference:
      Montaldo et al. (2009), Coherent plane-wave compounding for very high frame rate ultrasonography and transient elastography,
      https://doi.org/10.1109/TUFFC.2009.1067
    """
    sizes = {"height": shape[0], "width": shape[1], "num_elements": num_elements, "num_samples": num_samples}
    lengths = {"spacing": spacing, "pitch": pitch, "first_depth": first_depth}
    rates = {"frequency": frequency, "bandwidth": bandwidth, "sound_speed": sound_speed}
    for name, value in {**sizes, **lengths, **rates}.items():
        if not isinstance(value, Tracer) and not 0 < value < math.inf:
            raise ValueError(f"ultrasound needs {name} > 0, got {value}")
    if not (sampling_rate >= frequency * bandwidth and f_number >= 0):
        raise ValueError(f"ultrasound needs sampling_rate >= {frequency * bandwidth} MHz and f_number >= 0, got {sampling_rate} and {f_number}")
    transmits = jnp.asarray(angles if sources is None else sources, float)
    if transmits.size == 0 or transmits.shape[1:] != (() if sources is None else (2,)):
        raise ValueError(f"ultrasound needs angles [num_transmits] or sources [num_transmits, 2], got shape {transmits.shape}")
    if not isinstance(transmits, Tracer) and not np.all(np.isfinite(np.asarray(transmits))):
        raise ValueError(f"ultrasound needs finite angles or sources, got {np.sum(~np.isfinite(np.asarray(transmits)))} numbers that are not")
    x = (np.arange(shape[1]) - (shape[1] - 1) / 2) * spacing
    grid = jnp.asarray(np.stack(np.broadcast_arrays(x[None, :], first_depth + spacing * np.arange(shape[0])[:, None])))
    elements = jnp.asarray((np.arange(num_elements) - (num_elements - 1) / 2) * pitch)
    numbers = (float(v) for v in (frequency, bandwidth, sampling_rate, first_time, f_number))
    return Ultrasound(transmits, jnp.asarray(sound_speed, float), grid, elements, num_samples, *numbers)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ultrasound:
    """Channel data of scatterers; build it with `ultrasound`.

    transmits: `[num_transmits]` angles [rad] or `[num_transmits, 2]` sources [mm], a leaf.
    sound_speed: scalar [mm/us], a leaf.
    grid: `[2, h, w]` x and z of pixels [mm], a leaf.
    elements: `[num_elements]` x [mm], a leaf.
    """

    transmits: Leaf
    sound_speed: Leaf
    grid: Leaf
    elements: Leaf
    num_samples: int = dataclasses.field(metadata={"static": True})
    frequency: float = dataclasses.field(metadata={"static": True})
    bandwidth: float = dataclasses.field(metadata={"static": True})
    sampling_rate: float = dataclasses.field(metadata={"static": True})
    first_time: float = dataclasses.field(metadata={"static": True})
    f_number: float = dataclasses.field(metadata={"static": True})

    @linalg.traced_once
    def __call__(self, x):
        """Channel data `[num_transmits, num_elements, num_samples]` of scatterers `[h, w]`."""
        self._check(x, self.grid.shape[1:], "image")
        return linalg.linear_with_adjoint(self._simulate, self._beamform, x, self)

    @linalg.traced_once
    def adjoint(self, y):
        """The delay-and-sum image `[h, w]`; its envelope is its modulus."""
        self._check(y, (self.transmits.shape[0], self.elements.shape[0], self.num_samples), "channel data")
        return linalg.linear_with_adjoint(self._beamform, self._simulate, y, self)

    def _check(self, a, wanted, what):
        if a.shape != tuple(wanted) or not jnp.iscomplexobj(a):
            raise ValueError(f"{what} is {list(a.shape)} of {a.dtype}, complex {list(wanted)} is needed")

    def pulse(self):
        """`[2 k + 1]` samples of the envelope g, to where it is below 1e-7."""
        rate = (math.pi * self.frequency * self.bandwidth) ** 2 / (4 * math.log(10 ** (6 / 20)))
        half = math.ceil(math.sqrt(math.log(1e7) / rate) * self.sampling_rate)
        return np.exp(-rate * (np.arange(-half, half + 1) / self.sampling_rate) ** 2)

    def _filtered(self, y):
        """Every line convolved with the envelope, which is even: its own adjoint."""
        pulse = blur(self.pulse(), (self.num_samples,), "zero")
        return jax.vmap(jax.vmap(lambda line: pulse(line)))(y)

    def _delays(self, transmit):
        """`[h, w]` [us] of the way out."""
        x, z = self.grid
        if transmit.ndim == 0:
            return (z * jnp.cos(transmit) + x * jnp.sin(transmit)) / self.sound_speed
        return jnp.hypot(x - transmit[0], z - transmit[1]) / self.sound_speed

    def _taps(self, out, element, dtype):
        """Index into a line with one zero before and one behind, complex weight of it and of the next, for each pixel of a channel."""
        x, z = self.grid
        delay = out + jnp.hypot(x - element, z) / self.sound_speed
        position = jnp.clip((delay - self.first_time) * self.sampling_rate, -1, self.num_samples)
        cell = jnp.clip(linalg.below(position, self.num_samples), -1, self.num_samples - 1)
        turns = delay * self.frequency
        phase = lax.complex(jnp.cos(2 * jnp.pi * turns), -jnp.sin(2 * jnp.pi * turns))
        heard = phase if self.f_number == 0 else jnp.where(2 * self.f_number * jnp.abs(x - element) <= z, phase, 0)
        upper = position - cell
        return cell.astype(jnp.int32) + 1, (heard * (1 - upper)).astype(dtype), (heard * upper).astype(dtype)

    def _simulate(self, x):
        def channel(out, element):
            index, lower, upper = self._taps(out, element, x.dtype)
            line = jnp.zeros(self.num_samples + 2, x.dtype)
            line = line.at[index].add(lower * x, mode="promise_in_bounds").at[index + 1].add(upper * x, mode="promise_in_bounds")
            return out, line[1:-1]

        def transmission(_, transmit):
            return None, lax.scan(channel, self._delays(transmit), self.elements)[1]

        return self._filtered(lax.scan(transmission, None, self.transmits)[1])

    def _beamform(self, y):
        lines = jnp.pad(self._filtered(y), ((0, 0), (0, 0), (1, 1)))

        def channel(carry, each):
            total, out = carry
            index, lower, upper = self._taps(out, each[0], y.dtype)
            now, later = (each[1].at[i].get(mode="promise_in_bounds") for i in (index, index + 1))
            return (total + jnp.conj(lower) * now + jnp.conj(upper) * later, out), None

        def transmission(total, each):
            return lax.scan(channel, (total, self._delays(each[0])), (self.elements, each[1]))[0][0], None

        return lax.scan(transmission, jnp.zeros(self.grid.shape[1:], y.dtype), (self.transmits, lines))[0]
