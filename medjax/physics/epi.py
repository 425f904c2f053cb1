"""Echo-planar sampling of the Cartesian grid."""

import jax.numpy as jnp

from medjax.physics.echo_planar import echo_planar


def epi(shape, echo_spacing, acceleration=1, num_shots=1, partial_fourier=1.0, echo_time=0.0, shift_echoes=True):
    r"""Mask of an EPI scan without ramps, and when each of its points is read: what a Cartesian off-resonance model needs.

    The phase that an offset of f [Hz] adds to a sample is :math:`-2 \pi f t`, the sign of `off_resonance`. Along the columns t grows by
    :math:`t_{esp} / (R N_s)` a line, so fat
    and field are displaced by :math:`f \, t_{esp} \, w / (R N_s)` pixels; even and odd echoes are read in opposite directions.

    Args:
      shape: (h, w).
      echo_spacing: time of one line [s]; may be traced and differentiated.
      acceleration: R, every R-th column, integer.
      num_shots: N_s, interleaves.
      partial_fourier: fraction of the columns in (1/2, 1], the first ones are left out.
      echo_time: when k = 0 is read [s]; may be traced and differentiated.
      shift_echoes: see `echo_planar`.

    Returns:
      mask `[h, w]` float of zeros and ones, and times `[h, w]` [s], 0 where nothing is sampled; k = 0 at index (h // 2, w // 2).

    Raises:
      ValueError: see `echo_planar`.
    """
    trajectory, times = echo_planar(shape, echo_spacing, acceleration, num_shots, partial_fourier, echo_time=echo_time, shift_echoes=shift_echoes)
    rows, columns = (jnp.round(trajectory[..., axis]).astype(int) + n // 2 for axis, n in enumerate(shape))
    mask = jnp.zeros(shape).at[rows, columns].set(1)
    return mask, jnp.zeros(shape, times.dtype).at[rows, columns].set(times)
