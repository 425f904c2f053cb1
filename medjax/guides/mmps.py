"""Moment matching posterior sampling."""

import jax.numpy as jnp

from medjax import checks
from medjax.diffusion.moments import moments
from medjax.linalg import conjugate_gradient
from medjax.typing import Guide, Operator


def mmps(
    A: Operator, y, sigma_y=1.0, *, num_krylov: int = 5, balance: float = 100.0, isotropic_above: float = jnp.inf, variance: float = 1.0
) -> Guide:
    r"""MMPS: the posterior mean under the Gaussian that has the denoiser's own mean and covariance.

    .. math::
        D_y(x, \sigma) = D + C A^H (\Sigma_y + A C A^H)^{-1} (y - A D), \quad C = \sigma^2 J^T, \; J = \nabla_x D(x, \sigma)

    sigma^2 J is Cov[x0 | x] by Tweedie's second formula, so the guide is exact for a Gaussian prior. The system is solved by conjugate gradient with
    the preconditioner P = Sigma_y + b m I, m the median of sigma_y^2, which leaves the solution of the system. b = 0 whitens the data, and then the
    few rays of least noise decide alone where the solve goes; a large b is the system of the paper. A learned C is neither quite symmetric nor
    quite positive: a direction of negative curvature or a residual that grows threefold ends the solve.

    At much noise sigma^2 J is the small difference of large numbers, and for a learned D useless. There `isotropic_above` takes C = r^2 I with
    r^2 = sigma^2 v / (sigma^2 + v), as in `dds`, which also saves the derivative.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      num_krylov: conjugate gradient steps; each costs one vector-Jacobian product of the denoiser.
      balance: b of the preconditioner; without effect where all data have one noise level.
      isotropic_above: noise level sigma above which C = r^2 I; never by default.
      variance: v, what remains unknown of a pixel there, to be tuned; less than the prior's variance, for neighbours tell of each other.

    Returns:
      A `Guide`.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Rozet et al. (2024), moment matching posterior sampling, https://arxiv.org/abs/2405.13712; C = r^2 I is that of Song et al. (2023),
      pseudoinverse-guided diffusion models.
    """
    y, root = checks.measured(A, y, sigma_y)
    checks.count(num_krylov, "num_krylov")
    checks.nonnegative(balance, "balance")
    checks.positive(isotropic_above, "isotropic_above", finite=False)
    checks.positive(variance, "variance")
    middle = jnp.nanmedian(jnp.where(root > 0, 1 / jnp.where(root > 0, root, 1) ** 2, jnp.nan))
    share = 1 / (1 + balance * jnp.where(jnp.isnan(middle), 0, middle) * root**2)  # of Sigma_y in P
    scale = root * jnp.sqrt(share)  # P^{-1/2}

    def guide(denoise):
        def guided(x, sigma):
            denoised, covariance = moments(denoise, x, sigma, isotropic_above, variance)
            u = conjugate_gradient(
                lambda u: share * u + scale * A(covariance(A.adjoint(scale * u))),
                scale * (y - A(denoised)),
                num_steps=num_krylov,
                growth=3.0,
            )
            return denoised + covariance(A.adjoint(scale * u))

        return guided

    return guide
