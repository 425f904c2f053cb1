"""Spokes through the centre of k-space."""

import jax.numpy as jnp
from jax.core import Tracer


def radial_spokes(angles, num_samples, size):
    r"""Equally spaced samples along spokes of given angles.

    .. math::
        (k_y, k_x) = k_j (\sin \theta_i, \cos \theta_i), \quad k_j = \frac{n}{m} \left(j - \left\lfloor \tfrac{m}{2} \right\rfloor \right),
        \quad j < m

    k_y belongs to the first axis of the image (row index, downwards), k_x to the second.

    Args:
      angles: theta `[num_spokes]` [rad]; may be traced and differentiated.
      num_samples: m, of each spoke; 2 n for twofold oversampling of the readout.
      size: n, matrix size of the image; k reaches from -n/2 to n/2.

    Returns:
      `[num_spokes, m, 2]`, (k_y, k_x) in cycles per field of view; sample m // 2 of every spoke is k = 0.

    Raises:
      ValueError: when the angles are not of rank 1 or (if they are known) not finite, there is no spoke or sample, or no whole number of samples.
    """
    angles = jnp.asarray(angles)
    if angles.ndim != 1 or angles.size < 1 or num_samples < 1 or num_samples % 1:
        found = f"angles of shape {angles.shape} and {num_samples} samples"
        raise ValueError(f"radial_spokes needs angles [num_spokes] and a whole number of samples, at least one, got {found}")
    if not isinstance(angles, Tracer) and not jnp.all(jnp.isfinite(angles)):
        raise ValueError("radial_spokes needs finite angles [rad], got NaN or infinity")
    angles = angles.astype(jnp.result_type(angles, float)) if jnp.issubdtype(angles.dtype, jnp.integer) else angles
    k = ((jnp.arange(num_samples) - num_samples // 2) * (size / num_samples)).astype(angles.dtype)
    direction = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return k[None, :, None] * direction[:, None, :]
