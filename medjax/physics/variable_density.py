"""Random points of k-space, denser towards the centre."""

import jax
import jax.numpy as jnp
import numpy as np


def variable_density(key, shape, acceleration, power=3.0, center_fraction=0.1):
    r"""Mask of exactly round(h w / R) points: a full disc at the centre, the rest drawn without replacement with density falling outwards.

    .. math::
        p(k) \propto (1 - \min(|k|, 1))^{\text{power}} + \epsilon, \quad |k|^2 = (2 k_y / h)^2 + (2 k_x / w)^2

    The draw keeps the largest values of :math:`\log p + \text{Gumbel noise}`, which is sampling without replacement by successive draws from p.

    Args:
      key: typed key.
      shape: (h, w).
      acceleration: R >= 1 (static).
      power: how fast the density falls, >= 0; 0 is uniform.
      center_fraction: radius of the full disc in |k|, in [0, 1] (static).

    Returns:
      `[h, w]` float of zeros and ones, k = 0 at index (h // 2, w // 2).

    Raises:
      ValueError: when R < 1 or the disc alone has more points than R leaves.

    Reference:
      Lustig, Donoho & Pauly (2007), section "Monte-Carlo incoherent sampling design", https://doi.org/10.1002/mrm.21391
    """
    height, width = shape
    if not acceleration >= 1:
        raise ValueError(f"variable_density needs an acceleration >= 1, got {acceleration}")
    total = max(round(height * width / acceleration), 1)
    y, x = (2 * (jnp.arange(n) - n // 2) / n for n in shape)
    radius = jnp.sqrt(y[:, None] ** 2 + x[None, :] ** 2)
    rows, columns = np.ogrid[-(height // 2) : height - height // 2, -(width // 2) : width - width // 2]
    disc = np.sum((2 * rows / height) ** 2 + (2 * columns / width) ** 2 <= center_fraction**2)
    if disc > total:
        raise ValueError(f"variable_density needs a disc of at most {total} points at acceleration {acceleration}, got {disc} at {center_fraction}")
    density = jnp.maximum(1 - radius, 0) ** power + 1e-3
    score = jnp.where(radius <= center_fraction, jnp.inf, jnp.log(density) + jax.random.gumbel(key, shape))
    rank = jnp.argsort(jnp.argsort(-score.ravel()))
    return (rank < total).astype(float).reshape(shape)
