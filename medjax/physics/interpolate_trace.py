"""Sinograms across a trace of metal or dead detector bins."""

import jax.numpy as jnp
from jax import lax


def interpolate_trace(y, trace, prior=None):
    r"""Replaces the bins of a trace by linear interpolation along the detector from the nearest bins beside it.

    .. math::
        \hat y_k = \frac{(r - k) \, y_l + (k - l) \, y_r}{r - l}, \quad l < k < r \text{ the nearest bins outside the trace}

    At the detector's end the one neighbour is repeated; a view that is all trace becomes 0. With a prior sinogram p it is y / p that is
    interpolated, and the result multiplied by p: normalised metal artefact reduction, flat where the prior is true. Data in the
    trace are never read, so NaN of dead bins does not spread.

    Args:
      y: `[..., num_detectors]`.
      trace: boolean, of the shape of y or broadcasting against it: `metal_trace(A, mask)`, or the dead bins.
      prior: p >= 0 of the shape of y, the projection of a first segmented image; None interpolates y itself. Bins where p is below one
        thousandth of its largest value are not divided.

    Returns:
      y with the trace filled, of the shape of y; linear in y.

    Reference:
      Kalender, Hebel & Ebersberger (1987), Radiology 164, 576-577; with a prior Meyer et al. (2010), Medical Physics 37, 5482-5493.
    """
    trace = jnp.broadcast_to(trace, y.shape)
    clean = jnp.where(trace, 0, y)
    scale = jnp.ones_like(clean)
    if prior is not None:
        least = 1e-3 * jnp.max(prior)
        scale = jnp.where(prior > least, prior, jnp.where(least > 0, least, 1)).astype(clean.dtype)
    filled = scale * _bridge(clean / scale, trace)
    return jnp.where(trace, filled, clean)


def _bridge(values, trace):
    """The straight line between the neighbours of each bin outside the trace."""
    n = values.shape[-1]
    k = jnp.broadcast_to(jnp.arange(n), values.shape)
    left = lax.cummax(jnp.where(trace, -1, k), axis=values.ndim - 1)
    right = lax.cummin(jnp.where(trace, n, k), axis=values.ndim - 1, reverse=True)
    none_left, none_right = left < 0, right >= n
    at_left = jnp.take_along_axis(values, jnp.where(none_left, jnp.minimum(right, n - 1), left), axis=-1)
    at_right = jnp.take_along_axis(values, jnp.where(none_right, jnp.maximum(left, 0), right), axis=-1)
    weight = (k - left) / jnp.maximum(right - left, 1)
    return at_left + jnp.clip(weight, 0, 1).astype(values.dtype) * (at_right - at_left)
