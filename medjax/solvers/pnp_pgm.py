"""Plug-and-play proximal gradient method."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from medjax import checks, linalg
from medjax.solvers.data_term import data_term
from medjax.solvers.fista import fista
from medjax.solvers.noise_level import noise_level
from medjax.solvers.step_ratio import step_ratio
from medjax.typing import Denoiser, Info, Operator, Solver


class PnpPgmState(NamedTuple):
    """x: iterate; previous, grad: the point before x and the gradient there."""

    x: Any
    previous: Any
    grad: Any


def pnp_pgm(A: Operator, y, sigma_y, denoise: Denoiser, sigma=None, step_size=None, accelerate: bool = False, strength=1.0) -> Solver:
    r"""PnP-PGM: the proximal gradient method with a denoiser for the prox.

    .. math:: x_{k+1} = D(x_k - \tau \nabla f(x_k), \sigma), \quad f(x) = \tfrac12 \left\| \frac{A x - y}{\sigma_y} \right\|^2, \quad
        \sigma^2 = \lambda \tau

    Where :math:`D(\cdot, \sigma)` is the prox of :math:`\sigma^2 R` the limit minimises :math:`f + \lambda R`. The exact denoiser of a Gaussian
    prior is, with R its negative log density, so that strength 1 gives the exact MAP, which is the posterior mean there. Noise level and step are
    tied: name one of them, or neither for the largest safe step, whose sigma may be low: then `pnp_admm` gets by with fewer denoiser calls.

    Args:
      A: operator; x real or complex, of any shape that the denoiser takes.
      y: data, real or complex.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured.
      denoise: D.
      sigma: noise level of the denoiser; from the step if None.
      step_size: tau, below 2 / ||A / sigma_y||^2, or at most half of that with `accelerate`; from sigma if None, and that half if both are.
      accelerate: by the momentum of FISTA, with restarts; not a fixed point in the sense of `implicit.solution`.
      strength: lambda > 0; 1 is what Bayes' rule asks for.

    Returns:
      A `Solver`. `Info.step_ratio` tells a step beyond its bound.

    Raises:
      ValueError: for both sigma and step_size, or numbers that are known and not above 0.

    Reference:
      Kamilov, Bouman, Buzzard & Wohlberg (2023), Plug-and-play methods for integrating physical and learned models in computational imaging,
      PnP-ISTA and PnP-FISTA, there without restarts, https://arxiv.org/abs/2203.17061
    """
    if sigma is not None and step_size is not None:
        raise ValueError("sigma^2 = strength step_size ties sigma and step_size: one of the two is needed, got both")
    for number, what in ((step_size, "step_size"), (strength, "strength")):
        if number is not None:
            checks.positive(number, what)
    data = data_term(A, y, sigma_y)
    if sigma is not None:
        sigma = noise_level(sigma, data.dtype)
        step_size = sigma**2 / strength
    else:
        step_size = 1 / data.curvature() if step_size is None else jnp.asarray(step_size, data.dtype)
        sigma = jnp.sqrt(strength * step_size)
    if accelerate:
        return fista(data.grad, lambda v, _: denoise(v, sigma), step_size, restart=True)

    # not by `proximal_gradient`, whose state holds the step: here the limit depends on it, and so must its derivative
    def init(x0):
        return PnpPgmState(x0, x0, jnp.zeros_like(x0))

    def step(state):
        grad = data.grad(state.x)
        x = denoise(state.x - step_size * grad, sigma)
        ratio = step_ratio(step_size, state.x, state.previous, grad, state.grad, bound=2.0)
        return PnpPgmState(x, state.x, grad), Info(linalg.change(x, state.x), ratio)

    return Solver(init, step)
