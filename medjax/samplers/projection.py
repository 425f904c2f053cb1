"""Projection onto noisy data, the corrector of score-based medical image reconstruction."""

import jax

from medjax import checks, linalg
from medjax.typing import Kernel, Operator


def projection(A: Operator, y, sigma_y=1.0, *, weight: float = 1.0, variance: float = 1.0, num_krylov: int = 20) -> Kernel:
    r"""The noisy image moves towards the nearest one whose data are those measured, with the diffusion's noise on them.

    .. math:: x' = x + \lambda A^+ (y_\sigma - A x), \quad y_\sigma = y + \sigma A n

    For the pseudoinverse A^+ this is the solution of min_z (1 - lambda) ||z - x||^2 + lambda min_u ||z - u||^2 with A u = y_sigma, the paper's,
    whose data have no noise; as in `ddnm` a finite v puts (A^H Sigma_y^-1 A + I / v)^-1 A^H Sigma_y^-1 in its place. A corrector that leaves the
    noise level where it
    is: the paper's sampler is `chain(projection(A, y), ddim(1.0))`.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      weight: lambda in [0, 1]; 1 projects.
      variance: v, the prior variance of a pixel, against which the noise of y is weighed; infinite is the paper's.
      num_krylov: conjugate gradient steps; one is exact for orthonormal rows.

    Returns:
      A `Kernel` without state and without denoiser calls.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Song, Shen, Xing & Ermon (2022), eq. 10 and algorithm 2, https://arxiv.org/abs/2111.08005, for A = P(Lambda) T with an orthonormal T; A^+
      stands for T^{-1} P^{-1}(Lambda) of any A.
    """
    y, root = checks.measured(A, y, sigma_y)
    checks.fraction(weight, "weight")
    checks.positive(variance, "variance", finite=False)
    checks.count(num_krylov, "num_krylov")
    normal = linalg.gram(A, root**2)

    def step(key, x, state, sigma, sigma_next, denoise):
        noisy = y + sigma * A(jax.random.normal(key, x.shape, x.dtype))
        force = A.adjoint(root**2 * (noisy - A(x)))
        change = linalg.conjugate_gradient(lambda u: normal(u) + u / variance, force, num_steps=num_krylov)
        return x + weight * change, state

    return Kernel(lambda x: (), step)
