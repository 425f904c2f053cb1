"""The twisted diffusion sampler: particles, guided, weighted and drawn anew, so that their law becomes exact with their number."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from medjax import checks, linalg
from medjax.diffusion.moments import bridged, bridged_log_misfit, log_evidence, log_misfit, moments, posterior_draw
from medjax.samplers.particles import drawn_anew, effective_sample_size, of_images, systematic
from medjax.typing import Kernel, Operator


def twisted_smc(
    A: Operator,
    y,
    sigma_y=1.0,
    *,
    num_krylov: int = 20,
    dense: bool = False,
    threshold: float = 0.5,
    at_once: int = 64,
    isotropic_above=jnp.inf,
    variance=1.0,
) -> Kernel:
    r"""Sequential Monte Carlo on a particle axis: the reverse diffusion of the prior, twisted by what the data say of x0 given x.

    .. math::
        \psi(x) = N(y; A D, \Sigma_y + A C A^H), \quad x' \sim p(x' \mid x, y) \propto p(x' \mid x) \, p(y \mid x', x), \quad
        w = \frac{\psi(x')}{p(y \mid x', x)}

    with the Gaussian transition p(x' | x) of mean and covariance :math:`D + \rho (x - D), \; v I + (1 - \rho)^2 C`, rho = sigma'^2 / sigma^2, where
    C = sigma^2 J is the covariance of x0 given x. Then numerator and denominator say the same of y, by D at x' and by D at x: for a Gaussian prior
    w = 1, for any number of steps. With many particles their law is that of the model that these transitions make, at any step size.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      num_krylov: products with C of each root and each system.
      dense: solve the systems of y by their matrix, with determinants; for few data. Otherwise the determinants of Sigma_y + A C A^H of the two
        C in w are taken as equal.
      threshold: particles are drawn anew where their effective number is below this share of them, and in the last step.
      at_once: particles that one batch holds.
      isotropic_above, variance: of `moments`, for a learned denoiser.

    Returns:
      A `Kernel` for x `[p, ...]`, p particles that each start at sigmas[0]; two denoiser calls a step, for the denoiser of the prior.

    Raises:
      ValueError: for data that do not fit the operator, sigma_y that is not positive, a number that is out of range, or, in `sample`, levels that
        do not end at 0.

    Reference:
      Wu et al. (2023), Practical and asymptotically exact conditional sampling in diffusion models, algorithm 1,
      https://arxiv.org/abs/2306.17775; there C is 0 in the transition and r^2 I or 0 in psi, which needs many more steps.
    """
    y, root = checks.measured(A, y, sigma_y)
    checks.count(num_krylov, "num_krylov")
    checks.count(at_once, "at_once")
    checks.fraction(threshold, "threshold")
    checks.positive(variance, "variance")
    told = functools.partial(moments, isotropic_above=isotropic_above, variance=variance)

    def twist(prior):
        return log_evidence(prior, A, y, root) if dense else log_misfit(prior, A, y, root, num_krylov)

    def move(key, x, sigma, sigma_next, denoise):
        key_draw, key_noise = jax.random.split(key)
        prior, ratio = told(denoise, x, sigma), (sigma_next / sigma) ** 2
        x0 = posterior_draw(key_draw, prior, A, y, root, num_krylov)
        x_next = x0 + ratio * (x - x0) + sigma_next * jnp.sqrt(1 - ratio) * jax.random.normal(key_noise, x.shape, x.dtype)
        level = jnp.where(sigma_next > 0, sigma_next, sigma / 2)  # at 0 the last weight is 1 whatever it says
        if dense:
            return x_next, twist(bridged(prior, x, x_next, sigma, level, num_krylov))
        return x_next, bridged_log_misfit(prior, A, y, root, x, x_next, sigma, level, num_krylov)

    def step(key, x, state, sigma, sigma_next, denoise):
        keys = jax.random.split(key, x.shape[0] + 1)
        each = functools.partial(lax.map, batch_size=at_once)
        log_weights = state + each(lambda x: twist(told(denoise, x, sigma)), x)
        again = (effective_sample_size(log_weights) < threshold * x.shape[0]) | (sigma_next == 0)
        ancestors = jnp.where(again, systematic(keys[0], log_weights), jnp.arange(x.shape[0]))
        x = jnp.where(again, drawn_anew(ancestors, log_weights, x), x)
        log_weights = jnp.where(again, 0, log_weights - jnp.nanmax(log_weights))
        x, predicted = each(lambda pair: move(pair[0], pair[1], sigma, sigma_next, denoise), (keys[1:], x))
        return x, log_weights - predicted

    return Kernel(lambda x: linalg.zeros_along(of_images(x, A, y)), step, particles=True, ends_at_zero=True)
