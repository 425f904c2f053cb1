"""The test of backtracking for proximal gradient methods."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from medjax import linalg


def majorised(value_fn: Callable, z, x, grad, step_size):
    r"""Whether a step of tau from z to x was short enough.

    .. math:: f(x) \le f(z) + \langle \nabla f(z), x - z \rangle + \frac{\|x - z\|^2}{2 \tau}

    up to the rounding of f; false where f(x) is not finite.

    Args:
      value_fn: f, `x -> scalar`.
      z, x: two points, pytrees.
      grad: the gradient at z.
      step_size: tau, scalar.

    Returns:
      A boolean scalar.

    Reference:
      Beck & Teboulle (2009), FISTA with backtracking, https://doi.org/10.1137/080716542
    """
    moved, start, end = jax.tree.map(jnp.subtract, x, z), value_fn(z), value_fn(x)
    rounding = 10 * jnp.finfo(linalg.real_dtype(x)).eps * jnp.abs(start)
    return end <= start + linalg.vdot(grad, moved) + linalg.vdot(moved, moved) / (2 * step_size) + rounding
