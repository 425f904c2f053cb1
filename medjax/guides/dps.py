"""Diffusion posterior sampling."""

import jax
import jax.numpy as jnp

from medjax.linalg import norm
from medjax.typing import Guide, Operator


def dps(A: Operator, y, sigma_y=1.0, *, zeta: float = 1.0) -> Guide:
    r"""DPS: move along the gradient of the residual of the denoised image.

    .. math::
        D_y(x, \sigma) = D - \zeta \sigma \, \nabla_x \| (y - A D(x, \sigma)) / \sigma_y \| \cdot \sigma_y^{rms}

    The paper subtracts the gradient after a DDPM step; as a change of the denoiser it composes with every kernel, and with `ddim(1.0)` the
    two agree to first order in the step, up to the constant zeta. The weights 1 / sigma_y let rays of different noise count rightly; for
    one noise level they cancel and the paper's norm is left.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y.
      zeta: step size; larger fits the data more. There is no right value: DPS is not calibrated.

    Returns:
      A `Guide`.

    Reference:
      Chung et al. (2023), algorithm 1, https://arxiv.org/abs/2209.14687
    """
    weight = jnp.sqrt(jnp.mean(jnp.asarray(sigma_y) ** 2)) / sigma_y

    def guide(denoise):
        def guided(x, sigma):
            denoised, vjp = jax.vjp(lambda x: denoise(x, sigma), x)
            residual = weight * (y - A(denoised))
            (uphill,) = vjp(A.adjoint(weight * residual))
            return denoised + zeta * sigma * uphill / jnp.maximum(norm(residual), 1e-12)

        return guided

    return guide
