"""Landweber iteration."""

import jax
import jax.numpy as jnp

from medjax import lanczos, linalg
from medjax.solvers.measured import measured
from medjax.solvers.proximal_gradient import proximal_gradient
from medjax.typing import Operator, Solver


def landweber(A: Operator, y, sigma_y=1.0, step_size=None, nonnegative: bool = False) -> Solver:
    r"""Gradient descent on weighted least squares; stopped early it is a regularisation.

    .. math:: x_{k+1} = P \left( x_k + \tau A^H \sigma_y^{-2} (y - A x_k) \right)

    The error along a singular vector of :math:`\sigma_y^{-1} A` with singular value s shrinks by :math:`1 - \tau s^2` at each step. P is the identity
    or the projection onto x >= 0.

    Args:
      A: operator; by its `normal` where it has one and sigma_y is a scalar.
      y: data, real or complex.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured.
      step_size: tau, below 2 / ||A / sigma_y||^2; half of that, from the operator norm, if None.
      nonnegative: projects a real x onto x >= 0.

    Returns:
      A `Solver`.

    Raises:
      ValueError: for a known sigma_y or step size that is not positive.

    Reference:
      Landweber (1951), An iteration formula for Fredholm integral equations of the first kind, https://doi.org/10.2307/2372313
    """
    y, root = measured(y, sigma_y)
    gram, back = linalg.gram(A, root**2), A.adjoint(root**2 * y)
    if step_size is None:
        norm = lanczos.operator_norm(linalg.Weighted(A, root), back, 20)
        step_size = 1 / jnp.where(norm > 0, norm, 1) ** 2

    def project(x, _):
        return jax.tree.map(lambda u: jnp.maximum(u, 0), x) if nonnegative else x

    return proximal_gradient(lambda x: jax.tree.map(jnp.subtract, gram(x), back), project, step_size)
