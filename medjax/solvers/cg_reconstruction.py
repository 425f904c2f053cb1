"""Tikhonov-regularised least squares by conjugate gradients; with `sense`, CG-SENSE."""

import jax

from medjax import checks, linalg
from medjax.solvers.conjugate_gradient import conjugate_gradient
from medjax.solvers.data_term import data_term
from medjax.typing import Operator, Solver


def cg_reconstruction(A: Operator, y, sigma_y, strength=0.0, G: Operator | None = None) -> Solver:
    r"""Weighted least squares with a quadratic penalty, for data of known noise.

    .. math:: \min_x \tfrac12 \left\| \frac{A x - y}{\sigma_y} \right\|^2 + \tfrac{\lambda}{2} \|G x\|^2, \qquad
        (A^H W A + \lambda G^H G) \, x = A^H W y, \quad W = 1 / \sigma_y^2

    Where y is undersampled and lambda 0, x0 stays in x as far as A does not see it: begin at 0, and the number of steps regularises.

    Args:
      A: operator, linear over the reals at least; by its `normal` where it has one and sigma_y is a scalar.
      y: data.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured.
      strength: lambda >= 0, a scalar; with sigma_y = 1 that of the unweighted problem.
      G: operator on x, such as `gradient`; the identity if None.

    Returns:
      A `Solver`, whose `change` is the relative residual of the normal equations.

    Raises:
      ValueError: for a known strength below zero, a known sigma_y that is not positive.

    Reference:
      Pruessmann, Weiger, Boernert & Boesiger (2001), Advances in sensitivity encoding with arbitrary k-space trajectories,
      https://doi.org/10.1002/mrm.1241, without its intensity and density corrections, which change the problem that is solved.
    """
    checks.nonnegative(strength, "strength of cg_reconstruction")
    data = data_term(A, y, sigma_y)
    penalty = (lambda x: x) if G is None else linalg.gram(G)
    return conjugate_gradient(lambda x: jax.tree.map(lambda a, b: a + strength * b, data.gram(x), penalty(x)), data.back)
