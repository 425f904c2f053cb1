"""How far a step size is from its bound, told by the gradients that a solver has at hand."""

import jax
import jax.numpy as jnp

from medjax import linalg


def step_ratio(step_size, z, previous, grad, grad_previous, bound=1.0):
    r"""What `Info.step_ratio` says of a gradient method with steps below `bound` / L.

    .. math:: \frac{\tau}{b} \frac{\|\nabla f(z) - \nabla f(z')\|}{\|z - z'\|} \le \frac{\tau L}{b}

    so that above 1 the step size is beyond its bound for certain. Where z and z' are so near that the quotient would be rounding it is 0.

    Args:
      step_size: tau, scalar.
      z, previous: two points, pytrees.
      grad, grad_previous: the gradients there.
      bound: b, 1 for FISTA, 2 for a plain gradient or proximal gradient step.

    Returns:
      A real scalar.
    """
    near = 1e3 * jnp.finfo(linalg.real_dtype(z)).eps * linalg.norm(z)
    moved = linalg.norm(jax.tree.map(jnp.subtract, z, previous))
    turned = linalg.norm(jax.tree.map(jnp.subtract, grad, grad_previous))
    return jnp.where(moved > near, step_size / bound * turned / jnp.where(moved > near, moved, 1), 0)
