"""Manifold constrained gradients."""

import jax

from medjax import checks
from medjax.diffusion.misfit_step import misfit_step
from medjax.samplers.ddim import ddim
from medjax.samplers.projection import projection
from medjax.typing import Kernel, Operator


def mcg(A: Operator, y, sigma_y=1.0, *, zeta: float = 1.0, weight: float = 1.0, variance: float = 1.0, num_krylov: int = 20) -> Kernel:
    r"""MCG: an ancestral step along the gradient of the misfit, then a projection onto the data at the next noise level.

    .. math::
        D_y = D - \zeta \frac{\sigma^2}{\beta(\sigma)} \nabla_x \| (y - A D) / \sigma_y \| \cdot \sigma_y^{rms}, \quad
        u = D_y + \frac{\sigma'^2}{\sigma^2} (x - D_y) + \frac{\sigma' \sqrt{\sigma^2 - \sigma'^2}}{\sigma} n, \quad
        x' = u + \lambda A^+ (y + \sigma' A n' - A u)

    The gradient is taken as in `dps`, as a change of the denoised image, where the paper subtracts it after the step; after the projection only its
    part in the null space of A is left. The last step, to level 0, puts the noise of y into the image, as the paper does.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      zeta: step size of the gradient.
      weight: lambda in [0, 1] of the projection.
      variance: v of the projection; infinite is the paper's.
      num_krylov: conjugate gradient steps of the projection.

    Returns:
      A `Kernel` without state, one denoiser call and one vector-Jacobian product a step.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Chung, Sim, Ryu & Ye (2022), algorithm 1, https://arxiv.org/abs/2206.00941; the norm is not squared, as in the authors' code.
    """
    downhill, move = misfit_step(A, y, sigma_y), ddim(1.0).step
    project = projection(A, y, sigma_y, weight=weight, variance=variance, num_krylov=num_krylov).step
    checks.nonnegative(zeta, "zeta")

    def step(key, x, state, sigma, sigma_next, denoise):
        def guided(x, sigma):
            denoised, change = downhill(denoise, x, sigma)
            return denoised + zeta * change

        key_move, key_project = jax.random.split(key)
        x, _ = move(key_move, x, (), sigma, sigma_next, guided)
        return project(key_project, x, state, sigma_next, sigma_next, denoise)

    return Kernel(lambda x: (), step)
