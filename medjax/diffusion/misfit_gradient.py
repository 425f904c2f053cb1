"""How the denoised image would fit the data better: the gradient that DPS and MCG follow."""

import jax
import jax.numpy as jnp

from medjax import checks, linalg
from medjax.diffusion.likelihood_gradient import likelihood_gradient
from medjax.typing import Operator


def misfit_gradient(A: Operator, y, sigma_y=1.0, log_likelihood=None):
    r"""The denoised image and the direction in which its misfit m falls.

    .. math::
        m(x) = \sigma_y^{rms} \, \| (y - A D(x, \sigma)) / \sigma_y \| \quad \text{or} \quad
        m(x) = \sigma_y^{rms} \sqrt{2 \log p(y | y) - 2 \log p(y | A D(x, \sigma))}

    The two are equal for Gaussian noise; the second is the root of the deviance of any noise whose likelihood is largest at z = y.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      log_likelihood: `(y, z) -> log p(y | z)`, that of a `Noise`; Gaussian with sigma_y if None.

    Returns:
      `(denoise, x, sigma) -> (D, -grad m(x))`.

    Raises:
      ValueError: for data that do not fit the operator, or sigma_y that is not positive.
    """
    y, root = checks.measured(A, y, sigma_y)
    known, force = root > 0, likelihood_gradient(y, root, log_likelihood)
    variances = jnp.where(known, 1 / jnp.where(known, root, 1) ** 2, 0)
    square = jnp.sum(variances) / jnp.maximum(jnp.sum(known), 1)

    def pull(z):
        """m^2 / square and half its downhill gradient, in the data."""
        if log_likelihood is None:
            return linalg.vdot(root * (y - z), root * (y - z)), force(z)
        return 2 * (log_likelihood(y, y) - log_likelihood(y, jnp.where(known, z, y))), force(z)

    def gradient(denoise, x, sigma):
        denoised, vjp = jax.vjp(lambda x: denoise(x, sigma), x)
        misfit, slope = pull(A(denoised))
        (uphill,) = vjp(A.adjoint(square * slope))
        return denoised, uphill / jnp.sqrt(jnp.maximum(square * misfit, 1e-24))

    return gradient
