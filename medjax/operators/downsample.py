"""Fewer, larger pixels."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from medjax import linalg
from medjax.typing import Leaf


def downsample(shape, factor, method: str = "mean"):
    r"""An image on a grid that is coarser by whole factors, filtered against aliasing: separable, and per axis with factor r

    .. math::
        y_i = \frac{\sum_n w(d_{i n} / r) \, x_n}{\sum_n w(d_{i n} / r)}, \quad d_{i n} = n - (r i + \tfrac{r - 1}{2})

    so pixel i of y is centred on the block r i ... r i + r - 1 of x, and the sums end at the border of the image. The weight w is

    * "mean": 1 on the block, the average of its pixels (what a larger detector element sees);
    * "linear", "cubic", "lanczos3": the interpolation kernel widened by r, Keys' with a = -1/2 for the cubic one; equal to `jax.image.resize`
      with `antialias=True`.

    Args:
      shape: of x, one axis or more.
      factor: r >= 1, an integer, or one for each axis; 1 leaves an axis alone.
      method: one of the above.

    Returns:
      A `Downsample` from real or complex `shape` to `shape / factor`. Its weights are leaves, they can be learned.

    Raises:
      ValueError: for an unknown method, or factors that do not divide the shape.

    Reference:
      Keys (1981), Cubic convolution interpolation for digital image processing, https://doi.org/10.1109/TASSP.1981.1163711
    """
    shape = tuple(int(n) for n in shape)
    factors = (factor,) * len(shape) if np.ndim(factor) == 0 else tuple(factor)
    if method not in KERNELS:
        raise ValueError(f"got method {method!r}, one of {', '.join(KERNELS)} is needed")
    if not shape or len(factors) != len(shape) or any(r != int(r) or r < 1 or n < 1 or n % int(r) for n, r in zip(shape, factors, strict=True)):
        raise ValueError(f"downsample needs integer factors that divide the shape, got shape {shape} and factors {factors}")
    return Downsample(tuple(jnp.asarray(_weights(int(r), *KERNELS[method])) for r in factors), shape)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Downsample:
    """Filter and decimation; build it with `downsample`.

    weights: a leaf `[blocks, factor]` for each axis, blocks odd: of the pixels in the blocks around the one that y stands for.
    """

    weights: tuple[Leaf, ...]
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, x):
        """`shape` -> `shape / factor`."""
        x = linalg.inexact(x)
        if x.shape != self.shape:
            raise ValueError(f"image is {list(x.shape)}, the operator says {list(self.shape)}")
        for axis, weights in enumerate(self.weights):
            weights = weights.astype(jnp.finfo(x.dtype).dtype)
            sums = _decimated(jnp.ones(self.shape[axis], weights.dtype), weights)
            x = jnp.moveaxis(x, axis, 0)
            x = jnp.moveaxis(_decimated(x, weights) / sums.reshape(-1, *(1,) * (x.ndim - 1)), 0, axis)
        return x

    def adjoint(self, y):
        """`shape / factor` -> `shape`."""
        y = linalg.inexact(y)
        return jax.linear_transpose(self.__call__, jax.ShapeDtypeStruct(self.shape, y.dtype))(y)[0]  # weights are real


def _decimated(x, weights):
    """Weighted sums of blocks and their neighbours along the first axis, zeros outside."""
    num_blocks, factor = weights.shape
    length, further = x.shape[0] // factor, num_blocks // 2
    blocks = jnp.pad(x.reshape(length, factor, *x.shape[1:]), [(further, further)] + [(0, 0)] * x.ndim)
    total = jnp.zeros((length, *x.shape[1:]), x.dtype)
    for b in range(num_blocks):
        total += jnp.einsum("ir...,r->i...", blocks[b : b + length], weights[b].astype(x.dtype))
    return total


def _weights(factor, kernel_fn, radius):
    """`[blocks, factor]`; a factor of 1 has the identity."""
    further = 0 if factor == 1 else math.ceil(radius - 0.5)
    distance = (np.arange(-further * factor, (further + 1) * factor) - (factor - 1) / 2) / factor
    return kernel_fn(np.abs(distance)).reshape(-1, factor)


def _cubic(d):
    return np.where(d < 1, (1.5 * d - 2.5) * d**2 + 1, np.where(d < 2, ((-0.5 * d + 2.5) * d - 4) * d + 2, 0))


def _lanczos3(d):
    return np.where(d < 3, np.sinc(d) * np.sinc(d / 3), 0)


KERNELS = {
    "mean": (np.ones_like, 0.5),
    "linear": (lambda d: np.maximum(0, 1 - d), 1.0),
    "cubic": (_cubic, 2.0),
    "lanczos3": (_lanczos3, 3.0),
}
"""Method -> (weight as a function of |d| in output pixels, its radius)."""
