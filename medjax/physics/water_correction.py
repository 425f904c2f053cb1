"""Water correction of beam hardening."""

import jax.numpy as jnp
import numpy as np

from medjax.physics.attenuation import attenuation
from medjax.physics.polychromatic import polychromatic


def water_correction(spectrum, longest=500.0, degree=6):
    r"""The polynomial that turns polychromatic attenuation of water into its length.

    .. math::
        L(y) = \sum_{k=1}^{K} c_k y^k, \quad c = \arg\min \sum_i (L(y(L_i)) - L_i)^2

    over lengths L_i from 0 to `longest`, y(L) that of `polychromatic`. Below 0 and beyond the longest it goes on as a straight line. It is exact for
    water; bone and metal keep their part of the hardening.

    Args:
      spectrum: a `Spectrum`.
      longest: longest path through water to fit [mm].
      degree: K >= 1 (static).

    Returns:
      `correct(y) -> L`: attenuation without unit to lengths of water [mm], any shape, the sinogram that projectors of mu / mu_water give.

    Raises:
      ValueError: for a longest path or a degree that is not positive.

    Reference:
      Herman (1979), Correction for beam hardening in computed tomography, Physics in Medicine and Biology 24, 81-106.
    """
    if longest <= 0 or degree < 1:
        raise ValueError(f"water_correction needs longest > 0 and degree >= 1, got {longest} and {degree}")
    nodes = jnp.asarray(longest * (1 - np.cos(np.pi * (np.arange(200) + 0.5) / 200)) / 2)
    y = polychromatic(nodes[None], attenuation("water", spectrum.energies)[None], spectrum.weights)
    top = jnp.max(y)
    powers = jnp.arange(1, degree + 1)
    scaled = jnp.linalg.lstsq((y / top)[:, None] ** powers[None], nodes)[0]

    def polynomial(u):
        total = jnp.zeros_like(u)
        for c in scaled[::-1]:
            total = (total + c.astype(u.dtype)) * u
        return total

    slope_end = jnp.sum(powers * scaled)

    def correct(y):
        u = y / top.astype(y.dtype)
        inside = jnp.clip(u, 0, 1)
        slope = jnp.where(u > 1, slope_end, scaled[0]).astype(y.dtype)
        return polynomial(inside) + (u - inside) * slope

    return correct
