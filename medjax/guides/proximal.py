"""The data-consistent image nearest to a denoised one: the solve that DDS and DiffPIR share."""

from medjax import checks, linalg
from medjax.typing import Operator


def proximal(A: Operator, y, sigma_y, num_krylov: int):
    r"""The proximal map of the data term, by a few conjugate gradient steps from where it starts.

    .. math:: (z, v) \mapsto \arg\min_u \; \| (y - A u) / \sigma_y \|^2 + \| u - z \|^2 / v

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      num_krylov: conjugate gradient steps.

    Returns:
      `(z, v) -> u`, with a variance v of z.

    Raises:
      ValueError: for data that do not fit the operator, sigma_y that is not positive, or num_krylov below 1.
    """
    y, root = checks.measured(A, y, sigma_y)
    checks.count(num_krylov, "num_krylov")
    precision = root**2
    normal = linalg.gram(A, precision)

    def prox(z, variance):
        force = A.adjoint(precision * (y - A(z)))
        return z + linalg.conjugate_gradient(lambda u: variance * normal(u) + u, variance * force, num_steps=num_krylov)

    return prox
