"""Plug-and-play diffusion models: split Gibbs sampling with a diffusion prior."""

import functools
import itertools

import jax
import jax.numpy as jnp

from medjax import checks, lanczos, linalg
from medjax.diffusion.moments import data_noise
from medjax.samplers.moment_matching import moment_matching
from medjax.samplers.sample import sample
from medjax.typing import Kernel, Operator


def pnp_dm(A: Operator, y, sigma_y=1.0, *, prior: Kernel | None = None, levels=(1.0, 0.0), num_krylov: int = 10, corrected: bool = True) -> Kernel:
    r"""PnP-DM: an image that fits the data and one that fits the prior, drawn in turn given each other, ever closer together.

    .. math::
        z \sim p(z) \propto N(y; A z, \Sigma_y) \, N(z; x, \sigma^2 I), \quad x \sim p(x_0 \mid x_0 + \sigma n = z)

    sigma is the coupling rho of the paper, annealed over the levels given to `sample`. At a fixed one the law of x is the posterior of data with the
    noise :math:`\Sigma_y + \sigma^2 A A^H`, too wide, and a chain at a small coupling moves little. Where :math:`\sigma \|\Sigma_y^{-1/2} A\| < 1`
    the corrected likelihood of z, with the noise :math:`\Sigma_y - \sigma^2 A A^H` instead, makes it exact at any coupling:

    .. math:: z = x + \sigma^2 A^H \Sigma_y^{-1} (y - A x) + \sigma (I - \sigma^2 A^H \Sigma_y^{-1} A)^{1/2} n

    so the last levels lie best just below 1 / ||A / sigma_y||, see `coupling`.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      prior: stochastic kernel of the reverse diffusion that draws x given z; `moment_matching()` by default.
      levels: noise levels of that diffusion as fractions of sigma, from 1 to 0; more are closer to the prior where it is not Gaussian.
      num_krylov: steps of conjugate gradient or Lanczos' method for z.
      corrected: False for the paper's likelihood at all levels.

    Returns:
      A `Kernel` without state, `len(levels) - 1` steps of `prior` a step.

    Raises:
      ValueError: for data that do not fit the operator, sigma_y that is not positive, levels that do not fall from 1 to 0, or num_krylov below 1.

    Reference:
      Wu et al. (2024), Principled probabilistic imaging using diffusion models as plug-and-play priors, algorithm 1,
      https://arxiv.org/abs/2405.18782; the correction is ours
    """
    y, root = checks.measured(A, y, sigma_y)
    checks.count(num_krylov, "num_krylov")
    if len(levels) < 2 or levels[0] != 1 or levels[-1] != 0 or any(low >= high for high, low in itertools.pairwise(levels)):
        raise ValueError(f"pnp_dm needs falling levels from 1 to 0, got {tuple(levels)}")
    prior = moment_matching(num_krylov=num_krylov) if prior is None else prior
    if prior.particles:
        raise ValueError("the prior of pnp_dm is a kernel of particles, one of single images is needed")
    bound = 1.05 * lanczos.operator_norm(linalg.Weighted(A, root), jax.eval_shape(A.adjoint, y)) ** 2 if corrected else jnp.inf  # a lower estimate

    def step(key, x, state, sigma, sigma_next, denoise):
        key_data, key_prior = jax.random.split(key)
        draw = functools.partial(_inflated, key_data, A, y, root, num_krylov)
        if corrected:
            draw = functools.partial(jax.lax.cond, sigma**2 * bound < 1, functools.partial(_corrected, key_data, A, y, root, num_krylov), draw)
        return sample(key_prior, prior, denoise, (sigma * jnp.asarray(levels)).astype(x.dtype), draw(x, sigma)), state

    return Kernel(lambda x: (), step)


def _inflated(key, A, y, root, num_krylov, x, sigma):
    """z given x and y as in the paper: a draw around x, pulled to perturbed data."""
    key_x, key_y = jax.random.split(key)
    near = x + sigma * jax.random.normal(key_x, x.shape, x.dtype)
    error = A.adjoint(root**2 * (y + data_noise(key_y, y, root) - A(near)))
    return near + linalg.conjugate_gradient(lambda v: v / sigma**2 + A.adjoint(root**2 * A(v)), error, num_steps=num_krylov)


def _corrected(key, A, y, root, num_krylov, x, sigma):
    """z given x and y where the noise of the coupling is taken from that of the data."""
    normal = jax.random.normal(key, x.shape, x.dtype)
    noise = lanczos.root_times(lambda v: v - sigma**2 * A.adjoint(root**2 * A(v)), normal, num_krylov)
    return x + sigma**2 * A.adjoint(root**2 * (y - A(x))) + sigma * noise
