"""How the denoised image would fit the data better: the step of DPS and MCG."""

import jax
import jax.numpy as jnp

from medjax import checks, linalg
from medjax.diffusion.ddpm import linear_rate
from medjax.diffusion.likelihood_gradient import likelihood_gradient
from medjax.typing import Operator


def misfit_step(A: Operator, y, sigma_y=1.0, log_likelihood=None):
    r"""The denoised image and the step of zeta = 1 down its misfit m, as a change of it.

    .. math::
        D \to D - \zeta \frac{\sigma^2}{\beta(\sigma)} \nabla_x m(x), \\
        m(x) = \sigma_y^{rms} \, \| (y - A D(x, \sigma)) / \sigma_y \| \quad \text{or} \quad
        m(x) = \sigma_y^{rms} \sqrt{2 \log p(y | y) - 2 \log p(y | A D(x, \sigma))}

    The papers subtract zeta grad m after each of 1,000 DDPM steps of the linear table beta (`ddpm.linear_rate`), in x / sqrt(1 + sigma^2). Such a
    step takes (1 - sigma_next^2 / sigma^2) D = (beta (1 + sigma^2) / sigma^2) D, so that the two are the same to first order, and the sum of all
    steps does not grow with their number. The two m are equal for Gaussian noise; the second is the root of the deviance of any noise whose
    likelihood is largest at z = y.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      log_likelihood: `(y, z) -> log p(y | z)`, that of a `Noise` whose y has the unit of z and is its most likely z, finite for negative z, too;
        Gaussian with sigma_y if None.

    Returns:
      `(denoise, x, sigma) -> (D, -sigma^2 / beta grad m(x))`.

    Raises:
      ValueError: for data that do not fit the operator, sigma_y that is not positive, or a likelihood that is larger a sigma_y beside y than at y.

    Reference:
      Chung et al. (2023), algorithm 1, https://arxiv.org/abs/2209.14687; Ho et al. (2020), section 4, for the table
    """
    y, root = checks.measured(A, y, sigma_y)
    known, force = root > 0, likelihood_gradient(y, root, log_likelihood)
    _check_mode(y, root, log_likelihood)
    variances = jnp.where(known, 1 / jnp.where(known, root, 1) ** 2, 0)
    square = jnp.sum(variances) / jnp.maximum(jnp.sum(known), 1)

    def pull(z):
        """m^2 / square and half its downhill gradient, in the data."""
        if log_likelihood is None:
            return linalg.vdot(root * (y - z), root * (y - z)), force(z)
        return 2 * (log_likelihood(y, y) - log_likelihood(y, jnp.where(known, z, y))), force(z)

    def step(denoise, x, sigma):
        denoised, vjp = jax.vjp(lambda x: denoise(x, sigma), x)
        misfit, slope = pull(A(denoised))
        (uphill,) = vjp(A.adjoint(square * slope))
        return denoised, sigma**2 / linear_rate(sigma) * uphill / jnp.sqrt(jnp.maximum(square * misfit, 1e-24))

    return step


def _check_mode(y, root, log_likelihood):
    """ValueError where y is known and is not its own most likely exact data."""
    if log_likelihood is None or not checks.is_concrete(y, root):
        return
    with checks.known_now(y, root):
        beside = jnp.where(root > 0, 1 / jnp.where(root > 0, root, 1), 0)
        at, above, below = (log_likelihood(y, y + step) for step in (0, beside, -beside))
    if not (at >= above and at >= below):
        raise ValueError(f"log p(y | z) is {max(above, below):.4g} a sigma_y beside z = y and {at:.4g} there, where its largest value is needed")
