"""Pseudoinverse-guided diffusion."""

import jax

from medjax import checks
from medjax.linalg import conjugate_gradient
from medjax.typing import Guide, Operator


def pigdm(A: Operator, y, sigma_y=1.0, *, variance: float = 1.0, adaptive: bool = False, num_krylov: int = 20) -> Guide:
    r"""PiGDM: the posterior mean's correction under an isotropic covariance of x0, through the denoiser's derivative.

    .. math::
        D_y(x, \sigma) = D + \sigma^2 J^T A^H (r^2 A A^H + \Sigma_y)^{-1} (y - A D), \quad
        r^2 = \frac{\sigma^2 v}{\sigma^2 + v}, \; J = \nabla_x D(x, \sigma)

    This is the paper's guided score, put into Tweedie's formula. Its algorithm weighs the term by r^2 in the place of sigma^2 (`adaptive`) and adds
    all of it to x' after a DDIM step, where here a kernel takes its share 1 - sigma' / sigma of a change of D. The paper takes v = 1 and solves by a
    singular value decomposition; here conjugate gradient does for any operator. Where the prior's variance in some direction is far above v, such as
    that of smooth images, sigma^2 J overshoots at much noise, and a few steps diverge: then take v larger, or `adaptive`.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      variance: v, the prior variance of a pixel.
      adaptive: the paper's weight r^2 in the place of sigma^2, which is smaller at much noise; it keeps few steps stable.
      num_krylov: conjugate gradient steps, each one product with A and its adjoint.

    Returns:
      A `Guide`; one denoiser call and one vector-Jacobian product.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Song, Vahdat, Mardani & Kautz (2023), pseudoinverse-guided diffusion models, https://openreview.net/forum?id=9_gsMA8MRKQ
    """
    y, root = checks.measured(A, y, sigma_y)
    checks.count(num_krylov, "num_krylov")
    checks.positive(variance, "variance")

    def guide(denoise):
        def guided(x, sigma):
            denoised, vjp = jax.vjp(lambda x: denoise(x, sigma), x)
            spread = sigma**2 * variance / (sigma**2 + variance)
            residual = root * (y - A(denoised))
            u = conjugate_gradient(lambda u: spread * root * A(A.adjoint(root * u)) + u, residual, num_steps=num_krylov)
            return denoised + (spread if adaptive else sigma**2) * vjp(A.adjoint(root * u))[0]

        return guided

    return guide
