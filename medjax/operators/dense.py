"""The matrix of an operator, for small sizes."""

import math

import jax
import jax.numpy as jnp

from medjax.typing import Operator


def dense(A: Operator, shape, dtype=float):
    r"""The matrix of A, column by column: :math:`M_{i j} = (A e_j)_i`, so that A(x) ravelled is M x ravelled.

    The outputs of a `stack` follow one another. On real x an operator may give complex data: then M is complex, and the adjoint that
    belongs to real x is :math:`\mathrm{Re}(M^H y)`.

    Args:
      A: operator; tried on all columns at once, so the matrix and its intermediate results must fit into memory.
      shape: of x.
      dtype: of x, real or complex.

    Returns:
      `[m, n]`, with n the size of x and m the number of data.

    Raises:
      ValueError: for an empty shape of x.
    """
    size = math.prod(shape)
    if size < 1:
        raise ValueError(f"dense needs a shape with at least one entry, got {tuple(shape)}")
    columns = jax.vmap(lambda x: A(x))(jnp.eye(size, dtype=dtype).reshape(size, *shape))
    return jnp.concatenate([block.reshape(size, -1) for block in jax.tree.leaves(columns)], axis=1).T
