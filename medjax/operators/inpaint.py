"""Known pixels of an image."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax import linalg
from medjax.typing import SVD, Leaf


def inpaint(mask):
    """The pixels that are known, zeros elsewhere: `y = mask * x`.

    With zeros and ones it is a projection, A^H A = A; other weights say how much of a pixel is seen.

    Args:
      mask: `[h, w]` or `[d, h, w]`, bool or float; a leaf, may be traced, vmapped and differentiated.

    Returns:
      An operator on real or complex arrays whose first axes are those of the mask: further axes (channels) share it.

    Raises:
      ValueError: when the mask is complex, a scalar, or (if its values are known) shows no pixel or is not finite.
    """
    mask = jnp.asarray(mask)
    if mask.ndim == 0 or jnp.iscomplexobj(mask):
        raise ValueError(f"inpaint needs a real mask with axes, got shape {mask.shape} of {mask.dtype}")
    if not isinstance(mask, Tracer) and not np.any(np.asarray(mask)):
        raise ValueError(f"inpaint needs a mask that shows at least one pixel, got {mask.shape} zeros")
    if not isinstance(mask, Tracer) and not np.all(np.isfinite(mask)):
        raise ValueError("inpaint needs a mask of finite weights, got one with NaN or infinity")
    return Inpaint(mask)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inpaint:
    """mask * x; build it with `inpaint`. Leaf `mask`."""

    mask: Leaf

    def __call__(self, x):
        """mask * x."""
        x, mask = linalg.inexact(x), self.mask
        if x.shape[: mask.ndim] != mask.shape:
            raise ValueError(f"image is {list(x.shape)}, its first axes must be those of the mask, {list(mask.shape)}")
        return x * mask.astype(jnp.finfo(x.dtype).dtype).reshape(mask.shape + (1,) * (x.ndim - mask.ndim))

    def adjoint(self, y):
        """mask * y."""
        return self(y)

    def svd(self):
        """Every pixel is a singular vector, the size of its weight the value."""
        mask = linalg.inexact(self.mask)
        return SVD(jnp.abs(mask), lambda x: x, lambda c: c, Inpaint(jnp.sign(mask)), diagonal=True)
