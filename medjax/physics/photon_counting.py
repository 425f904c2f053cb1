"""Photon counts of a transmission scan, after the logarithm."""

import jax.numpy as jnp

from medjax.physics.transmission_counts import FEWEST_COUNTS, check_scan, only_alive, transmission_counts
from medjax.typing import Noise


def photon_counting(num_photons, sigma_electronic=0.0, mu=1.0, dose_fraction=1.0, support=None) -> Noise:
    r"""Photon counts behind the object, with electronic noise, after the logarithm; `transmission_counts` is the same scan before it.

    .. math::
        N \sim \mathrm{Poisson}(a I_0 e^{-\mu z}) + \mathcal{N}(0, \sigma_e^2), \quad y = -\log(\max(N, 1/2) / (a I_0)) / \mu

    The logarithm is biased: E[mu y] - mu z = 1 / (2 N) + O(N^{-2}), so below about 50 counts use the likelihood, not y as Gaussian data; and where
    rays may get no photon use `transmission_counts`, for here 1/2 stands in the place of the counts. The likelihood is that of the shifted Poisson
    model: N + sigma_e^2 is taken for Poisson of mean and variance a I_0 e^{-mu z} + sigma_e^2, with N = a I_0 e^{-mu y}.

    Args:
      num_photons: I_0, photons a ray without object at full dose; scalar or of the shape of z.
      sigma_electronic: sigma_e, standard deviation of the electronic noise [photons].
      mu: attenuation of the unit of the image [1/mm]: that of water for images of mu / mu_water, whose line integrals z are lengths of
        water [mm]; 1 where z is already the attenuation without unit.
      dose_fraction: a, part of the full dose in (0, 1].
      support: 0 at dead detector bins, 1 elsewhere, broadcasts against z; None for all. Dead bins read 0, have sigma infinite (weight 0) and
        no part in the likelihood, whatever their data hold. `interpolate_trace` fills them for methods that need a value everywhere.

    Raises:
      ValueError: where a value is known and out of range.

    Returns:
      A `Noise` over line integrals z, of any shape. `sigma(y) = sqrt(N + sigma_e^2) / (mu N)` with N at least 1/2.
    """
    check_scan("photon_counting", num_photons=num_photons, sigma_electronic=sigma_electronic, mu=mu, dose_fraction=dose_fraction)
    counts = transmission_counts(num_photons, sigma_electronic, mu, 0.0, dose_fraction, support)
    open_beam = num_photons * dose_fraction

    def sample(key, z):
        y = -jnp.log(jnp.maximum(counts.sample(key, z), FEWEST_COUNTS) / open_beam) / mu
        return only_alive(support, y, 0)

    def sigma(y):
        expected = jnp.maximum(open_beam * jnp.exp(-mu * y), FEWEST_COUNTS)
        return only_alive(support, jnp.sqrt(expected + sigma_electronic**2) / (mu * expected), jnp.inf)

    def log_likelihood(y, z):
        return counts.log_likelihood(open_beam * jnp.exp(-mu * y), z)

    return Noise(sample, sigma, log_likelihood)
