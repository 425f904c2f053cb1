"""Decoupled annealing posterior sampling."""

import jax
import jax.numpy as jnp

from medjax import checks, lanczos, linalg
from medjax.diffusion.likelihood_gradient import likelihood_gradient
from medjax.samplers.ddim import ddim
from medjax.samplers.sample import sample
from medjax.typing import Kernel, Operator


def daps(A: Operator, y, sigma_y=1.0, *, variance=1.0, num_ode: int = 5, num_langevin: int = 50, step_size=0.5, log_likelihood=None) -> Kernel:
    r"""DAPS: from x to a clean image by the flow, from there to one that fits the data by Langevin dynamics, and noise anew.

    .. math::
        p(x_0 \mid x, y) \propto N(x_0; \hat x_0(x), r^2 I) \, p(y \mid x_0), \quad r^2 = \frac{\sigma^2 v}{\sigma^2 + v}, \quad
        x' = x_0 + \sigma' n

    Steps of Langevin's dynamics have the length step_size / (1 / r^2 + ||A / sigma_y||^2), at which they settle in every direction that the data see
    well; directions that they see a little are left where the flow put them unless `num_langevin` is large.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      variance: v, of a pixel under the prior; infinite is the paper's r = sigma.
      num_ode: Euler steps of the probability flow, the denoiser calls of a step: from sigma evenly in ln sigma to a tenth of it, then to 0.
      num_langevin: steps of Langevin's dynamics, each a product with A and its adjoint, no denoiser call.
      step_size: as a fraction of the inverse of the largest curvature, below 2.
      log_likelihood: `(y, z) -> log p(y | z)`, that of a `Noise` whose y has the unit of z, finite for negative z; Gaussian with sigma_y,
        which still tells the step, if None.

    Returns:
      A `Kernel` without state.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Zhang et al. (2024), Improving diffusion inverse problem solving with decoupled noise annealing, algorithm 1, https://arxiv.org/abs/2407.01521
    """
    y, root = checks.measured(A, y, sigma_y)
    checks.positive(variance, "variance", finite=False)
    if checks.is_concrete(step_size) and not 0 < step_size < 2:
        raise ValueError(f"daps needs a step_size above 0 and below 2, got {step_size}")
    checks.count(num_ode, "num_ode")
    if num_langevin != 0:
        checks.count(num_langevin, "num_langevin")
    largest = lanczos.operator_norm(linalg.Weighted(A, root), jax.eval_shape(A.adjoint, y)) ** 2
    force = likelihood_gradient(y, root, log_likelihood)
    fractions = jnp.append(jnp.geomspace(1.0, 0.1, num_ode), 0.0)

    def step(key, x, state, sigma, sigma_next, denoise):
        key_chain, key_noise = jax.random.split(key)
        clean, precision = sample(key, ddim(0.0), denoise, sigma * fractions, x), 1 / sigma**2 + 1 / variance
        length = step_size / (precision + largest)

        def settle(i, x0):
            noise = jax.random.normal(jax.random.fold_in(key_chain, i), x.shape, x.dtype)
            return x0 + length * (A.adjoint(force(A(x0))) + precision * (clean - x0)) + jnp.sqrt(2 * length) * noise

        x0 = jax.lax.fori_loop(0, num_langevin, settle, clean)
        return x0 + sigma_next * jax.random.normal(key_noise, x.shape, x.dtype), state

    return Kernel(lambda x: (), step)
