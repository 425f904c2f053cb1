"""The data term that reconstructions share: its value, gradient and proximal step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from medjax import checks, lanczos, linalg
from medjax.solvers.measured import measured
from medjax.typing import Operator


class DataTerm(NamedTuple):
    """f(x) = ||(A x - y) / sigma_y||^2 / 2.

    value: x -> f(x).
    grad: x -> its gradient, gram(x) - back.
    gram: x -> A^H W A x, with W = 1 / sigma_y^2.
    back: A^H W y.
    prox: `(v, tau, start) -> argmin_x f(x) + ||x - v||^2 / (2 tau)`.
    curvature: `() -> ||A / sigma_y||^2`, the Lipschitz constant of the gradient, a little more rather than less.
    dtype: the real dtype of x.
    """

    value: Callable
    grad: Callable
    gram: Callable
    back: Any
    prox: Callable
    curvature: Callable
    dtype: Any


def data_term(A: Operator, y, sigma_y, tolerance=1e-5, num_krylov: int = 100) -> DataTerm:
    r"""Weighted least squares, for data of known Gaussian noise.

    .. math:: f(x) = \tfrac12 \left\| \frac{A x - y}{\sigma_y} \right\|^2

    The proximal step solves :math:`(I + \tau A^H W A) x = v + \tau A^H W y`, W = 1 / sigma_y^2, by conjugate gradient on what is missing at
    `start`, so that a fixed point of a method is one whatever the tolerance; it is differentiated as the solution of that system.

    Args:
      A: operator; by its `normal` where it has one and sigma_y is a scalar.
      y: data, real or complex.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured, and
        then y may be anything.
      tolerance: of the proximal step, on the residual of its system over that at `start`.
      num_krylov: the most steps of conjugate gradient.

    Returns:
      A `DataTerm`.

    Raises:
      ValueError: for a known sigma_y, tolerance or number of steps that is not above 0.

    Reference:
      Hestenes & Stiefel (1952), eq. 3:1; the derivative of the solution by `lax.custom_linear_solve`.
    """
    for number, what in ((tolerance, "tolerance"), (num_krylov, "num_krylov")):
        checks.positive(number, what)
    y, root = measured(y, sigma_y)
    weight = root**2
    gram, back = linalg.gram(A, weight), A.adjoint(weight * y)

    def value(x):
        error = A(x) - y
        return linalg.vdot(error, weight * error) / 2

    def prox(v, tau, start):
        def matvec(x):
            return x + tau * gram(x)

        missing = v - start + tau * (back - gram(start))
        found = start + cg(matvec, missing, tol=tolerance, maxiter=num_krylov)[0]
        return jnp.where(jnp.isfinite(linalg.norm(missing)), found, jnp.nan)  # of NaN it makes 0

    def curvature():
        return (1.02 * lanczos.operator_norm(linalg.Weighted(A, root), back, 20)) ** 2  # the estimate is a lower bound

    return DataTerm(value, lambda x: jax.tree.map(jnp.subtract, gram(x), back), gram, back, prox, curvature, linalg.real_dtype(back))
