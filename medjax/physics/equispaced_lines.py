"""Equally spaced phase-encoding lines."""

import jax.numpy as jnp


def equispaced_lines(shape, acceleration, center_fraction=0.08, offset=0):
    r"""Cartesian mask of every R-th column and a fully sampled block of calibration columns around the centre.

    The column j is sampled when (j - w // 2 - offset) mod R = 0, so the offset 0 hits k = 0.

    Args:
      shape: (h, w).
      acceleration: R, an integer in [1, w]; with the calibration columns the mask is sampled somewhat more than 1 / R.
      center_fraction: fraction of the columns that are sampled around the centre, in [0, 1].
      offset: shift of the comb, integer; may be traced.

    Returns:
      `[h, w]` float of zeros and ones, k = 0 at index (h // 2, w // 2).

    Raises:
      ValueError: when R is no integer in [1, w] or the fraction lies outside [0, 1].
    """
    height, width = shape
    if acceleration != int(acceleration) or not 1 <= acceleration <= width:
        raise ValueError(f"equispaced_lines needs an integer acceleration from 1 to {width}, got {acceleration}")
    if not 0 <= center_fraction <= 1:
        raise ValueError(f"equispaced_lines needs a center_fraction in [0, 1], got {center_fraction}")
    columns = jnp.arange(width)
    center = round(center_fraction * width)
    first = width // 2 - center // 2
    sampled = ((columns - width // 2 - offset) % int(acceleration) == 0) | ((columns >= first) & (columns < first + center))
    return jnp.broadcast_to(sampled.astype(float)[None, :], (height, width))
