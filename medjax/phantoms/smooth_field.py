"""Smooth random fields that look the same at every resolution."""

import math

import jax
import jax.numpy as jnp


def _bspline_basis(size, field_of_view, spacing, num_knots):
    """Cubic B-splines `[size, num_knots]` at the pixel centres, knots `spacing` [mm] apart."""
    position = (jnp.arange(size) + 0.5) * (field_of_view / size / spacing) + 1
    t = jnp.abs(position[:, None] - jnp.arange(num_knots)[None, :])
    return jnp.where(t < 1, 2 / 3 - t**2 + t**3 / 2, jnp.maximum(2 - t, 0) ** 3 / 6)


def smooth_field(key, num, size, field_of_view, spacing):
    r"""Independent Gaussian fields: white noise on knots, interpolated by cubic B-splines.

    .. math::
        f(x, y) = c \sum_{k,l} n_{kl} \, \beta^3(x / \Delta - k) \, \beta^3(y / \Delta - l), \quad n_{kl} \sim N(0, 1)

    The knots are fixed in millimetres, so one key gives one field, sampled more or less finely.

    Args:
      key: typed key.
      num: how many fields.
      size: pixels along a side.
      field_of_view: side of the image [mm].
      spacing: distance of the knots [mm]; the field keeps wavelengths above about twice that.

    Returns:
      `[num, size, size]`, zero mean and unit variance over draws (averaged over positions).
    """
    num_knots = math.ceil(field_of_view / spacing) + 3
    basis = _bspline_basis(size, field_of_view, spacing, num_knots)
    # drawn flat: under vmap, XLA takes seven times as long to compile a draw of rank 3
    knots = jax.random.normal(key, (num * num_knots**2,), basis.dtype).reshape(num, num_knots, num_knots)
    # integral of the squared cubic B-spline: the mean variance along one axis
    return jnp.einsum("ik,nkl,jl->nij", basis, knots, basis) * (315 / 151)
