"""The law of Beer and Lambert."""

import jax.numpy as jnp


def transmitted(z, open_beam=1.0, mu=1.0):
    r"""Intensity behind an object, :math:`I = I_0 e^{-\mu z}`, for one energy and no scatter.

    Args:
      z: line integrals, any shape: lengths of water [mm] with mu that of water, or attenuation without unit with mu = 1.
      open_beam: I_0, intensity or number of photons without object, scalar or of the shape of z.
      mu: attenuation of the unit of the image [1/mm].

    Returns:
      I, of the shape of z, in the unit of I_0.
    """
    return open_beam * jnp.exp(-mu * z)


def line_integral(intensity, open_beam=1.0, mu=1.0, least=1e-9):
    r"""Line integrals from intensities, :math:`z = -\log(I / I_0) / \mu`, the inverse of `transmitted`.

    Args:
      intensity: I, any shape.
      open_beam: I_0, scalar or of the shape of I.
      mu: attenuation of the unit of the image [1/mm].
      least: the smallest I / I_0 that is believed; starved and dead bins, whose I or I_0 is 0, negative or NaN, get -log(least) / mu, neither
        infinity nor NaN. `interpolate_trace` fills in what dead bins should have seen.

    Returns:
      z, of the shape of I.
    """
    alive = (open_beam > 0) & (intensity > 0)  # false for NaN
    ratio = jnp.where(alive, intensity, 0) / jnp.where(alive, open_beam, 1)
    return -jnp.log(jnp.maximum(ratio, least)) / mu
