"""Filtered backprojection of a circular cone-beam scan."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from medjax import checks, linalg
from medjax.operators import divergent_rays
from medjax.operators.cone_beam import ConeBeam
from medjax.operators.fan_fbp import isocentre_spacing, margin_of, warn_of_short_arc
from medjax.operators.ramp_filter import ramp_filter
from medjax.operators.redundancy_weights import redundancy_weights


def fdk(A, y, window: str = "hann", cutoff=1.0, scan: str = "full"):
    r"""The algorithm of Feldkamp, Davis and Kress: fan-beam filtered backprojection along tilted rays.

    .. math::
        \hat x(P) = \sum_\beta \frac{D^2}{\ell_\beta(P)^2} \left( h * (w_\beta \cos\kappa\, y_\beta) \right)(P)

    with cos kappa the cosine of a ray's angle to the central ray (on a curved detector the product of the cosines of fan and cone angle),
    w the `redundancy_weights` of the fan angle, h the ramp along detector rows, and l as in `fan_fbp`, which this is
    in the plane of the source. Exact there; elsewhere exact only for volumes that do not change along z.

    Args:
      A: a `ConeBeam` on a circle.
      y: `[num_angles, num_rows, num_columns]` line integrals; complex ones are reconstructed by parts.
      window: one of "ram-lak", "shepp-logan", "cosine", "hamming", "hann".
      cutoff: where the window ends, as a fraction in (0, 1] of the detector's Nyquist frequency.
      scan: "full", "short" (views over pi and the fan, Parker's weights) or "offset" (a turn with a half-fan detector).

    Returns:
      `[num_slices, n, n]`, in units of y by [mm].

    Raises:
      ValueError: for another operator, an unknown window or scan, projections that do not fit A, or a source that does not stay in one plane.

    Warns:
      UserWarning: for a short scan of fewer views than pi and the fan of the volume's inscribed cylinder.

    Reference:
      Feldkamp, Davis & Kress (1984), Practical cone-beam algorithm, https://doi.org/10.1364/JOSAA.1.000612
    """
    y = linalg.inexact(y)
    if not isinstance(A, ConeBeam):
        raise ValueError(f"fdk needs an operator of cone_beam, got {type(A).__name__}")
    if jnp.iscomplexobj(y):
        return linalg.by_parts(lambda part: fdk(A, part, window, cutoff, scan), y)
    linalg.checked_shape(y, (*A.angles.shape, A.num_rows, A.num_columns), "stack of projections")
    warn_of_short_arc(A, scan)
    if checks.is_concrete(A.heights) and np.ptp(np.asarray(A.heights)) > 1e-6 * A.slice_spacing:
        raise ValueError(f"got a source that moves {np.ptp(np.asarray(A.heights)):.6g} mm along z, a circle is needed")
    dtype = y.real.dtype
    v, s = A.positions(dtype)
    gamma = divergent_rays.fan_angles(s, A.source_to_detector, A.detector)
    reach = A.source_to_detector / jnp.cos(gamma) if A.detector == "flat" else jnp.full_like(gamma, A.source_to_detector)
    cosine = jnp.cos(gamma)[None, :] / jnp.sqrt(1 + (v[:, None] / reach[None, :]) ** 2)
    spacing, refinement = isocentre_spacing(A, A.column_spacing)
    step = A.column_spacing / A.source_to_detector if A.detector == "curved" else 0.0
    margin = margin_of(A.num_columns, scan)

    def filtered(view):
        rows, weights = view
        weighted = jnp.pad(rows * (weights[None, :] * cosine), ((0, 0), (margin, margin)))
        return ramp_filter(weighted, spacing, window, cutoff, refinement, step).T

    columns = lax.map(filtered, (y, redundancy_weights(A.angles, gamma, scan)))
    return _backprojected(A, columns, s[0] - margin * A.column_spacing, refinement, dtype)


def _backprojected(A, columns, s, refinement, dtype):
    """Scan over rows and views: each pixel reads its detector column first, then its slices the rows."""
    n, source = A.image_size, A.source_distance
    across = (jnp.arange(n, dtype=dtype) - (n - 1) / 2) * A.pixel_size
    z = (jnp.arange(A.num_slices, dtype=dtype) - (A.num_slices - 1) / 2) * A.slice_spacing
    v = A.positions(dtype)[0][0]
    last = columns.shape[1]
    padded = jnp.pad(columns, ((0, 0), (1, 2), (1, 2)))  # zeros beside the detector

    def slices(rows, scale, height):
        position = ((z[None, :] - height) * scale[:, None] - v) / A.row_spacing + 1
        lower, weight = linalg.cell(jnp.clip(position, 0, A.num_rows + 1), A.num_rows)
        value = linalg.take_along(rows, lower) * (1 - weight) + linalg.take_along(rows, lower + 1) * weight
        return value * ((source / A.source_to_detector * scale) ** 2)[:, None]

    def row(y):
        def step(carry, view):
            lines, height, cos, sin = view
            lateral, depth = across * cos + y * sin, source + across * sin - y * cos
            position = divergent_rays.positions(lateral / depth, A.source_to_detector, A.detector)
            position = jnp.clip((position - s) * (refinement / A.column_spacing) + 1, 0, last + 1)
            lower, weight = linalg.cell(position, last)
            weight = weight[:, None]
            rows = linalg.take(lines, lower) * (1 - weight) + linalg.take(lines, lower + 1) * weight
            scale = A.source_to_detector / (depth if A.detector == "flat" else jnp.sqrt(depth**2 + lateral**2))
            total, *previous = carry  # what is carried is computed once, see `cone_beam`
            return (total + slices(*previous), rows, scale, height), None

        empty = jnp.zeros((n, A.num_slices), columns.dtype), jnp.zeros((n, A.num_rows + 3), columns.dtype)
        nothing = jnp.zeros(n, dtype), jnp.zeros((), dtype)
        views = padded, A.heights.astype(dtype), jnp.cos(A.angles).astype(dtype), jnp.sin(A.angles).astype(dtype)
        total, *previous = lax.scan(step, (*empty, *nothing), views)[0]
        return total + slices(*previous)

    return jnp.transpose(lax.map(row, -across), (2, 0, 1))
