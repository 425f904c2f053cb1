"""A sampled Gaussian, for `blur`."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def gaussian_kernel(sigma, shape):
    r"""Gaussian point spread function, sampled at pixel centres and of sum 1.

    .. math:: k_j \propto \prod_a e^{- (j_a - c_a)^2 / (2 \sigma_a^2)}, \quad c = \lfloor \mathrm{shape} / 2 \rfloor

    Args:
      sigma: standard deviation [pixels], a scalar or one for each axis, > 0; may be traced and differentiated. The full width at
        half maximum is 2.355 sigma.
      shape: of the kernel, odd sizes are symmetric; 8 sigma hold all but 1e-4.

    Returns:
      `shape`.

    Raises:
      ValueError: when sigma is known and not positive, or does not fit the axes, or a size is below 1.
    """
    if len(shape) == 0 or min(shape) < 1 or np.shape(sigma) not in ((), (len(shape),)):
        raise ValueError(f"gaussian_kernel needs sizes >= 1 and one sigma or one an axis, got {tuple(shape)} and sigma of shape {np.shape(sigma)}")
    if not isinstance(sigma, Tracer) and not np.all(np.asarray(sigma) > 0):
        raise ValueError(f"gaussian_kernel needs sigma > 0, got {sigma}")
    kernel = jnp.ones(())
    for axis, size in enumerate(shape):
        width = sigma if np.ndim(sigma) == 0 else jnp.asarray(sigma)[axis]
        line = jnp.exp(-0.5 * ((jnp.arange(size) - size // 2) / width) ** 2)
        kernel = jnp.tensordot(kernel, line / jnp.sum(line), 0)
    return kernel
