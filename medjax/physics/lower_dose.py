"""An existing scan as it would have been at a lower dose."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax.physics.transmission_counts import FEWEST_COUNTS


def lower_dose(key, y, num_photons, dose_fraction, sigma_electronic=0.0, mu=1.0):
    r"""Adds to the logarithms of a scan the noise that it lacks against one at a fraction of its dose.

    .. math::
        y' = y + \frac{n}{\mu} \sqrt{\frac{1 - a}{a N} \left(1 + \frac{1 + a}{a} \frac{\sigma_e^2}{N}\right)}, \quad N = \max(I_0 e^{-\mu y}, 1/2)

    with n white and a the fraction: the variance 1 / N + sigma_e^2 / N^2 of the scan grows to 1 / (a N) + sigma_e^2 / (a N)^2. The
    bias of the logarithm, 1 / (2 a N), is not added; where a N falls below about 20 draw counts from a simulated object instead.

    Args:
      key: typed key.
      y: line integrals that were measured, any shape: lengths of water [mm], or attenuation without unit.
      num_photons: I_0 of the scan, photons a ray without object; scalar or of the shape of y.
      dose_fraction: a in (0, 1].
      sigma_electronic: sigma_e [photons] of the detector, the same at both doses.
      mu: attenuation of the unit of the image [1/mm]; 1 where y has no unit.

    Returns:
      y', of the shape of y.

    Raises:
      ValueError: when a known fraction is not in (0, 1].

    Reference:
      Yu, Shiung, Jondal & McCollough (2012), J. Comput. Assist. Tomogr. 36, 477-487.
    """
    if not isinstance(dose_fraction, Tracer) and not np.all((np.asarray(dose_fraction) > 0) & (np.asarray(dose_fraction) <= 1)):
        raise ValueError(f"lower_dose needs a dose_fraction in (0, 1], got {dose_fraction}")
    counts = jnp.maximum(num_photons * jnp.exp(-mu * y), FEWEST_COUNTS)
    electronic = (1 + dose_fraction) / dose_fraction * sigma_electronic**2 / counts
    deviation = jnp.sqrt((1 - dose_fraction) / dose_fraction) * jnp.sqrt((1 + electronic) / counts)
    return y + deviation * jax.random.normal(key, y.shape, y.dtype) / mu
