"""Channels whose noise is white."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular

from medjax import linalg


def whiten(y, covariance):
    r"""Virtual channels of unit, uncorrelated noise; k-space, coil images and coil maps are all whitened alike.

    .. math::
        \tilde y = L^{-1} y, \quad \Psi = L L^H \;\Rightarrow\; L^{-1} \Psi L^{-H} = I

    Least squares on whitened data is then the maximum likelihood estimate.

    Args:
      y: `[c, ...]`, whose precision the result has.
      covariance: Psi `[c, c]`, Hermitian positive definite, of `noise_covariance` say.

    Returns:
      `[c, ...]` whose noise has E[n n^H] = I, that is standard deviation 1 / sqrt(2) in each of real and imaginary part.

    Raises:
      ValueError: when the sizes differ or (if its values are known) the covariance is not finite and positive definite.

    Reference:
      Pruessmann et al. (2001), https://doi.org/10.1002/mrm.1241, where such channels are created from the Cholesky factor of Psi.
    """
    if covariance.shape != (y.shape[0], y.shape[0]):
        raise ValueError(f"whiten needs a covariance [{y.shape[0]}, {y.shape[0]}] for channels {y.shape}, got {covariance.shape}")
    if not isinstance(covariance, Tracer) and not np.all(np.isfinite(covariance)):
        raise ValueError("whiten needs a finite covariance, got one with NaN or infinity")
    if not isinstance(covariance, Tracer) and np.linalg.eigvalsh(np.asarray(covariance)).min() <= 0:
        raise ValueError("whiten needs a positive definite covariance: a channel is dead or a combination of others")
    y, factor = linalg.inexact(y), jnp.linalg.cholesky(covariance)
    real = jnp.finfo(y.dtype).dtype
    factor = factor.astype(jnp.result_type(real, jnp.complex64) if jnp.iscomplexobj(factor) else real)
    return solve_triangular(factor, y.reshape(y.shape[0], -1), lower=True).reshape(y.shape)
