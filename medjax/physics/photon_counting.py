"""Photon counts of a transmission scan, after the logarithm."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax.typing import Noise

_FEWEST_COUNTS = 0.5  # a ray with no photon gets the attenuation that half a photon would have


def photon_counting(num_photons, sigma_electronic=0.0, mu=1.0, dose_fraction=1.0, support=None) -> Noise:
    r"""Photon counts behind the object, with electronic noise, after the logarithm; `transmission_counts` is the same scan before it.

    .. math::
        N \sim \mathrm{Poisson}(I_0 e^{-\mu z}) + \mathcal{N}(0, \sigma_e^2), \quad y = -\log(\max(N, 1/2) / I_0) / \mu

    The logarithm is biased: E[mu y] - mu z = 1 / (2 N) + O(N^{-2}), so below about 50 counts use the likelihood, not y as Gaussian data; and where
    rays may get no photon, use `transmission_counts`: here the 1/2 stands for the lost counts. The likelihood is the shifted Poisson model: N + sigma_e^2 is taken for Poisson of mean and variance I_0 e^{-mu z} + sigma_e^2, with N = I_0 e^{-mu y}.

    Args:
      num_photons: I_0, photons a ray without object; scalar or of the shape of z.
      sigma_electronic: sigma_e, standard deviation of the electronic noise [photons].
      mu: attenuation of the unit of the image [1/mm]: that of water for images of mu / mu_water, whose line integrals z are lengths of
        water [mm]; 1 where z is already the attenuation without unit.
      dose_fraction: a, part of the full dose in (0, 1]; it multiplies I_0.
      support: 0 at dead detector bins, 1 elsewhere, broadcasts against z; None for all. Dead bins read 0, have sigma infinite (weight 0) and no part in
        the likelihood, whatever their data hold. `interpolate_trace` fills them for methods that need a value everywhere.

    Raises:
      ValueError: where a value is known and out of range.

    Returns:
      A `Noise` over line integrals z, of any shape. `sigma(y) = sqrt(N + sigma_e^2) / (mu N)`.
    """

    ranges = (("num_photons", num_photons, 1e-3, 2.0**31), ("sigma_electronic", sigma_electronic, 0, np.inf), ("mu", mu, 1e-9, np.inf))
    ranges = (*ranges, ("dose_fraction", dose_fraction, 1e-9, 1 + 1e-9))
    for name, value, least, most in ranges:
        if not isinstance(value, Tracer) and not np.all((np.asarray(value) >= least) & (np.asarray(value) < most)):
            raise ValueError(f"photon_counting needs {name} in [{least:g}, {most:g}), got {value}")
    num_photons = num_photons * dose_fraction

    def alive(a, dead):
        return a if support is None else jnp.where(jnp.broadcast_to(jnp.asarray(support) > 0, a.shape), a, dead)

    def sample(key, z):
        key_counts, key_electronic = jax.random.split(key)
        counts = jax.random.poisson(key_counts, num_photons * jnp.exp(-mu * z)).astype(z.dtype)
        counts = counts + sigma_electronic * jax.random.normal(key_electronic, z.shape, z.dtype)
        return alive(-jnp.log(jnp.maximum(counts, _FEWEST_COUNTS) / num_photons) / mu, 0)

    def sigma(y):
        counts = num_photons * jnp.exp(-mu * y)
        return alive(jnp.sqrt(counts + sigma_electronic**2) / (mu * counts), jnp.inf)

    def log_likelihood(y, z):
        shifted = num_photons * jnp.exp(-mu * alive(y, 0)) + sigma_electronic**2
        mean = num_photons * jnp.exp(-mu * z) + sigma_electronic**2
        return jnp.sum(alive(shifted * jnp.log(mean) - mean, 0))

    return Noise(sample, sigma, log_likelihood)
