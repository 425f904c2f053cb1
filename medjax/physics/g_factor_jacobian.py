"""Noise amplification of any reconstruction."""

import jax.numpy as jnp
from jax.core import Tracer

from medjax.physics.noise_map import noise_map


def g_factor_jacobian(key, reconstruct, y, full_noise, acceleration, num_probes=100, blocks=None, covariance=None):
    r"""g-factor of any differentiable reconstruction, any mask or trajectory and any regularisation, by its Jacobian J at y.

    .. math::
        g = \frac{\sigma(J)}{\sigma_{\mathrm{full}} \sqrt R}, \qquad \sigma(J)_i = \sqrt{[J \Psi J^H]_{ii}}

    Where the reconstruction is linear this is what pseudo-replicas converge to; else it is the g-factor for small noise at this very scan. A
    regularised reconstruction may have g < 1: noise went, and resolution with it.

    Args:
      key: typed key.
      reconstruct: `y -> image [h, w]`; it must multiply by its own mask, see `noise_map`.
      y: `[c, ...]` complex accelerated data.
      full_noise: `[h, w]` standard deviation of the fully sampled reconstruction under the same noise: `noise_map` of it, or for the matched filter
        of whitened maps (and an orthonormal Fourier transform) 1 / sqrt(sum |s_c|^2).
      acceleration: R > 0, number of samples of the full scan over that of y.
      num_probes: of `noise_map`, with its accuracy.
      blocks: of `noise_map`; (1, R) for every R-th column.
      covariance: `[c, c]`; None for whitened channels.

    Returns:
      `[h, w]` real, 0 where the full scan has no noise.

    Raises:
      ValueError: when R is known to be not positive; see also `noise_map`.

    Reference:
      Pruessmann et al. (1999) for g; Robson et al. (2008), https://doi.org/10.1002/mrm.21728, for any reconstruction.
    """
    if not isinstance(acceleration, Tracer) and not acceleration > 0:
        raise ValueError(f"g_factor_jacobian needs an acceleration > 0, got {acceleration}")
    sigma = noise_map(key, reconstruct, y, num_probes, blocks, covariance)
    seen = full_noise > 0
    return jnp.where(seen, sigma / (jnp.where(seen, full_noise, 1) * jnp.sqrt(acceleration)), 0)
