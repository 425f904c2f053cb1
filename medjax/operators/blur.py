"""Convolution with a point spread function."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import next_fast_len

from medjax import linalg
from medjax.typing import SVD, Leaf


def blur(kernel, shape, boundary: str = "periodic"):
    r"""Convolution of an image or volume with a kernel of any size, by the Fourier transform.

    .. math:: (A x)_n = \sum_j k_j \, x_{n - (j - c)}, \quad c = \lfloor \mathrm{size}(k) / 2 \rfloor

    The centre of the kernel stays in place. A kernel may be larger than the image: periodic, it wraps around; with zeros outside, what lies
    further away than the image is long has no effect.

    Args:
      kernel: real, of as many axes as x; a leaf, may be traced, differentiated and learned.
      shape: of x, `(h, w)` or `(d, h, w)`.
      boundary: "periodic", or "zero" for zeros outside the image.

    Returns:
      A `Blur` from real or complex `shape` to the same.

    Raises:
      ValueError: for an unknown boundary, a complex or empty kernel, or one whose axes are not those of x.
    """
    kernel, shape = linalg.inexact(kernel), tuple(int(n) for n in shape)
    if boundary not in ("periodic", "zero"):
        raise ValueError(f"blur needs boundary 'periodic' or 'zero', got {boundary!r}")
    if len(shape) not in (1, 2, 3) or kernel.ndim != len(shape) or kernel.size == 0 or min(shape) < 1:
        raise ValueError(f"blur needs a kernel with the axes of the image, one to three, got {kernel.shape} for an image {shape}")
    if jnp.iscomplexobj(kernel):
        raise ValueError(f"blur needs a real kernel, got {kernel.dtype}")
    return Blur(kernel, shape, boundary)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blur:
    """Convolution; build it with `blur`.

    kernel: real, of any size, a leaf.
    """

    kernel: Leaf
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    boundary: str = dataclasses.field(metadata={"static": True})

    def __call__(self, x):
        """k * x."""
        return self._filtered(x, lambda spectrum, transfer: spectrum * transfer)

    def adjoint(self, y):
        """The correlation of y with k."""
        return self._filtered(y, lambda spectrum, transfer: spectrum * jnp.conj(transfer))

    def transfer(self, dtype):
        """The Fourier transform K of the kernel on the periodic grid, frequency 0 first; its last axis is halved for a real `dtype`."""
        lengths, offsets = self._lengths(), [np.arange(k) - k // 2 for k in self.kernel.shape]
        kernel = self.kernel.astype(jnp.finfo(dtype).dtype)
        if self.boundary == "zero":  # offsets as long as the image carry nothing into it
            inside = [np.flatnonzero(np.abs(o) < n) for o, n in zip(offsets, self.shape, strict=True)]
            kernel, offsets = kernel[np.ix_(*inside)], [o[i] for o, i in zip(offsets, inside, strict=True)]
        places = np.ix_(*[o % n for o, n in zip(offsets, lengths, strict=True)])
        wrapped = jnp.zeros(lengths, kernel.dtype).at[places].add(kernel)
        return _forward(wrapped.astype(dtype))

    def svd(self):
        """Of real images and a periodic boundary: V is the inverse Fourier transform, the values are those of the transfer function.

        Raises:
          ValueError: for zeros outside the image.
        """
        if self.boundary != "periodic":
            raise ValueError("a blur with zeros outside has no singular value decomposition of its own: `decomposed(A, shape)` gives it one")
        transfer = self.transfer(jnp.result_type(self.kernel, jnp.complex64))
        values = jnp.abs(transfer)
        phase = jnp.conj(transfer) / jnp.where(values > 0, values, 1)

        def analyse(x):
            return jnp.fft.fftn(x, norm="ortho")

        return SVD(values, analyse, lambda c: jnp.fft.ifftn(c, norm="ortho").real, lambda y: phase.astype(linalg.complex_of(y).dtype) * analyse(y))

    def _lengths(self) -> tuple[int, ...]:
        """Of the transform: those of the image, or longer ones, that keep what would wrap around outside the image."""
        if self.boundary == "periodic":
            return self.shape
        reach = [min(k // 2, n - 1) for k, n in zip(self.kernel.shape, self.shape, strict=True)]
        lengths: list = [next_fast_len(n + r, True) for n, r in zip(self.shape, reach, strict=True)]
        return tuple(lengths)

    def _filtered(self, x, multiply):
        x = linalg.inexact(x)
        if x.shape != self.shape:
            raise ValueError(f"image is {list(x.shape)}, the blur says {list(self.shape)}")
        lengths = self._lengths()
        padded = jnp.pad(x, [(0, m - n) for m, n in zip(lengths, self.shape, strict=True)])
        spectrum = multiply(_forward(padded), self.transfer(x.dtype))
        out = jnp.fft.ifftn(spectrum) if jnp.iscomplexobj(x) else jnp.fft.irfftn(spectrum, lengths)
        return out[tuple(slice(n) for n in self.shape)]


def _forward(x):
    """FFT over all axes, half of it for real x."""
    return jnp.fft.fftn(x) if jnp.iscomplexobj(x) else jnp.fft.rfftn(x)
