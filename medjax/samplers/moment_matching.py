"""Posterior sampling by draws of the Gaussian that matches the denoiser's mean and covariance."""

import jax
import jax.numpy as jnp

from medjax import checks
from medjax.diffusion.moments import draw, moments, posterior_draw
from medjax.typing import Kernel, Operator


def moment_matching(
    A: Operator | None = None, y=None, sigma_y=1.0, *, num_krylov: int = 10, eta: float = 1.0, isotropic_above=jnp.inf, variance=1.0
) -> Kernel:
    r"""A draw of x0 given x and y under the denoiser's own Gaussian, then back to the next noise level.

    .. math::
        x_0 \sim N(D_y, C_y), \quad
        x' = x_0 + \sqrt{\sigma'^2 - v} \, \frac{x - x_0}{\sigma} + \sqrt{v} \, n, \quad
        v = \eta^2 \frac{\sigma'^2 (\sigma^2 - \sigma'^2)}{\sigma^2}

    with D_y the posterior mean of `mmps` and :math:`C_y = C - C A^H (\Sigma_y + A C A^H)^{-1} A C`, C = sigma^2 J. Where `ddim` puts the mean D in
    the place of x0, and so loses the spread of x0 within each step, here it is drawn: for a Gaussian prior the law is exact for any number of steps
    (if the solves of `pull` reach their end).

    Args:
      A: operator, `x -> y`; None for draws of the prior.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      num_krylov: steps of Lanczos' method for the root of C, and of conjugate gradient for the data, each one vector-Jacobian product.
      eta: share of the ancestral noise, in [0, 1].
      isotropic_above, variance: of `moments`, for a learned denoiser.

    Returns:
      A `Kernel` without state, one denoiser call a step, for the denoiser of the prior.

    Raises:
      ValueError: for data that do not fit the operator, sigma_y that is not positive, or a number that is out of range.

    Reference:
      The covariance of the step is the optimal one of Bao et al. (2022), https://arxiv.org/abs/2206.07309, in full; conditioning as in Rozet et al.
      (2024), https://arxiv.org/abs/2405.13712. Drawing x0 by perturbed data is ours.
    """
    y, root = (None, None) if A is None else checks.measured(A, y, sigma_y)
    checks.count(num_krylov, "num_krylov")
    checks.fraction(eta, "eta")
    checks.positive(variance, "variance")

    def step(key, x, state, sigma, sigma_next, denoise):
        key_draw, key_noise = jax.random.split(key)
        prior = moments(denoise, x, sigma, isotropic_above, variance)
        x0 = draw(key_draw, prior, num_krylov) if A is None else posterior_draw(key_draw, prior, A, y, root, num_krylov)
        ratio = sigma_next / sigma
        fresh, kept = eta * jnp.sqrt(1 - ratio**2), 1 - eta**2 * (1 - ratio**2)
        direction = ratio * jnp.sqrt(jnp.where(kept > 0, kept, 1))  # kept is 0 only where ratio is
        return x0 + direction * (x - x0) + sigma_next * fresh * jax.random.normal(key_noise, x.shape, x.dtype), state

    return Kernel(lambda x: (), step)
