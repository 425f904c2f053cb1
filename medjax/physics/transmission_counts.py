"""Photon counts of a transmission scan, before the logarithm."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax.typing import Noise

FEWEST_COUNTS = 0.5
"""A ray with no photon gets the attenuation, and the noise, that half a photon would have."""


def transmission_counts(num_photons, sigma_electronic=0.0, mu=1.0, background=0.0, dose_fraction=1.0, support=None) -> Noise:
    r"""Photon counts behind the object, with scatter and electronic noise, before the logarithm; `photon_counting` is the same scan after it.

    .. math::
        y \sim \mathrm{Poisson}(\bar N) + \mathcal{N}(0, \sigma_e^2), \quad \bar N = a I_0 e^{-\mu z} + s

    The likelihood is that of Poisson for sigma_e = 0, and of the shifted Poisson model otherwise: y + sigma_e^2 (0 where negative) is taken for
    Poisson of mean and variance N + sigma_e^2 (biased by the cut where N falls to about sigma_e),

    .. math::
        \log p(y \mid z) = (y + \sigma_e^2)_+ \log(\bar N + \sigma_e^2) - \bar N - \sigma_e^2

    Its score mu (y - N) has mean 0 at every count, while log data are biased at low counts: with y = N + n and E[n^2] = N,
    E[-log(y / I_0)] - mu z = -E[n / N - n^2 / (2 N^2) + ...] = 1 / (2 N) + O(N^{-2}), and a ray without photon has no logarithm at all. Many short
    scans of one ray average to z by this likelihood, and to z + 1 / (2 N mu) by their logarithms.

    Args:
      num_photons: I_0, photons a ray without object at full dose; scalar or of the shape of z.
      sigma_electronic: sigma_e, standard deviation of the electronic noise [photons].
      mu: attenuation of the unit of the image [1/mm]: that of water for images of mu / mu_water; 1 where z has no unit.
      background: s >= 0, scattered photons a ray, from `scatter` say; scalar or of the shape of z.
      dose_fraction: a, part of the full dose in (0, 1]; it multiplies I_0 (give s at the dose of the scan).
      support: 0 at dead detector bins, 1 elsewhere, broadcasts against z; None for all. Dead bins read 0, have sigma infinite (weight 0) and
        no part in the likelihood, whatever their data hold, NaN included.

    Returns:
      A `Noise` over line integrals z, of any shape, whose data are counts. `sigma(y) = sqrt(max(y, 1/2) + sigma_e^2)` [photons].

    Raises:
      ValueError: where a value is known and out of range.

    Reference:
      Yavuz & Fessler (1998), Medical Image Analysis 2, 369-378, for the shifted Poisson model.
    """
    scan = {"num_photons": num_photons, "sigma_electronic": sigma_electronic, "mu": mu, "background": background, "dose_fraction": dose_fraction}
    check_scan("transmission_counts", **scan)
    open_beam = num_photons * dose_fraction

    def sample(key, z):
        key_counts, key_electronic = jax.random.split(key)
        counts = jax.random.poisson(key_counts, open_beam * jnp.exp(-mu * z) + background).astype(z.dtype)
        return only_alive(support, counts + sigma_electronic * jax.random.normal(key_electronic, z.shape, z.dtype), 0)

    def sigma(y):
        return only_alive(support, jnp.sqrt(jnp.maximum(y, FEWEST_COUNTS) + sigma_electronic**2), jnp.inf)

    def log_likelihood(y, z):
        # log(N + sigma_e^2) from the logarithms of its terms: no underflow behind thick objects
        added = jnp.broadcast_to(jnp.asarray(background + sigma_electronic**2, z.dtype), z.shape)
        log_primary = jnp.log(jnp.asarray(open_beam, z.dtype)) - mu * z
        log_mean = jnp.where(added > 0, jnp.logaddexp(log_primary, jnp.log(jnp.where(added > 0, added, 1))), log_primary)
        shifted = jnp.maximum(only_alive(support, y, 0) + sigma_electronic**2, 0)
        return jnp.sum(only_alive(support, shifted * log_mean - jnp.exp(log_primary) - added, 0))

    return Noise(sample, sigma, log_likelihood)


def only_alive(support, a, dead):
    """a where the support is positive, `dead` elsewhere."""
    return a if support is None else jnp.where(jnp.broadcast_to(jnp.asarray(support) > 0, a.shape), a, dead)


_RANGES = {
    "num_photons": (1e-3, 2.0**31),
    "sigma_electronic": (0, np.inf),
    "mu": (1e-9, np.inf),
    "background": (0, 2.0**31),
    "dose_fraction": (1e-9, 1 + 1e-9),
}


def check_scan(name, **values):
    """ValueError where a value is known and out of the range of a scan."""
    for argument, value in values.items():
        least, most = _RANGES[argument]
        if not isinstance(value, Tracer) and not np.all((np.asarray(value) >= least) & (np.asarray(value) < most)):
            raise ValueError(f"{name} needs {argument} in [{least:g}, {most:g}), got {value}")
