"""Regularisation by denoising diffusion."""

import jax
import jax.numpy as jnp
import optax

from medjax import checks, linalg
from medjax.diffusion.likelihood_gradient import likelihood_gradient
from medjax.typing import Kernel, Operator


def red_diff(A: Operator, y, sigma_y=1.0, *, weight: float = 0.25, optimiser=None, log_likelihood=None, variance: float = 1.0) -> Kernel:
    r"""RED-diff: the mean of a variational posterior descends on data term and denoising residual, one noise level a step.

    .. math::
        \min_\mu \; -\log p(y | A \mu) + \lambda \sigma \, \overline{\sigma_y^{-2}} \langle \epsilon(x) - n, \mu \rangle, \quad
        x = \mu + \sigma n, \; \epsilon(x) = (x - D(x, \sigma)) / \sigma

    where :math:`\epsilon(x) - n` counts as constant. It looks for one likely image: its draws differ by the noise alone and say nothing of the
    posterior's spread. The image x of the sampling loop is mu; the start given to `sample` only lends its shape.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      weight: lambda; 0.25 is the paper's, whose data term is || y - A mu ||^2 / 2: the mean of sigma_y^-2 stands beside lambda here.
      optimiser: of optax; the paper's Adam with step size 0.1 if None.
      log_likelihood: `(y, z) -> log p(y | z)`, that of a `Noise` whose y has the unit of z, finite for negative z; Gaussian with sigma_y if
        None.
      variance: v, of a pixel, in the start (A^H Sigma_y^-1 A + I / v)^-1 A^H Sigma_y^-1 y, by 20 conjugate gradient steps; infinite is the paper's.

    Returns:
      A `Kernel` whose state is mu and that of the optimiser; one denoiser call a step, no derivative of it.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Mardani et al. (2024), algorithm 1 with the weight sigma_t / alpha_t, https://arxiv.org/abs/2305.04391
    """
    y, root = checks.measured(A, y, sigma_y)
    checks.nonnegative(weight, "weight")
    prior = weight * jnp.sum(root**2) / jnp.maximum(jnp.sum(root > 0), 1)
    checks.positive(variance, "variance", finite=False)
    normal, force = linalg.gram(A, root**2), likelihood_gradient(y, root, log_likelihood)
    optimiser = optax.adam(0.1, b1=0.9, b2=0.99) if optimiser is None else optimiser

    def init(x):
        start = linalg.conjugate_gradient(lambda u: normal(u) + u / variance, A.adjoint(root**2 * y), num_steps=20)
        start = start.astype(x.dtype) + linalg.zero_tied_to(x, x.dtype)
        return start, optimiser.init(start)

    def step(key, x, state, sigma, sigma_next, denoise):
        mean, memory = state
        noise = jax.random.normal(key, mean.shape, mean.dtype)
        noisy = mean + sigma * noise
        residual = (noisy - denoise(noisy, sigma)) / sigma - noise
        updates, memory = optimiser.update(prior * sigma * residual - A.adjoint(force(A(mean))), memory, mean)
        mean = mean + updates
        return mean, (mean, memory)

    return Kernel(init, step)
