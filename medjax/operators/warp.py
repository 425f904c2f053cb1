"""An image moved by a displacement field."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax import linalg
from medjax.typing import Leaf


def warp(field, boundary: str = "zero"):
    r"""Resampling at displaced positions, linear in the image.

    .. math:: (A x)_n = \sum_m x_m \prod_a \max(0, 1 - |n_a + u_a(n) - m_a|)

    so a positive u_0 fetches from further down. Interpolation is (bi-, tri-) linear: the derivative for the field is exact where positions lie inside
    a cell, and one-sided on pixel centres.

    A x gathers. The adjoint scatters: pixels that fetch from one m are known only by the inverse of n -> n + u(n), which folds and tears have
    not, and sorting them costs more than adding up. On GPU its sums are in no fixed order, so they vary in the last digit.

    Args:
      field: u `[2, h, w]` or `[3, d, h, w]` [pixels], down (for volumes: slice, down) and to the right; a leaf.
      boundary: "zero" for zeros outside the image, reached within one pixel, or "nearest" for its border continued.

    Returns:
      An operator on real or complex `[h, w, ...]`; further axes (channels) share the field.

    Raises:
      ValueError: for an unknown boundary, a field of another shape or (if its values are known) one that holds NaN.
    """
    field = jnp.asarray(field)
    if boundary not in ("zero", "nearest"):
        raise ValueError(f"warp needs boundary 'zero' or 'nearest', got {boundary!r}")
    if field.ndim < 2 or field.shape[0] != field.ndim - 1 or field.size == 0 or not jnp.issubdtype(field.dtype, jnp.floating):
        raise ValueError(f"warp needs a real field [2, h, w] or [3, d, h, w], got shape {field.shape} of {field.dtype}")
    if not isinstance(field, Tracer) and np.any(np.isnan(np.asarray(field))):
        raise ValueError(f"warp needs a field of numbers, got {np.sum(np.isnan(np.asarray(field)))} NaN")
    return Warp(field, boundary)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Warp:
    """Interpolation at displaced positions; build it with `warp`. Leaf `field` `[2, h, w]`."""

    field: Leaf
    boundary: str = dataclasses.field(metadata={"static": True})

    def __call__(self, x):
        """x at n + u(n)."""
        x = linalg.inexact(x)
        flat = self._padded(x)
        total = jnp.zeros((), x.dtype)
        for index, weight in self._corners(x):
            total = total + weight * flat.at[index].get(mode="promise_in_bounds")
        return total.reshape(x.shape)

    def adjoint(self, y):
        """Every y_n handed to the pixels that it was fetched from."""
        y = linalg.inexact(y)
        shape, further = self.field.shape[1:], y.shape[self.field.ndim - 1 :]
        total = jnp.zeros_like(self._padded(y))
        for index, weight in self._corners(y):
            total = total.at[index].add(weight * y.reshape(-1, *further), mode="promise_in_bounds")
        total = total.reshape(*(n + 2 for n in shape), *further)
        return total[tuple(slice(1, n + 1) for n in shape)]

    def _padded(self, x):
        """x with one zero around, its image axes in one, so that positions clipped to [-1, n] read 0 outside."""
        shape = self.field.shape[1:]
        if x.shape[: len(shape)] != shape:
            raise ValueError(f"image is {list(x.shape)}, its first axes must be those of the field, {list(shape)}")
        padded = jnp.pad(x, [(1, 1)] * len(shape) + [(0, 0)] * (x.ndim - len(shape)))
        return padded.reshape(-1, *x.shape[len(shape) :])

    def _corners(self, x):
        """Flat index into the padded image and weight, for each corner of the cells; weights have one axis for the image, then those of channels."""
        shape, dtype = self.field.shape[1:], jnp.finfo(x.dtype).dtype
        lower, upper_weight = [], []
        for axis, n in enumerate(shape):
            grid = jnp.arange(n, dtype=self.field.dtype).reshape(-1, *(1,) * (len(shape) - 1 - axis))
            bounds = (-1, n) if self.boundary == "zero" else (0, n - 1)
            position = jnp.clip(self.field[axis] + jnp.broadcast_to(grid, shape), *bounds)
            cell = jnp.clip(linalg.below(position, n), -1, n - 1)
            lower.append(cell.astype(jnp.int32) + 1)
            upper_weight.append((position - cell).astype(dtype))
        for corner in itertools.product((0, 1), repeat=len(shape)):
            index, weight = 0, 1
            for n, up, low, part in zip(shape, corner, lower, upper_weight, strict=True):
                index, weight = index * (n + 2) + low + up, weight * (part if up else 1 - part)
            yield jnp.ravel(index), jnp.reshape(weight, (-1, *(1,) * (x.ndim - len(shape))))
