"""More, smaller pixels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from medjax import linalg
from medjax.typing import Leaf


def upsample(shape, size):
    r"""An image on a finer grid over the same field of view, by bilinear interpolation.

    .. math:: y_{ij} = \sum_{rc} \Lambda(p_i - r) \, \Lambda(q_j - c) \, x_{rc}, \quad p_i = (i + \tfrac12) \frac{h}{h'} - \tfrac12, \quad
        \Lambda(t) = \max(0, 1 - |t|)

    with points beyond the outermost pixel centres mirrored at these. It is `skimage.transform.resize` of order 1.

    Args:
      shape: of x, (h, w), both at least 2.
      size: of y, (h', w'), neither below that of x.

    Returns:
      An `Upsample` from real or complex `[h, w]` to `[h', w']`. Its weights are leaves.

    Raises:
      ValueError: for other sizes.
    """
    shape, size = tuple(int(n) for n in shape), tuple(int(n) for n in size)
    if len(shape) != 2 or len(size) != 2 or min(shape) < 2 or any(m < n for m, n in zip(size, shape, strict=True)):
        raise ValueError(f"upsample needs a shape (h, w) of at least 2 and a size not below it, got shape {shape} and size {size}")
    return Upsample(*(jnp.asarray(_weights(n, m)) for n, m in zip(shape, size, strict=True)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Upsample:
    """Interpolation; build it with `upsample`.

    rows `[h', h]`, columns `[w', w]`: weights along each axis.
    """

    rows: Leaf
    columns: Leaf

    def __call__(self, x):
        """`[h, w]` -> `[h', w']`."""
        x = linalg.inexact(x)
        linalg.checked_shape(x, (self.rows.shape[1], self.columns.shape[1]), "image")
        return self.rows.astype(x.dtype) @ x @ self.columns.astype(x.dtype).T

    def adjoint(self, y):
        """`[h', w']` -> `[h, w]`."""
        y = linalg.inexact(y)
        linalg.checked_shape(y, (self.rows.shape[0], self.columns.shape[0]), "fine image")
        return self.rows.astype(y.dtype).T @ y @ self.columns.astype(y.dtype)  # weights are real


def _weights(n, m):
    """`[m, n]` of one axis."""
    place = np.abs((np.arange(m) + 0.5) * (n / m) - 0.5)
    place = np.minimum(place, 2 * (n - 1) - place)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(n)[None, :]))
