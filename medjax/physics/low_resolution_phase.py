"""The phase of an image from the centre of its k-space."""

import jax.numpy as jnp
import numpy as np

from medjax import linalg


def low_resolution_phase(kspace, width, maps=None):
    r"""The slowly varying phase that coils, fields and flow leave, without the noise and the ringing of an image from all samples.

    .. math:: \phi = \arg \sum_c \overline{s_c} \, F^H (h \, y)_c, \qquad h_k = \cos^2(\pi k_y / w_y) \cos^2(\pi k_x / w_x)

    with Hann's window h of the given widths around k = 0 and 0 beyond.

    Args:
      kspace: y `[c, h, w]` complex, or `[h, w]` of one coil; k = 0 at (h // 2, w // 2), sampled fully inside the window.
      width: of the window in samples, a number or (height, width).
      maps: s `[c, h, w]`; without them the coils add as they are, which for several asks for coils of one phase.

    Returns:
      phi `[h, w]` in (-pi, pi] [rad].

    Raises:
      ValueError: for maps of another shape, or a width below 1.

    Reference:
      Noll, Nishimura & Macovski (1991), Homodyne detection in magnetic resonance imaging, https://doi.org/10.1109/42.79473
    """
    kspace = linalg.complex_of(kspace)
    if maps is not None and maps.shape != kspace.shape:
        raise ValueError(f"low_resolution_phase needs maps like k-space {list(kspace.shape)}, got {list(maps.shape)}")
    widths = width if isinstance(width, tuple) else (width, width)
    if min(widths) < 1:
        raise ValueError(f"width of low_resolution_phase is {width}, at least 1 sample is needed")
    rows, columns = (_hann(n, w) for n, w in zip(kspace.shape[-2:], widths, strict=True))
    window = jnp.asarray(rows[:, None] * columns, kspace.real.dtype)
    axes = (-2, -1)
    shifted = jnp.fft.ifftshift(kspace * window.reshape((1,) * (kspace.ndim - 2) + window.shape), axes=axes)
    images = jnp.fft.fftshift(jnp.fft.ifft2(shifted), axes=axes)
    images = images if maps is None else images * jnp.conj(maps)
    return jnp.angle(images if images.ndim == 2 else jnp.sum(images, 0))


def _hann(n, width):
    """Hann's window of a width around n // 2."""
    k = np.arange(n) - n // 2
    return np.where(np.abs(k) < width / 2, np.cos(np.pi * k / width) ** 2, 0.0)
