"""Random phase-encoding lines."""

import jax
import jax.numpy as jnp


def random_lines(key, shape, acceleration, center_fraction=0.08):
    r"""Cartesian mask of fully sampled columns: all of the centre, the others drawn without replacement.

    The number of columns is exactly round(w / acceleration), at least one; the round(center_fraction w) columns around w // 2 come first.

    Args:
      key: typed key.
      shape: (h, w).
      acceleration: R >= 1 (static).
      center_fraction: fraction of the columns that are sampled around the centre, in [0, 1 / R] up to rounding (static).

    Returns:
      `[h, w]` float of zeros and ones, k = 0 at index (h // 2, w // 2).

    Raises:
      ValueError: when R < 1, or when the centre asks for more columns than R leaves.

    Reference:
      Zbontar et al. (2018), https://arxiv.org/abs/1811.08839; there the number of columns is random, here it is exact.
    """
    height, width = shape
    if not acceleration >= 1:
        raise ValueError(f"random_lines needs an acceleration >= 1, got {acceleration}")
    total, center = max(round(width / acceleration), 1), round(center_fraction * width)
    if not 0 <= center <= total:
        raise ValueError(f"random_lines needs a centre of 0 to {total} of {width} columns at acceleration {acceleration}, got {center}")
    columns = jnp.arange(width)
    first = width // 2 - center // 2
    in_center = (columns >= first) & (columns < first + center)
    rank = jnp.argsort(jnp.argsort(jnp.where(in_center, -1.0, jax.random.uniform(key, (width,)))))
    return jnp.broadcast_to((rank < total).astype(float)[None, :], (height, width))
