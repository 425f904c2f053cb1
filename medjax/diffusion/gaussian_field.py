"""The exact denoiser of a stationary Gaussian field, by FFT: the reference of samplers at sizes where no matrix fits."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from medjax import checks
from medjax.typing import Denoiser


def gaussian_field(mean, spectrum) -> Denoiser:
    r"""Denoiser of x0 ~ N(m, C) on a periodic grid, where C = F^H S F is diagonal in the orthonormal Fourier basis F.

    .. math::
        D(x, \sigma) = m + F^H \frac{S}{S + \sigma^2} F (x - m)

    Args:
      mean: `[h, w]` m, a grid of any number of axes; further axes at the end (channels) are independent of each other.
      spectrum: `[h, w]` S >= 0, eigenvalues of C in the order of `fftn`; their mean is the variance of a pixel. C is real, so S(-k) = S(k).

    Returns:
      A `Denoiser`.

    Raises:
      ValueError: where the spectrum does not fit the mean, is negative or not symmetric.

    Reference:
      Rue & Held (2005), Gaussian Markov random fields, section 2.6 (circulant covariances); the conditional mean is that of `gaussian`.
    """
    _check(mean, spectrum)

    def denoise(x, sigma):
        total = spectrum + jnp.asarray(sigma, x.dtype) ** 2
        gain = jnp.where(total > 0, spectrum / jnp.where(total > 0, total, 1), 0)
        return (mean + _filter(gain, x - mean)).astype(x.dtype)

    return denoise


def draw_gaussian_field(key, mean, spectrum):
    r"""One draw m + F^H S^{1/2} F n of the field of `gaussian_field`, with white n.

    Args:
      key: typed key.
      mean: `[h, w]` m, as there.
      spectrum: `[h, w]` S, as there.

    Returns:
      `[h, w]`, of the shape and dtype of the mean.

    Raises:
      ValueError: as there.

    Reference:
      Rue & Held (2005), section 2.6.
    """
    _check(mean, spectrum)
    return mean + _filter(jnp.sqrt(spectrum), jax.random.normal(key, mean.shape, mean.dtype)).astype(mean.dtype)


def matern_spectrum(shape, length, smoothness=1.0, variance=1.0):
    r"""Spectrum of a Matern covariance, whose draws look smooth below the correlation length and independent beyond it.

    .. math::
        S(f) \propto \Bigl(\frac{2 \nu}{\ell^2} + 4 \pi^2 |f|^2\Bigr)^{-(\nu + d / 2)}, \quad \frac1n \sum_f S(f) = v

    A large smoothness gives the squared exponential exp(-r^2 / (2 l^2)), whose spectrum is 0 in single precision at high frequencies.

    Args:
      shape: grid `(h, w)`, d axes.
      length: correlation length l [pixels].
      smoothness: nu.
      variance: v of a pixel.

    Returns:
      `[h, w]`, for `gaussian_field`.

    Raises:
      ValueError: for a number that is not positive.

    Reference:
      Rasmussen & Williams (2006), Gaussian processes, eq. 4.15; cut at the highest frequency of the grid and scaled to the variance.
    """
    for name, value in (("length", length), ("smoothness", smoothness), ("variance", variance)):
        checks.positive(value, f"{name} of matern_spectrum")
    squares = sum(np.square(f) for f in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij", sparse=True))
    ratio = 1 + (2 * math.pi * length) ** 2 * jnp.asarray(squares, float) / (2 * smoothness)
    shape_of = ratio ** -(smoothness + len(shape) / 2)
    return variance * shape_of / jnp.mean(shape_of)


def _filter(gain, x):
    """F^H gain F x over the axes of gain."""
    axes = tuple(range(gain.ndim))
    half = jnp.expand_dims(gain[..., : gain.shape[-1] // 2 + 1], tuple(range(gain.ndim, x.ndim)))
    return jnp.fft.irfftn(half * jnp.fft.rfftn(x, axes=axes), s=gain.shape, axes=axes)


def _check(mean, spectrum):
    if mean.shape[: spectrum.ndim] != spectrum.shape:
        raise ValueError(f"the spectrum is {list(spectrum.shape)}, the mean {list(mean.shape)} needs its first axes")
    checks.nonnegative(spectrum, "spectrum")
    if checks.is_concrete(spectrum):
        values = np.asarray(spectrum)
        mirrored = np.roll(np.flip(values), 1, tuple(range(values.ndim)))
        gap = np.abs(values - mirrored).max() / max(values.max(), np.finfo(float).tiny)
        if gap > 1e-5:
            raise ValueError(f"the spectrum differs from its mirror image S(-k) by {gap:.2g} of its maximum, a symmetric one is needed")
