"""The linear inverse of a blur that has the least mean squared error."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax.operators.blur import Blur


def wiener(A: Blur, y, noise_to_signal):
    r"""Wiener's deconvolution of a periodic blur.

    .. math:: \hat U = \frac{\bar K}{|K|^2 + S_n / S_u} F

    with F the transform of y and K that of the kernel. With the power spectra of noise and image it is the best linear estimate; a constant is
    Tikhonov's inverse :math:`\arg\min_x \|A x - y\|^2 + c \|x\|^2`.

    Args:
      A: a periodic `blur`.
      y: blurred image, real or complex.
      noise_to_signal: S_n / S_u >= 0, a scalar or an array like y on the grid of `jnp.fft.fftn`, frequency 0 first. Frequencies that it leaves at 0
        and that the kernel removes come back as 0.

    Returns:
      The estimate, like y.

    Raises:
      ValueError: for a blur that is not periodic (solve its normal equations instead), arrays that do not fit, or a known noise_to_signal that is
        negative or NaN.

    Reference:
      Gonzalez & Woods, Digital Image Processing, section "Minimum Mean Square Error (Wiener) Filtering".
    """
    if A.boundary != "periodic":
        raise ValueError(f"wiener needs a periodic blur, got boundary {A.boundary!r}")
    ratio = jnp.asarray(noise_to_signal, jnp.finfo(y.dtype).dtype)
    if y.shape != A.shape or ratio.shape not in ((), A.shape):
        raise ValueError(f"image is {list(y.shape)} and noise_to_signal {list(ratio.shape)}, the blur says {list(A.shape)}")
    if not isinstance(noise_to_signal, Tracer) and not np.all(np.asarray(noise_to_signal) >= 0):
        raise ValueError("wiener needs noise_to_signal >= 0, got negative entries or NaN")
    transfer = A.transfer(y.dtype)
    if ratio.ndim:
        ratio = ratio[..., : transfer.shape[-1]]
    power = jnp.real(transfer) ** 2 + jnp.imag(transfer) ** 2 + ratio
    inverse = jnp.where(power > 0, jnp.conj(transfer) / jnp.where(power > 0, power, 1), 0)
    if jnp.iscomplexobj(y):
        return jnp.fft.ifftn(jnp.fft.fftn(y) * inverse)
    return jnp.fft.irfftn(jnp.fft.rfftn(y) * inverse, A.shape)
