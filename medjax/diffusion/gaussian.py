"""The exact denoiser of a Gaussian prior, the reference of every sampler."""

import jax.numpy as jnp

from medjax import checks
from medjax.typing import Denoiser


def gaussian(mean, covariance) -> Denoiser:
    r"""Denoiser of x0 ~ N(m, C) for images of any shape with n pixels.

    .. math::
        D(x, \sigma) = m + C (C + \sigma^2 I)^{-1} (x - m)

    Args:
      mean: `[...]` m, of the shape of the image.
      covariance: `[n, n]` C, symmetric positive semi-definite, over the flattened image.

    Returns:
      A `Denoiser`.

    Raises:
      ValueError: where the covariance does not fit the mean, or has negative eigenvalues.

    Reference:
      The conditional mean of a joint Gaussian; Bishop (2006), eq. 2.81.
    """
    mean, covariance = jnp.asarray(mean), jnp.asarray(covariance)
    if covariance.shape != (mean.size, mean.size):
        raise ValueError(f"a mean of {mean.size} pixels needs a covariance [{mean.size}, {mean.size}], got {list(covariance.shape)}")
    eigenvalues, basis = jnp.linalg.eigh(covariance)
    if checks.is_concrete(eigenvalues) and eigenvalues[0] < -1e-3 * abs(eigenvalues[-1]):  # below what rounding makes of 0
        raise ValueError(f"the covariance has the eigenvalue {eigenvalues[0]:.4g}, at least 0 is needed")

    def denoise(x, sigma):
        gain = eigenvalues / (eigenvalues + sigma**2)
        return mean + (basis @ (gain * (basis.T @ (x - mean).ravel()))).reshape(x.shape)

    return denoise
