"""Local contrast and signal-to-noise ratio."""

import jax.numpy as jnp


def local_contrast(target, background):
    r"""Relative difference of a target's intensity to its background's, :math:`C = (I_t - I_b) / I_b`.

    Args:
      target: I_t, any shape.
      background: I_b, not 0, of the shape of I_t or a scalar.

    Returns:
      C without unit; negative for a target darker than its background.
    """
    return (target - background) / background


def quantum_snr(contrast, num_photons):
    r"""Signal-to-noise ratio of a target among photons that are counted, :math:`\mathrm{SNR} = C \sqrt{N_b}`.

    Counts are Poisson, so the background of N_b photons deviates by sqrt(N_b), and the target differs from it by C N_b. Four times the dose
    doubles it.

    Args:
      contrast: C, any shape.
      num_photons: N_b >= 0, photons of the background on the area of the target.

    Returns:
      SNR without unit, of the sign of C.
    """
    return contrast * jnp.sqrt(num_photons)


def measured_snr(image, target, background):
    r"""Signal-to-noise ratio in an image, :math:`\mathrm{SNR} = (\bar I_t - \bar I_b) / \sigma_b`.

    Args:
      image: I, any shape.
      target: ones inside the target and zeros elsewhere, of the shape of I.
      background: ones in the background and zeros elsewhere, of the shape of I, at least two pixels that differ.

    Returns:
      A scalar: means over target and background, sigma_b the sample's standard deviation of the background.
    """
    num = jnp.sum(background)
    mean = jnp.sum(image * background) / num
    deviation = jnp.sqrt(jnp.sum(background * (image - mean) ** 2) / (num - 1))
    return (jnp.sum(image * target) / jnp.sum(target) - mean) / deviation
