"""Tweedie moment projected diffusion."""

import jax
import jax.numpy as jnp
from jax import lax

from medjax import checks, linalg
from medjax.typing import Guide, Operator


def tmpd(A: Operator, y, sigma_y=1.0) -> Guide:
    r"""TMPD: the posterior mean under the denoiser's own covariance, whose image in the data is made diagonal by its row sums.

    .. math::
        D_y(x, \sigma) = D + C A^H \frac{y - A D}{\Sigma_y + A C A^H 1}, \quad C = \sigma^2 J^T, \; J = \nabla_x D(x, \sigma)

    Row sums are the diagonal where A C A^H is diagonal, and larger where neighbours agree. Where they are negative, which operators with negative
    entries can cause and the paper's masks cannot, their size is taken. Of complex data real and imaginary part are separate entries.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.

    Returns:
      A `Guide`; one denoiser call and two vector-Jacobian products.

    Raises:
      ValueError: for data that do not fit the operator, or sigma_y that is not positive.

    Reference:
      Boys et al. (2023), the diagonal approximation of their fast variant, https://arxiv.org/abs/2310.06721
    """
    y, root = checks.measured(A, y, sigma_y)
    ones = jnp.full(y.shape, 1 + 1j if jnp.iscomplexobj(y) else 1, y.dtype)

    def divided(residual, sums):
        """residual / (Sigma_y + sums) of real numbers."""
        return root**2 * residual / (1 + root**2 * jnp.abs(sums))

    def guide(denoise):
        def guided(x, sigma):
            denoised, vjp = jax.vjp(lambda x: denoise(x, sigma), x)
            given = A.adjoint((root > 0) * ones) + linalg.zero_tied_to(denoised, denoised.dtype)
            residual, sums = y - A(denoised), sigma**2 * A(vjp(given)[0])
            if jnp.iscomplexobj(y):
                weighed = lax.complex(divided(residual.real, sums.real), divided(residual.imag, sums.imag))
            else:
                weighed = divided(residual, sums)
            return denoised + sigma**2 * vjp(A.adjoint(weighed))[0]

        return guided

    return guide
