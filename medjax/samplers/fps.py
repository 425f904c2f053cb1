"""Filtering posterior sampling: the data are given a noise path of their own, and particles filter it."""

import functools

import jax
import jax.numpy as jnp

from medjax import checks
from medjax.diffusion.moments import Moments, data_noise, log_misfit, pull
from medjax.samplers.particles import drawn_anew, of_images, systematic
from medjax.typing import Kernel, Operator


def fps(A: Operator, y, sigma_y=1.0, *, num_krylov: int = 10) -> Kernel:
    r"""FPS-SMC: noisy data beside each noise level, and the ancestral step conditioned on them, exactly, for they are linear in x.

    .. math::
        y_\sigma = y + A w_\sigma, \; w_\sigma \sim N(0, \sigma^2 I), \quad
        p(x' \mid x, y_{\sigma'}) \propto N(x'; D + \rho (x - D), v I) \, N(y_{\sigma'}; A x', \Sigma_y)

    with :math:`\rho = \sigma'^2 / \sigma^2, \; v = \sigma'^2 (1 - \rho)`. The path w is drawn once, backwards, and shared by the particles. They
    are drawn anew by :math:`N(y_{\sigma'}; A (D + \rho (x - D)), \Sigma_y + v A A^H)`. One particle is plain FPS. The noise of y counts as new at
    every level, though it is the same, so that the law is too narrow where the data are noisy, and more particles do not mend it.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      num_krylov: conjugate gradient steps.

    Returns:
      A `Kernel` for x `[p, ...]`, p particles that each start at sigmas[0], whose state is the path; one denoiser call a step. They share the
      path, so independent samples are of different runs.

    Raises:
      ValueError: for data that do not fit the operator, sigma_y that is not positive, or num_krylov below 1.

    Reference:
      Dou & Song (2024), Diffusion posterior sampling for linear inverse problem solving: a filtering perspective, algorithms 1 and 2,
      https://openreview.net/forum?id=tplXNcHZs1, in variance-exploding coordinates with eta = 1.
    """
    y, root = checks.measured(A, y, sigma_y)
    checks.count(num_krylov, "num_krylov")

    def step(key, x, state, sigma, sigma_next, denoise):
        keys = jax.random.split(key, 5)
        (path, fresh), ratio = state, (sigma_next / sigma) ** 2
        variance = sigma_next**2 * (1 - ratio)
        bridge = sigma_next * jnp.sqrt(1 - ratio)
        noise = jax.random.normal(keys[0], path.shape, path.dtype)
        path = ratio * jnp.where(fresh, sigma * noise, path) + bridge * jax.random.normal(keys[1], path.shape, path.dtype)
        noisy = y + A(path)

        def move(key, mean, near):
            return near + pull(Moments(mean, lambda u: variance * u), A, noisy + data_noise(key, y, root) - A(near), root, num_krylov)

        mean = jax.vmap(lambda x: (1 - ratio) * denoise(x, sigma) + ratio * x)(x)
        fit = jax.vmap(functools.partial(_fit, variance, A, noisy, root, num_krylov))(mean)
        mean = drawn_anew(systematic(keys[2], fit), fit, mean)
        near = mean + bridge * jax.random.normal(keys[3], x.shape, x.dtype)
        return jax.vmap(move)(jax.random.split(keys[4], x.shape[0]), mean, near), (path, jnp.zeros_like(fresh))

    return Kernel(lambda x: (jnp.zeros_like(of_images(x, A, y)[0]), jnp.ones((), bool)), step, particles=True)


def _fit(variance, A, noisy, root, num_krylov, mean):
    """log p of the noisy data given the mean of a step."""
    return log_misfit(Moments(mean, lambda u: variance * u), A, noisy, root, num_krylov)
