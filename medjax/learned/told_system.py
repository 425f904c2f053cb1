"""What a method tells of a linear system that it solved."""

import jax
import jax.numpy as jnp

from medjax import linalg


def told_system(left, first, size, bound) -> dict[str, jax.Array]:
    r"""`lower_residual` and `lower_converged` of a linear system M x = b, for `implicit.trouble`: constants for autodiff.

    .. math:: \frac{\|b - M x\|}{\max(\|b - M x_0\|, 1000 \epsilon \|b\|)}

    Relative to the start x_0, for the system of the derivative has the same matrix and starts from 0: how much was gained here is gained there, while
    ||b - M x|| is small beside ||b|| wherever the start was good. Below a thousand roundings, :math:`\epsilon` each, nothing is left to solve.

    Args:
      left: ||b - M x||, a scalar.
      first: ||b - M x_0||.
      size: ||b||.
      bound: on the residual, for `lower_converged`.

    Returns:
      The two scalars.
    """
    left, first, size = jax.lax.stop_gradient((left, first, size))
    floor = jnp.maximum(first, 1000 * jnp.finfo(linalg.real_dtype(size)).eps * size)
    residual = left / jnp.where(floor > 0, floor, 1)
    return {"lower_residual": residual, "lower_converged": (residual <= bound).astype(residual.dtype)}
