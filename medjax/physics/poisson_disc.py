"""Points of k-space that keep their distance, denser towards the centre."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def poisson_disc(key, shape, acceleration, calibration=(24, 24), slope=2.0, jitter=0.4, corners=True):
    r"""Variable-density Poisson-disc mask of exactly round(h w / R) points, with a full block of calibration data.

    Outside the calibration block every two samples k, k' keep the distance, in grid points,

    .. math::
        |k - k'| \geq s \max(\rho(k), \rho(k')), \quad \rho(k) = 1 + \text{slope} \cdot \min(\kappa, 1),
        \quad \kappa^2 = (2 k_y / h)^2 + (2 k_x / w)^2

    with s as large as the number of points allows: darts are thrown at a large s first, and s falls by 3 % whenever no place is left, until the
    number is reached (the last round stops there, so the acceleration is exact). It runs in numpy when it is built, seeded by the key: it cannot be
    traced or vmapped.

    Args:
      key: typed key.
      shape: (h, w).
      acceleration: R >= 1, of all h w points.
      calibration: (height, width) of the full block around k = 0; (0, 0) for none.
      slope: how much the distance grows from the centre to kappa = 1, >= 0; 0 is a uniform density.
      jitter: every point of the grid asks for a distance of 1 to 1 + jitter times that, at random: it keeps the density from falling in steps, there
        being few distances on a grid (1, 1.41, 2, 2.24, ...); 0 for none.
      corners: False leaves out kappa > 1.

    Returns:
      `[h, w]` float of zeros and ones, k = 0 at index (h // 2, w // 2).

    Raises:
      ValueError: when R < 1, slope or jitter are negative, the calibration block exceeds k-space or R, or the ellipse has too few points; TypeError
        when the key is traced.

    Reference:
      McCool & Fiume (1992), Hierarchical Poisson disk sampling distributions, Graphics Interface, for darts at a falling distance. Density falls
      like :math:`\rho^{-2}`, as sigpy's and BART's.
    """
    height, width = shape
    if isinstance(key, Tracer):
        raise TypeError("poisson_disc draws when it is built and needs a key that is not traced")
    if acceleration < 1 or min(slope, jitter) < 0:
        raise ValueError(f"poisson_disc needs an acceleration >= 1 and a slope and jitter >= 0, got {acceleration}, {slope} and {jitter}")
    total = max(round(height * width / acceleration), 1)
    y, x = np.ogrid[-(height // 2) : height - height // 2, -(width // 2) : width - width // 2]
    kappa = np.sqrt((2 * y / height) ** 2 + (2 * x / width) ** 2)
    block = np.zeros(shape, bool)
    if not all(0 <= c <= n for c, n in zip(calibration, shape, strict=True)) or calibration[0] * calibration[1] > total:
        raise ValueError(f"poisson_disc needs a calibration block within {shape} of at most {total} points, got {calibration}")
    top, left = (n // 2 - c // 2 for n, c in zip(shape, calibration, strict=True))
    block[top : top + calibration[0], left : left + calibration[1]] = True
    free = ~block if corners else ~block & (kappa <= 1)
    if free.sum() + block.sum() < total:
        raise ValueError(f"poisson_disc needs {total} points, but only {free.sum() + block.sum()} lie in the ellipse; use corners=True")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    radius = (1 + slope * np.minimum(kappa, 1)) * rng.uniform(1, 1 + jitter, shape)
    chosen = _throw(rng, radius, free, total - block.sum())
    return jnp.asarray(block | chosen, float)


def _throw(rng, radius, free, number):
    """Mask of `number` points of `free`, no two closer than s max(radius, radius') for the s at which it stops."""
    height, width = radius.shape
    # closeness[q] = smallest distance to a chosen point, in units of the larger of both radii: q may be chosen at every s <= closeness
    closeness = np.where(free, np.inf, 0).ravel()
    chosen = np.zeros(radius.size, bool)
    scale = 2 * np.sqrt(radius.size / max(number, 1)) / radius.mean() + 1
    left = number
    while left > 0:
        reach = int(np.ceil(scale * radius.max()))
        distance = np.hypot(*np.ogrid[-reach : reach + 1, -reach : reach + 1])
        grid = closeness.reshape(radius.shape)
        for index in rng.permutation(np.flatnonzero((closeness >= scale) & ~chosen)):
            if closeness[index] < scale:
                continue
            i, j = divmod(int(index), width)
            chosen[index] = True
            left -= 1
            if left == 0:
                break
            rows, columns = slice(max(i - reach, 0), i + reach + 1), slice(max(j - reach, 0), j + reach + 1)
            near = distance[
                rows.start - i + reach : min(height - i, reach + 1) + reach, columns.start - j + reach : min(width - j, reach + 1) + reach
            ]
            window = grid[rows, columns]
            np.minimum(window, near / np.maximum(radius[rows, columns], radius[i, j]), out=window)
        scale *= 0.97
    return chosen.reshape(radius.shape)
