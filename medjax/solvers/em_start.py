"""Where expectation maximisation for Poisson data starts."""

import jax
import jax.numpy as jnp

from medjax import linalg
from medjax.solvers.inverse_sums import inverse_sums


def em_start(y, background, sensitivity, x0):
    r"""x0, and the uniform image :math:`\sum (y - b) / \sum s` where x0 is not positive, for such a pixel would stay as it is for ever.

    Args:
      y: counts, an array or pytree.
      background: b, like y.
      sensitivity: s = A^T 1, like x0; pixels of sensitivity 0 keep x0.
      x0: image.

    Returns:
      Like x0.
    """
    counts = linalg.vdot(jax.tree.map(jnp.ones_like, y), jax.tree.map(jnp.subtract, y, background))
    level = jnp.maximum(counts, 0) / jnp.maximum(jnp.sum(sensitivity), jnp.finfo(sensitivity.dtype).tiny)
    return jnp.where((x0 > 0) | (inverse_sums(sensitivity) == 0), x0, level.astype(x0.dtype))
