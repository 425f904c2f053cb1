"""Inverse row and column sums of an operator, which tomographic solvers scale by."""

import jax.numpy as jnp


def inverse_sums(sums):
    r"""1 / s, and 0 where a ray or a pixel meets nothing.

    An operator that rings (`parallel_beam` with model="fourier") has small negative entries, and rays beside the image have sums of either sign that
    mean nothing; with their inverses SIRT diverges, ||R^1/2 A C^1/2||^2 being 4 to 15. So it is 0 up to the size of the most negative sum; where no
    sum is negative, only for s = 0.

    Args:
      sums: `[...]` real, A(1) or A^T(1).

    Returns:
      `[...]`.
    """
    met = sums > jnp.maximum(-jnp.min(sums), 0)
    return jnp.where(met, 1 / jnp.where(met, sums, 1), 0)
