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
      tiny: N >= 1, an integer; 1 is the golden angle.
      first_spoke: i of the first spoke, for a frame of a series; integer, may be traced.
      first_angle: theta_0 [rad]; may be traced and differentiated.

    Returns:
      `[num_spokes, num_samples, 2]`, (k_y, k_x) in cycles per field of view, see `radial_spokes`.

    Raises:
      ValueError: when N < 1, N, `first_spoke` or a count is not an integer, there is no spoke or sample, or a known angle is not finite.

    Reference:
      Winkelmann et al. (2007), https://doi.org/10.1109/TMI.2006.885337, and Wundrak et al. (2015), https://doi.org/10.1109/TMI.2014.2382572, for the
      tiny angles.
    """
    if not tiny >= 1 or tiny % 1:
        raise ValueError(f"golden_angle needs an integer tiny >= 1, got {tiny}")
    if num_spokes % 1:
        raise ValueError(f"golden_angle needs a whole number of spokes, got {num_spokes}")
    if not jnp.issubdtype(jnp.result_type(first_spoke), jnp.integer):
        raise ValueError(f"golden_angle needs an integer first_spoke, got {first_spoke}")
    return radial_spokes(first_angle + 2 * math.pi * _turns(jnp.arange(num_spokes) + first_spoke, tiny), num_samples, size)


def _turns(index, tiny):
    """index psi / 2 pi modulo 1, in integers that wrap: late spokes of a long series keep their digits in single precision, too."""
    whole = math.isqrt(5 << 128) + int(float(2 * tiny - 1) * 2**64)  # 2 pi / psi = sqrt(5) + 2 N - 1, in units of 2^-64
    high, low = divmod((1 << 128) // whole, 1 << 32)
    fraction = (index.astype(jnp.uint32) * jnp.uint32(high)).astype(float) * 2.0**-32
    return (fraction + index.astype(float) * (low * 2.0**-64)) % 1
