"""Differences of neighbouring pixels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax import linalg
from medjax.typing import Leaf


def gradient(num_axes: int = 2, spacing=1.0):
    r"""Forward differences along the first axes, zero across the border.

    .. math:: (A x)_{a, n} = (x_{n + e_a} - x_n) / s_a, \quad \|A\|^2 < 4 \sum_a s_a^{-2}

    Args:
      num_axes: 2 for `[h, w, ...]`, 3 for `[d, h, w, ...]`.
      spacing: s, distance of neighbours [mm], a scalar or `[num_axes]`, > 0; a leaf.

    Returns:
      An operator from `[h, w, ...]` to `[num_axes, h, w, ...]`, real or complex.

    Raises:
      ValueError: for less than one axis, a spacing that does not fit or (if it is known) is not positive.
    """
    if num_axes < 1 or np.shape(spacing) not in ((), (num_axes,)):
        raise ValueError(f"gradient needs num_axes >= 1 and one spacing or one an axis, got {num_axes} and spacing of shape {np.shape(spacing)}")
    if not isinstance(spacing, Tracer) and not np.all(np.asarray(spacing) > 0):
        raise ValueError(f"gradient needs spacing > 0, got {spacing}")
    return Gradient(jnp.broadcast_to(jnp.asarray(spacing, float), (num_axes,)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gradient:
    """Forward differences; build it with `gradient`. Leaf `spacing` `[num_axes]`."""

    spacing: Leaf

    def __call__(self, x):
        """`[h, w, ...]` -> `[num_axes, h, w, ...]`."""
        x = linalg.inexact(x)
        num_axes = self.spacing.shape[0]
        if x.ndim < num_axes:
            raise ValueError(f"image is {list(x.shape)}, at least {num_axes} axes are needed")
        return linalg.difference(x, num_axes) / self._spacing_like(x, x.ndim)

    def adjoint(self, p):
        """Minus the divergence: `[num_axes, h, w, ...]` -> `[h, w, ...]`."""
        p = linalg.inexact(p)
        num_axes = self.spacing.shape[0]
        if p.ndim < num_axes + 1 or p.shape[0] != num_axes:
            raise ValueError(f"differences are {list(p.shape)}, [{num_axes}, ...] with at least {num_axes} further axes is needed")
        return linalg.difference_adjoint(p / self._spacing_like(p, p.ndim - 1))

    def _spacing_like(self, a, num_further):
        return self.spacing.astype(jnp.finfo(a.dtype).dtype).reshape(-1, *(1,) * num_further)
