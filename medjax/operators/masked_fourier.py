"""Cartesian MRI of one coil: the Fourier transform, sampled by a mask."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax import linalg
from medjax.operators.centred_fft import centred_fft, centred_ifft, centred_phase
from medjax.typing import SVD, Leaf


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MaskedFourier:
    """y = M F x; leaf `mask` `[h, w]`, its origin of k-space at (h // 2, w // 2)."""

    mask: Leaf

    def __call__(self, x):
        """M F x, complex `[h, w]`, zero where nothing is sampled."""
        x = self._checked("image", x)
        return self.mask.astype(x.dtype) * centred_fft(x)

    def adjoint(self, y):
        """F^H M^H y, complex `[h, w]`: the zero-filled reconstruction."""
        y = self._checked("k-space", y)
        return centred_ifft(jnp.conj(self.mask.astype(y.dtype)) * y)

    def normal(self, x):
        """F^H |M|^2 F x, complex `[h, w]`: the phases of k-space cancel."""
        x = self._checked("image", x)
        u, _ = centred_phase(x.shape, x.dtype)
        power = jnp.real(jnp.conj(self.mask) * self.mask).astype(u.real.dtype)
        return jnp.conj(u) * jnp.fft.ifft2(power * jnp.fft.fft2(u * x))

    def svd(self):
        """V is the inverse Fourier transform of complex images, the values are those of |M|."""
        mask = linalg.inexact(self.mask)
        values = jnp.abs(mask)
        phase = jnp.conj(mask) / jnp.where(values > 0, values, 1)
        return SVD(values, lambda x: centred_fft(linalg.complex_of(x)), centred_ifft, lambda y: phase.astype(y.dtype) * y, diagonal=True)

    def _checked(self, what, a):
        """a as complex numbers, of the mask's shape."""
        if jnp.shape(a) != self.mask.shape:
            raise ValueError(f"{what} is {list(jnp.shape(a))}, the mask says {list(self.mask.shape)}")
        return linalg.complex_of(a)


def masked_fourier(mask):
    r"""Centred orthonormal Fourier transform, sampled by a mask.

    .. math::
        y_k = \frac{M_k}{\sqrt{h w}} \sum_n x_n \, e^{-2 \pi i \langle k - c, (n - c) / N \rangle}, \quad N = (h, w), \; c = \lfloor N / 2 \rfloor

    F is unitary, so A^H A = F^H |M|^2 F has eigenvalues |M_k|^2 and, with a mask of zeros and ones, ||A|| = 1.

    Args:
      mask: `[h, w]`, bool or float weights, k = 0 at index (h // 2, w // 2); may be traced, vmapped and differentiated.

    Returns:
      An operator from complex `[h, w]` to complex `[h, w]`.

    Raises:
      ValueError: when the mask is not of rank 2 or (if its values are known) samples nothing or is not finite.
    """
    shape = jnp.shape(mask)
    if len(shape) != 2:
        raise ValueError(f"masked_fourier needs a mask [h, w], got shape {shape}")
    if not isinstance(mask, Tracer) and not np.any(np.asarray(mask)):
        raise ValueError(f"masked_fourier needs a mask that samples at least one point, got {shape} zeros")
    if not isinstance(mask, Tracer) and not np.all(np.isfinite(mask)):
        raise ValueError("masked_fourier needs a mask of finite weights, got one with NaN or infinity")
    return MaskedFourier(jnp.asarray(mask))
