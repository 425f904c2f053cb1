"""The factor by which expectation maximisation for Poisson data multiplies an image."""

import jax
import jax.numpy as jnp

from medjax.solvers.inverse_sums import inverse_sums


def em_factor(A, y, background, sensitivity, x):
    r""":math:`A^T (y / (A x + b)) / s`, and 1 for pixels of sensitivity 0.

    A bin with nothing expected tells nothing of x. For an operator that rings, see `inverse_sums`, that is one where no more is expected than the
    most negative of A x is large: a count in a ray beside the object would else be divided by next to nothing.

    Args:
      A: operator.
      y: counts, an array or pytree.
      background: b, like y.
      sensitivity: s = A^T 1, like x.
      x: image, not negative.

    Returns:
      Like x, not negative.
    """

    def ratio(counts, b, Ax):
        mean = Ax + b
        telling = mean > jnp.maximum(-jnp.min(Ax), 0)
        return jnp.where(telling, counts / jnp.where(telling, mean, 1), 1)

    ratios, inverse = jax.tree.map(ratio, y, background, A(x)), inverse_sums(sensitivity)
    return jnp.where(inverse > 0, jnp.maximum(A.adjoint(ratios), 0) * inverse, 1)
