"""Moment matching posterior sampling."""

import jax
import jax.numpy as jnp

from medjax.linalg import conjugate_gradient
from medjax.typing import Guide, Operator


def mmps(A: Operator, y, sigma_y=1.0, *, num_krylov: int = 5) -> Guide:
    r"""MMPS: the posterior mean under the Gaussian that has the denoiser's own mean and covariance.

    .. math::
        D_y(x, \sigma) = D + \sigma^2 J^T A^H (\Sigma_y + A \sigma^2 J^T A^H)^{-1} (y - A D), \quad J = \nabla_x D(x, \sigma)

    sigma^2 J is Cov[x0 | x] by Tweedie's second formula, so the guide is exact for a Gaussian prior. The system is solved by conjugate gradient in
    whitened data, (I + W A C A^H W) u = W (y - A D) with W = 1 / sigma_y, which leaves the answer and evens out rays of different noise. A
    learned C is neither quite symmetric nor quite positive, and conjugate gradient can then diverge: a direction of negative curvature or a
    residual that grows threefold ends the solve.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y.
      num_krylov: conjugate gradient steps; each costs one vector-Jacobian product of the denoiser.

    Returns:
      A `Guide`.

    Reference:
      Rozet et al. (2024), moment matching posterior sampling, https://arxiv.org/abs/2405.13712
    """
    whiten = 1 / jnp.asarray(sigma_y)

    def guide(denoise):
        def guided(x, sigma):
            denoised, vjp = jax.vjp(lambda x: denoise(x, sigma), x)

            def covariance(v):
                return sigma**2 * vjp(v)[0]

            u = conjugate_gradient(
                lambda u: u + whiten * A(covariance(A.adjoint(whiten * u))),
                whiten * (y - A(denoised)),
                num_steps=num_krylov,
                growth=3.0,
            )
            return denoised + covariance(A.adjoint(whiten * u))

        return guided

    return guide
