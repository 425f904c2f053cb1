"""The normal operator of a non-Cartesian Fourier transform, without gridding."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from medjax.operators.nufft import Nufft
from medjax.typing import Leaf


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Toeplitz:
    """T = crop, inverse FFT, leaf `spectrum` `[2 n, ...]` (real, FFT order), FFT, zero padding."""

    spectrum: Leaf

    def __call__(self, x):
        """T x: complex `[..., *n]` to the same; leading axes are coils."""
        rank, size = self.spectrum.ndim, tuple(n // 2 for n in self.spectrum.shape)
        if x.shape[-rank:] != size:
            raise ValueError(f"toeplitz of an image {size} got an array {x.shape}")
        axes = tuple(range(x.ndim - rank, x.ndim))
        padded = jnp.fft.fftn(x, self.spectrum.shape, axes)
        spectrum = self.spectrum.astype(x.real.dtype).reshape((1,) * (x.ndim - rank) + self.spectrum.shape)
        out = jnp.fft.ifftn(spectrum * padded, axes=axes)
        return out[(..., *(slice(n) for n in size))]

    def adjoint(self, x):
        """T is self-adjoint, as weights are real."""
        return self(x)


def toeplitz(A: Nufft, weights=None):
    r"""A^H W A of a non-Cartesian Fourier transform as one convolution: two FFTs of twice the size, no interpolation.

    .. math::
        (A^H W A x)_n = \sum_m t_{n - m} \, x_m, \qquad t_n = \frac{1}{\prod N} \sum_s w_s \, e^{2 \pi i \langle k_s, n / N \rangle}

    a Toeplitz matrix in every axis, embedded in a circulant one of twice the size. t is computed once, by the adjoint NUFFT of the weights
    on the doubled field of view, so T equals A^H W A to the NUFFT's error; it is differentiable in trajectory and weights. Made for CG.

    Args:
      A: from `nufft`.
      weights: real `[*samples]`, one per sample (a density compensation, inverse noise variances); ones if None.

    Returns:
      A self-adjoint operator on complex `[..., *image_size]`; leaf `spectrum`.

    Raises:
      ValueError: when there is not one weight a sample.

    Reference:
      Fessler, Lee, Olafsson, Shi & Noll (2005), https://doi.org/10.1109/TSP.2005.853152
    """
    samples, dtype = A.trajectory.shape[:-1], A.trajectory.dtype
    weights = jnp.ones(samples, dtype) if weights is None else jnp.asarray(weights)
    if weights.shape != samples or jnp.iscomplexobj(weights):
        raise ValueError(f"toeplitz needs real weights {samples}, got {weights.shape} {weights.dtype}")
    doubled = tuple(2 * n for n in A.image_size)
    grid = tuple(2 * g for g in A.grid_size)
    wide = Nufft(2 * A.trajectory, doubled, grid, A.width, A.backend)
    response = wide.adjoint(weights + 0j * weights) * (math.sqrt(math.prod(doubled)) / math.prod(A.image_size))
    # the real part of the spectrum is that of the Hermitian part of t, which is t itself but for index -N, which no pixel pair has
    return Toeplitz(jnp.real(jnp.fft.fftn(jnp.fft.ifftshift(response))))
