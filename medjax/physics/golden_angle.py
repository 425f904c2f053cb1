"""Radial trajectory whose spokes are spread evenly whenever it is stopped."""

import math

import jax.numpy as jnp

from medjax.physics.radial_spokes import radial_spokes


def golden_angle(num_spokes, num_samples, size, tiny=1, first_spoke=0, first_angle=0.0):
    r"""Full spokes a golden angle apart, or a tiny golden angle, which spares eddy currents.

    .. math::
        \theta_i = \theta_0 + i \, \psi_N, \quad \psi_N = \frac{\pi}{\tau + N - 1}, \quad \tau = \frac{1 + \sqrt 5}{2}

    :math:`\psi_1` = 111.246 degrees, :math:`\psi_7` = 23.628 degrees. Any run of spokes, from any `first_spoke`, is near to even.

    Args:
      num_spokes: number of spokes.
      num_samples: of each spoke.
      size: n, matrix size of the image.
      tiny: N >= 1; 1 is the golden angle.
      first_spoke: i of the first spoke, for a frame of a series; integer, may be traced.
      first_angle: theta_0 [rad]; may be traced and differentiated.

    Returns:
      `[num_spokes, num_samples, 2]`, (k_y, k_x) in cycles per field of view, see `radial_spokes`.

    Raises:
      ValueError: when N < 1, or there is no spoke or sample.

    Reference:
      Winkelmann et al. (2007), https://doi.org/10.1109/TMI.2006.885337, and Wundrak et al. (2015), https://doi.org/10.1109/TMI.2014.2382572, for the
      tiny angles.
    """
    if tiny < 1:
        raise ValueError(f"golden_angle needs tiny >= 1, got {tiny}")
    # in turns of pi, so that late spokes of a long series keep their digits
    turns = (jnp.arange(num_spokes) + first_spoke) / ((1 + math.sqrt(5)) / 2 + tiny - 1) % 2
    return radial_spokes(first_angle + math.pi * turns, num_samples, size)
