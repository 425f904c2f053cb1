"""The discrete Fourier transform whose origins lie in the middle, without moving a sample."""

import jax.numpy as jnp
import numpy as np


def centred_phase(shape, dtype):
    r"""The phases `(u, constant)` that turn an FFT into a centred one.

    With c = floor(N / 2) along every axis, the centred transform is a plain FFT between two products,

    .. math::
        e^{-2 \pi i (k - c)(n - c) / N} = e^{-2 \pi i c^2 / N} \, u_k \, e^{-2 \pi i k n / N} \, u_n, \quad u_n = e^{2 \pi i c n / N}

    so nothing has to be shifted, and in F^H D F with a diagonal D the outer phases cancel. For even N all of them are signs.

    Args:
      shape: the lengths N of the last axes.
      dtype: complex dtype of the data.

    Returns:
      u of that shape, real where all lengths are even, and the constant, a Python number.
    """
    exponents = [(n // 2) * np.arange(n) % n / n for n in shape]
    total = sum((n // 2) ** 2 % n / n for n in shape)
    if all(n % 2 == 0 for n in shape):
        factors, constant = [np.where(e == 0, 1.0, -1.0) for e in exponents], (-1.0) ** round(2 * total)
        dtype = jnp.finfo(dtype).dtype
    else:
        factors, constant = [np.exp(2j * np.pi * e) for e in exponents], complex(np.exp(-2j * np.pi * total))
    u = jnp.ones((1,) * len(shape), dtype)
    for axis, factor in enumerate(factors):
        along = [1] * len(shape)
        along[axis] = -1
        u = u * jnp.asarray(factor, dtype).reshape(along)
    return u, constant


def centred_fft(x, rank=2):
    r"""Orthonormal Fourier transform of the last axes, both origins at index floor(N / 2), for odd and even N.

    .. math:: y_k = \frac{1}{\sqrt{\prod N}} \sum_n x_n \, e^{-2 \pi i \langle k - c, (n - c) / N \rangle}, \quad c = \lfloor N / 2 \rfloor

    Args:
      x: complex `[..., *N]`.
      rank: the number of transformed axes, 1 to 3.

    Returns:
      Complex, of the shape of x.
    """
    u, constant = _broadcast_phase(x, rank)
    return constant * u * jnp.fft.fftn(u * x, axes=tuple(range(-rank, 0)), norm="ortho")


def centred_ifft(y, rank=2):
    """The inverse of `centred_fft`, which is its adjoint: complex `[..., *N]` to the same."""
    u, constant = _broadcast_phase(y, rank)
    return constant.conjugate() * jnp.conj(u) * jnp.fft.ifftn(jnp.conj(u) * y, axes=tuple(range(-rank, 0)), norm="ortho")


def _broadcast_phase(x, rank):
    """`centred_phase` of the last axes, with axes of length one before them."""
    u, constant = centred_phase(x.shape[-rank:], x.dtype)
    return u.reshape((1,) * (x.ndim - rank) + u.shape), constant
