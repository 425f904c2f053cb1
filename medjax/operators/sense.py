"""Cartesian parallel MRI: coil sensitivities, then the Fourier transform, sampled by a mask."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax import linalg
from medjax.operators.centred_fft import centred_phase
from medjax.typing import Leaf

_GROUP = 2  # coils at a time: their images stay in the cache between product and FFT, 1.1 to 1.6 times faster than all 8 of 256 x 256 at once


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sense:
    """y_c = M F sum_s S_sc x_s; leaves `maps` `[coils, h, w]` or `[sets, coils, h, w]` and `mask` `[h, w]`."""

    maps: Leaf
    mask: Leaf

    def __call__(self, x):
        """M F S x: complex `[h, w]` or `[sets, h, w]` to `[coils, h, w]`, zero where nothing is sampled."""
        x = linalg.complex_of(x)
        u, constant = centred_phase(self.mask.shape, x.dtype)
        sampled = (self.mask * (constant * u / math.sqrt(u.size))).astype(x.dtype)[None]
        return jnp.concatenate([sampled * jnp.fft.fft2(self._to_coils(maps, u, x)) for maps, _ in self._groups()])

    def adjoint(self, y):
        """S^H F^H M^H y: complex `[coils, h, w]` to `[h, w]` or `[sets, h, w]`."""
        if y.shape != self.maps.shape[-3:]:
            raise ValueError(f"sense of maps {self.maps.shape} needs data {self.maps.shape[-3:]}, got {y.shape}")
        y = linalg.complex_of(y)
        u, constant = centred_phase(self.mask.shape, y.dtype)
        sampled = jnp.conj(self.mask * (constant * u * math.sqrt(u.size))).astype(y.dtype)[None]
        return sum(self._from_coils(maps, u, jnp.fft.ifft2(sampled * y[coils])) for maps, coils in self._groups())

    def normal(self, x):
        """A^H A x, of the shape of x: the phases of k-space cancel, so nothing of the centring is left but a product with x."""
        x = linalg.complex_of(x)
        u, _ = centred_phase(self.mask.shape, x.dtype)
        power = jnp.real(jnp.conj(self.mask) * self.mask).astype(u.real.dtype)[None]
        return sum(self._from_coils(maps, u, jnp.fft.ifft2(power * jnp.fft.fft2(self._to_coils(maps, u, x)))) for maps, _ in self._groups())

    def _groups(self):
        """Maps and places of a few coils at a time."""
        places = [slice(first, first + _GROUP) for first in range(0, self.maps.shape[-3], _GROUP)]
        return [(self.maps[..., coils, :, :], coils) for coils in places]

    def _to_coils(self, maps, u, x):
        """S (u x): what each coil sees."""
        wanted = self.maps.shape[:-3] + self.mask.shape
        if x.shape != wanted:
            raise ValueError(f"sense of maps {self.maps.shape} needs an image {wanted}, got {x.shape}")
        maps = maps.astype(x.dtype)
        if maps.ndim == 3:
            return maps * (u * x)[None]
        return sum(maps[s] * (u * x[s])[None] for s in range(maps.shape[0]))

    def _from_coils(self, maps, u, images):
        """conj(u) S^H images."""
        maps = jnp.conj(maps.astype(images.dtype))
        if maps.ndim == 3:
            return jnp.conj(u) * jnp.sum(maps * images, 0)
        return jnp.conj(u)[None] * jnp.sum(maps * images[None], 1)


def sense(maps, mask):
    r"""What several coils measure of one image: sensitivities, centred orthonormal Fourier transform, mask.

    .. math::
        y_c = M F \sum_s S_{s c} \, x_s, \qquad A^H y = \Big( \sum_c S_{s c}^* F^H M^* y_c \Big)_s

    F is `masked_fourier`'s, its origins at (h // 2, w // 2) in both domains. Several sets of maps s, as ESPIRiT gives where the field of
    view is smaller than the object, see an image each. `normal(x)` is A^H A x at the cost of two FFTs a coil and no shift.

    Args:
      maps: complex `[coils, h, w]`, or `[sets, coils, h, w]`; may be traced, vmapped and differentiated.
      mask: `[h, w]`, bool or weights, k = 0 at index (h // 2, w // 2); likewise.

    Returns:
      An operator from complex `[h, w]`, or `[sets, h, w]`, to complex `[coils, h, w]`.

    Raises:
      ValueError: when maps and mask do not fit each other, or (if its values are known) the mask samples nothing or is not finite.

    Reference:
      Pruessmann, Weiger, Scheidegger & Boesiger (1999), SENSE; Uecker et al. (2014), ESPIRiT, for several sets of maps.
    """
    maps, shape = jnp.asarray(maps), jnp.shape(mask)
    if len(shape) != 2 or maps.ndim not in (3, 4) or maps.shape[-2:] != shape:
        raise ValueError(f"sense needs maps [coils, h, w] or [sets, coils, h, w] and a mask [h, w], got {maps.shape} and {shape}")
    if not isinstance(mask, Tracer) and not np.any(np.asarray(mask)):
        raise ValueError(f"sense needs a mask that samples at least one point, got {shape} zeros")
    if not isinstance(mask, Tracer) and not np.all(np.isfinite(mask)):
        raise ValueError("sense needs a mask of finite weights, got one with NaN or infinity")
    return Sense(maps, jnp.asarray(mask))
