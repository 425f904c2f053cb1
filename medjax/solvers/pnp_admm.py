"""Plug-and-play alternating direction method of multipliers."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from medjax import checks, linalg
from medjax.solvers.data_term import data_term
from medjax.solvers.noise_level import noise_level
from medjax.typing import Denoiser, Info, Operator, Solver


class PnpAdmmState(NamedTuple):
    """x: denoised iterate; fitted: the one that fits the data; u: scaled multiplier."""

    x: Any
    fitted: Any
    u: Any


def pnp_admm(A: Operator, y, sigma_y, denoise: Denoiser, sigma, strength=1.0, tolerance=1e-5, num_krylov: int = 100) -> Solver:
    r"""PnP-ADMM: a proximal step on the data and a denoiser for the prox of the prior take turns, joined by a multiplier.

    .. math::
        z_{k+1} = \arg\min_z \tfrac12 \left\| \frac{A z - y}{\sigma_y} \right\|^2 + \tfrac{\rho}{2} \|z - (x_k - u_k)\|^2, \quad
        x_{k+1} = D(z_{k+1} + u_k, \sigma), \quad u_{k+1} = u_k + z_{k+1} - x_{k+1}, \quad \rho = \lambda / \sigma^2

    Where :math:`D(\cdot, \sigma)` is the prox of :math:`\sigma^2 R` the limit minimises :math:`f + \lambda R`, f the data term, whatever sigma, which
    then only sets the pace. The exact denoiser of a Gaussian prior is, with R its negative log density, so that strength 1 gives the exact MAP,
    which is the posterior mean there. For a learned denoiser the limit depends on sigma, too.

    Args:
      A: operator; x real or complex, of any shape that the denoiser takes.
      y: data, real or complex.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured.
      denoise: D.
      sigma: noise level of the denoiser.
      strength: lambda > 0, which is rho sigma^2; 1 is what Bayes' rule asks for.
      tolerance: of the step on the data, relative, see `data_term`; it does not move the limit.
      num_krylov: the most conjugate gradient steps of it.

    Returns:
      A `Solver`; `Info.change` is that of x and u together, for one of them may rest while the other moves.

    Raises:
      ValueError: for numbers that are known and not above 0.

    Reference:
      Venkatakrishnan, Bouman & Wohlberg (2013), Plug-and-play priors for model based reconstruction, https://doi.org/10.1109/GlobalSIP.2013.6737048
    """
    checks.positive(strength, "strength")
    data = data_term(A, y, sigma_y, tolerance, num_krylov)
    sigma = noise_level(sigma, data.dtype)

    # not by `admm`, whose state holds rho: here the limit depends on it, and so must its derivative
    def init(x0):
        return PnpAdmmState(x0, x0, jnp.zeros_like(x0))

    def step(state):
        fitted = data.prox(state.x - state.u, sigma**2 / strength, state.fitted)
        x = denoise(fitted + state.u, sigma)
        u = state.u + fitted - x
        change = linalg.change((x, u), (state.x, state.u))
        return PnpAdmmState(x, fitted, u), Info(change, jnp.zeros_like(change))

    return Solver(init, step)
