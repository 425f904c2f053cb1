"""Plug-and-play half-quadratic splitting with a falling noise level."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from medjax import checks, linalg
from medjax.solvers.data_term import data_term
from medjax.solvers.noise_level import noise_level
from medjax.typing import Denoiser, Info, Operator, Solver


class DpirState(NamedTuple):
    """x: denoised iterate; fitted: the one before the denoiser, which fits the data; k: steps done, at most num_steps - 1."""

    x: Any
    fitted: Any
    k: Array


def dpir(
    A: Operator, y, sigma_y, denoise: Denoiser, sigma_max, sigma_min, num_steps: int = 8, strength=0.23, tolerance=1e-5, num_krylov: int = 100
) -> Solver:
    r"""DPIR: half-quadratic splitting, its penalty rising as the noise level of the denoiser falls.

    .. math::
        z_k = \arg\min_z \left\| \frac{A z - y}{\sigma_y} \right\|^2 + \mu_k \|z - x_{k-1}\|^2, \quad x_k = D(z_k, \sigma_k), \quad
        \mu_k = \lambda / \sigma_k^2

    with :math:`\sigma_1, \ldots, \sigma_K` evenly spaced in their logarithms; the paper's :math:`\alpha_k = \lambda \sigma^2 / \sigma_k^2` is
    :math:`\mu_k \sigma_y^2`. Steps beyond K stay at sigma_min. Where :math:`D(\cdot, \sigma)` is the prox of :math:`\sigma^2 R` the limit of z then
    minimises half the first term plus :math:`\lambda` times the Moreau envelope of R at sigma_min^2, and x is D of it: with sigma_min to 0 both
    tend to the minimum with R itself, which for strength 1 and the exact denoiser of a Gaussian prior is the exact MAP. A schedule that falls slowly
    gets there in one run.

    Args:
      A: operator; x real or complex, of any shape that the denoiser takes.
      y: data, real or complex.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured.
      denoise: D.
      sigma_max: first noise level, in units of x; the paper has 49 / 255 of the range of its images.
      sigma_min: last noise level; the paper has the noise level of y, whose units are those of x there.
      num_steps: K, the steps to sigma_min; run as many.
      strength: lambda > 0; the paper's .23 fits more than Bayes' rule, 1, would.
      tolerance: of the step on the data, relative, see `data_term`; it does not move the limit.
      num_krylov: the most conjugate gradient steps of it.

    Returns:
      A `Solver` whose x is the denoised iterate.

    Raises:
      ValueError: for numbers that are known and not above 0, or sigma_min above sigma_max.

    Reference:
      Zhang, Li, Zuo, Zhang, Van Gool & Timofte (2021), Plug-and-play image restoration with deep denoiser prior, algorithm 1,
      https://arxiv.org/abs/2008.13751, defaults as in https://github.com/cszn/DPIR
    """
    for number, what in ((strength, "strength"), (num_steps, "num_steps")):
        checks.positive(number, what)
    if checks.is_concrete(sigma_min, sigma_max) and sigma_min > sigma_max:
        raise ValueError(f"sigma_min is {sigma_min:.4g} and sigma_max {sigma_max:.4g}: a noise level that falls is needed")
    data = data_term(A, y, sigma_y, tolerance, num_krylov)
    low, high = (jnp.log(noise_level(s, data.dtype, what)) for s, what in ((sigma_min, "sigma_min"), (sigma_max, "sigma_max")))

    def init(x0):
        return DpirState(x0, x0, jnp.zeros((), data.dtype))

    def step(state):
        left = (num_steps - 1 - state.k) / jnp.maximum(num_steps - 1, 1)  # from 1 to 0
        sigma = jnp.exp(low + left * (high - low))
        fitted = data.prox(state.x, sigma**2 / strength, state.fitted)
        x = denoise(fitted, sigma)
        change = linalg.change(x, state.x)
        return DpirState(x, fitted, jnp.minimum(state.k + 1, num_steps - 1)), Info(change, jnp.zeros_like(change))

    return Solver(init, step)
