"""Projections of an object wider than the field of view."""

import jax.numpy as jnp


def extend_truncated(y, num_extra, detector_spacing=1.0, method="water_cylinder", num_fit=8):
    r"""Continues truncated views beyond both ends of the detector, so that filtered backprojection has no bright rim.

    .. math::
        \text{water cylinder: } y(d) = 2 \sqrt{(R^2 - (x + d)^2)_+}, \quad x = -\tfrac14 y_e y_e', \; R^2 = \tfrac14 y_e^2 + x^2; \qquad
        \text{cosine: } y(d) = y_e \cos^2\left(\frac{\pi d}{2 D}\right)

    d is the distance from the last bin, y_e and y_e' the value and the outward slope there, by a straight fit of `num_fit` bins (of y^2, which is
    a parabola for a disc), D the length that is added. The cylinder is the disc of water that has this value and slope; where the slope rises
    outwards its centre is put at the edge. Views that end at 0 stay 0: complete views pass unchanged.

    Args:
      y: `[num_angles, num_detectors]` lengths of water [mm].
      num_extra: bins added at each end (static), so the detector's centre stays.
      detector_spacing: [mm].
      method: "water_cylinder" or "cosine" (static).
      num_fit: bins of the fit, at least 2 (static).

    Returns:
      `[num_angles, num_detectors + 2 num_extra]`; reconstruct it with a projector of that many detectors.

    Raises:
      ValueError: for an unknown method, a negative num_extra, or fewer bins than the fit needs.

    Reference:
      Hsieh et al. (2004), Medical Physics 31, 2385-2391, for the water cylinder.
    """
    if method not in ("water_cylinder", "cosine"):
        raise ValueError(f"extend_truncated knows 'water_cylinder' and 'cosine', got {method!r}")
    if num_extra < 0 or not 2 <= num_fit <= y.shape[-1]:
        raise ValueError(f"extend_truncated needs num_extra >= 0 and num_fit from 2 to {y.shape[-1]} bins, got {num_extra} and {num_fit}")
    distance = jnp.arange(1, num_extra + 1, dtype=y.dtype) * detector_spacing
    ends = [_continue(end, distance, detector_spacing, method) for end in (y[:, :num_fit][:, ::-1], y[:, -num_fit:])]
    return jnp.concatenate([ends[0][:, ::-1], y, ends[1]], axis=1)


def _continue(end, distance, spacing, method):
    """Values at distances beyond the last column of `end` `[num_angles, num_fit]`."""
    edge = jnp.maximum(end[:, -1], 0)[:, None]
    if method == "cosine":
        span = (distance.shape[0] + 1) * spacing
        return edge * jnp.cos(jnp.pi / 2 * distance / span)[None] ** 2
    squared = end**2 / 4  # R^2 - x^2 of a disc: a parabola of curvature -1
    at = spacing * (jnp.arange(end.shape[1], dtype=end.dtype) - (end.shape[1] - 1))
    straight = squared + (at**2)[None]
    centred = at - jnp.mean(at)
    slope = jnp.sum(straight * centred[None], 1) / jnp.sum(centred**2)
    value = jnp.maximum(jnp.mean(straight, 1) - slope * jnp.mean(at), 0)
    from_centre = jnp.maximum(-slope / 2, 0)[:, None]
    inside = value[:, None] - 2 * from_centre * distance[None] - (distance**2)[None]
    inside = jnp.where(edge > 0, inside, 0)
    return 2 * jnp.sqrt(jnp.where(inside > 0, inside, 1)) * (inside > 0)
