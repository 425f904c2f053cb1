"""Radial trajectory of equally spaced angles."""

import math

import jax.numpy as jnp

from medjax.physics.radial_spokes import radial_spokes


def radial(num_spokes, num_samples, size, first_angle=0.0, arc=math.pi):
    r"""Full spokes at :math:`\theta_i = \theta_0 + i \, \text{arc} / \text{num\_spokes}`.

    Each spoke runs through the whole diameter, so an arc of pi covers k-space; 2 pi for an odd number of spokes gives the same lines in another
    order and direction. The edge of k-space is sampled densely enough from num_spokes >= (pi / 2) n.

    Args:
      num_spokes: number of spokes.
      num_samples: of each spoke.
      size: n, matrix size of the image.
      first_angle: theta_0 [rad]; may be traced and differentiated.
      arc: [rad]; may be traced and differentiated.

    Returns:
      `[num_spokes, num_samples, 2]`, (k_y, k_x) in cycles per field of view, see `radial_spokes`.

    Raises:
      ValueError: when there is no spoke or sample, a count is no integer, or a known angle is not finite.
    """
    if num_spokes % 1:
        raise ValueError(f"radial needs a whole number of spokes, got {num_spokes}")
    return radial_spokes(first_angle + arc / max(num_spokes, 1) * jnp.arange(num_spokes), num_samples, size)
