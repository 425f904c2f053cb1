"""Noise amplification of SENSE, in closed form."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from medjax.physics.whiten import whiten


def g_factor(maps, acceleration, covariance=None):
    r"""g-factor of a least-squares SENSE reconstruction of equispaced Cartesian samples.

    Every R_y-th row and R_x-th column fold the R = R_y R_x pixels :math:`n + (i h / R_y, j w / R_x)` onto one; with their maps as the columns of S,

    .. math::
        g_i = \sqrt{[(S^H \Psi^{-1} S)^{-1}]_{ii} \, [S^H \Psi^{-1} S]_{ii}} \geq 1, \qquad
        \mathrm{SNR}_{\mathrm{accelerated}} = \frac{\mathrm{SNR}_{\mathrm{full}}}{g \sqrt{R}}

    It is exact for a comb without calibration lines, whatever its offset. With those, other masks, regularisation or other methods use
    `g_factor_jacobian`.

    Args:
      maps: `[c, h, w]` complex; 0 where there is no tissue, which then does not count as folded.
      acceleration: R_x along the columns (the phase-encoding axis of our masks), or (R_y, R_x).
      covariance: Psi `[c, c]` of the channels; None for whitened maps. May be traced.

    Returns:
      `[h, w]` real, 0 where all maps are 0, inf where the maps of a fold depend on each other linearly, up to rounding.

    Raises:
      ValueError: when an acceleration is no integer or does not divide its size, for then aliases lie between pixels, or when R exceeds the number of
        coils.

    Reference:
      Pruessmann et al. (1999), SENSE, https://doi.org/10.1002/(SICI)1522-2594(199911)42:5<952::AID-MRM16>3.0.CO;2-S
    """
    channels, height, width = maps.shape
    rows, columns = (1, acceleration) if np.ndim(acceleration) == 0 else acceleration
    if not min(rows, columns) >= 1 or rows % 1 or columns % 1 or height % rows or width % columns:
        found = f"{height} x {width}, got {(rows, columns)}"
        raise ValueError(f"g_factor needs integer accelerations that divide the image {found}; g_factor_jacobian takes any")
    rows, columns = int(rows), int(columns)
    if rows * columns > channels:
        raise ValueError(f"g_factor needs at least as many coils as pixels that fold, got {channels} coils and acceleration {rows * columns}")
    maps = maps if covariance is None else whiten(maps, covariance)
    folded = maps.reshape(channels, rows, height // rows, columns, width // columns).transpose(2, 4, 0, 1, 3)
    folded = folded.reshape(height // rows, width // columns, channels, rows * columns)
    gram = jnp.einsum("yxci,yxcj->yxij", folded.conj(), folded)
    diagonal = jnp.real(jnp.diagonal(gram, axis1=-2, axis2=-1))
    empty = diagonal <= 0
    length, identity = jnp.sqrt(jnp.where(empty, 1, diagonal)), jnp.eye(rows * columns, dtype=gram.dtype)[None, None]
    gram = gram / (length[..., None] * length[..., None, :]) + identity * empty[..., None]  # of unit diagonal: whatever the unit of the maps
    values = jnp.linalg.eigvalsh(lax.stop_gradient(gram))
    singular = values[..., :1] <= values[..., -1:] * channels * jnp.finfo(values.dtype).eps
    inverse = jnp.real(jnp.diagonal(jnp.linalg.inv(jnp.where(singular[..., None], identity, gram)), axis1=-2, axis2=-1))
    g = jnp.where(empty, 0, jnp.where(singular, jnp.inf, jnp.sqrt(inverse)))
    g = g.reshape(height // rows, width // columns, rows, columns)
    return g.transpose(2, 0, 3, 1).reshape(height, width)
