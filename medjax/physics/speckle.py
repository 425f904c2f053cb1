"""Random scatterers below the resolution of an ultrasound image."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def speckle(key, echogenicity, density=None):
    r"""Scatterers of random phase, whose mean power is the echogenicity.

    .. math::
        x_p = \sqrt{e_p} \, n_p, \; n_p \sim \mathcal{CN}(0, 1) \quad \text{or} \quad
        x_p = \sqrt{e_p / q} \, b_p \, e^{i \phi_p}, \; b_p \sim \mathrm{Bernoulli}(q)

    Any linear image of the first kind is complex Gaussian, so its envelope is Rayleigh distributed: fully developed speckle, with mean over
    standard deviation :math:`\sqrt{\pi / (4 - \pi)} = 1.913`. The second has q scatterers a pixel: more than about ten in a resolution
    cell look the same, fewer have a lower ratio. A scatterer stands anywhere in its pixel, which turns its phase.

    Args:
      key: typed key.
      echogenicity: `[h, w]` e >= 0, mean power backscattered by a pixel.
      density: q in (0, 1], scatterers a pixel; None for the limit of many.

    Returns:
      `[h, w]` complex, for `ultrasound`.

    Raises:
      ValueError: where the density is known and outside (0, 1].

    Reference:
      Wagner et al. (1983), Statistics of speckle in ultrasound B-scans, https://doi.org/10.1109/T-SU.1983.31404
    """
    if density is not None and not isinstance(density, Tracer) and not 0 < np.asarray(density) <= 1:
        raise ValueError(f"speckle needs a density in (0, 1], got {density}")
    amplitude = jnp.sqrt(jnp.where(echogenicity > 0, echogenicity, 1)) * (echogenicity > 0)
    if density is None:
        real, imaginary = jax.random.normal(key, (2, *echogenicity.shape), echogenicity.dtype)
        return amplitude * jax.lax.complex(real, imaginary) / np.sqrt(2).astype(echogenicity.dtype)
    key_place, key_phase = jax.random.split(key)
    present = jax.random.bernoulli(key_place, density, echogenicity.shape) / jnp.sqrt(jnp.asarray(density, echogenicity.dtype))
    phase = 2 * jnp.pi * jax.random.uniform(key_phase, echogenicity.shape, echogenicity.dtype)
    return amplitude * present * jax.lax.complex(jnp.cos(phase), jnp.sin(phase))
