"""Nuclear norms of the blocks of a series of images."""

import math

import jax.numpy as jnp
from jax import lax

from medjax import checks, linalg
from medjax.functionals.singular_value_threshold import singular_value_threshold
from medjax.typing import Functional


def locally_low_rank(strength, block=8, shift=0) -> Functional:
    r"""Sum of the nuclear norms of the matrices [points of a block, frames] of a series.

    .. math:: \lambda \sum_b \| P_b x \|_*, \quad \mathrm{prox}_\tau(v) = \sum_b P_b^T \, \mathrm{prox}_{\tau \lambda \|\cdot\|_*}(P_b v)

    Blocks do not overlap and cover the image, those at the border being smaller. A `shift` that changes from step to step of a solver spreads their
    borders.

    Args:
      strength: lambda >= 0, a scalar.
      block: side of a block, an integer or one for each axis of space.
      shift: where the grid of blocks begins, modulo the block, an integer or one for each axis; a traced one costs one more block an axis.

    Returns:
      A `Functional` of real or complex `[t, h, w]` (frames, coils or parameter maps first) or `[t, d, h, w]`.

    Raises:
      ValueError: for a strength below 0 or NaN, blocks without points.

    Reference:
      Trzasko & Manduca (2011), Local versus global low-rank promotion in dynamic MRI series reconstruction, ISMRM 19, 4371; prox: Cai, Candes &
      Shen (2010), theorem 2.1, https://doi.org/10.1137/080738970
    """
    checks.nonnegative(strength, "strength of locally_low_rank")
    if min(block if isinstance(block, tuple) else (block,)) < 1:
        raise ValueError(f"block of locally_low_rank is {block}, at least 1 point is needed")

    def value(x):
        matrices = _split(x, *_grid(x, block, shift))
        return jnp.asarray(strength, linalg.real_dtype(x)) * jnp.sum(jnp.linalg.svd(matrices, compute_uv=False))

    def prox(v, tau):
        grid = _grid(v, block, shift)
        return _join(singular_value_threshold(_split(v, *grid), strength * tau, by_gram=True), v.shape, *grid)

    return Functional(value, prox)


def _grid(x, block, shift):
    """Sides of blocks, their numbers, and where x begins in the grid, an axis of space each."""
    num_axes = x.ndim - 1
    sides = block if isinstance(block, tuple) else (block,) * num_axes
    shifts = shift if isinstance(shift, tuple) else (shift,) * num_axes
    starts = tuple(-s % b for s, b in zip(shifts, sides, strict=True))
    reach = [s if checks.is_concrete(s) else b - 1 for s, b in zip(starts, sides, strict=True)]
    counts = tuple(math.ceil((r + n) / b) for r, n, b in zip(reach, x.shape[1:], sides, strict=True))
    return sides, counts, starts


def _split(x, sides, counts, starts):
    """`[t, h, w]` -> `[blocks, points, t]`, zero outside of x."""
    padded = jnp.zeros((x.shape[0], *(n * b for n, b in zip(counts, sides, strict=True))), x.dtype)
    padded = lax.dynamic_update_slice(padded, x, (0, *starts))
    parts = padded.reshape(x.shape[0], *(n for pair in zip(counts, sides, strict=True) for n in pair))
    order = (*range(1, parts.ndim, 2), *range(2, parts.ndim, 2), 0)
    return parts.transpose(order).reshape(math.prod(counts), math.prod(sides), x.shape[0])


def _join(matrices, shape, sides, counts, starts):
    """The transpose of `_split`."""
    parts = matrices.reshape(*counts, *sides, shape[0])
    num = len(sides)
    parts = parts.transpose(2 * num, *(axis for i in range(num) for axis in (i, num + i)))
    padded = parts.reshape(shape[0], *(n * b for n, b in zip(counts, sides, strict=True)))
    return lax.dynamic_slice(padded, (0, *starts), shape)
