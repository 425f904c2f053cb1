"""Regularisation by denoising."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from medjax import checks, linalg
from medjax.solvers.data_term import data_term
from medjax.solvers.noise_level import noise_level
from medjax.solvers.proximal_gradient import proximal_gradient
from medjax.typing import Denoiser, Info, Operator, Solver

METHODS = ("fixed_point", "gradient")


class RedState(NamedTuple):
    """x: iterate."""

    x: Any


def red(
    A: Operator,
    y,
    sigma_y,
    denoise: Denoiser,
    sigma,
    strength=1.0,
    method: str = "fixed_point",
    step_size=None,
    tolerance=1e-5,
    num_krylov: int = 100,
) -> Solver:
    r"""RED: what a denoiser would remove is the gradient of the prior.

    .. math::
        \nabla f(x) + \frac{\lambda}{\sigma^2} (x - D(x, \sigma)) = 0, \quad f(x) = \tfrac12 \left\| \frac{A x - y}{\sigma_y} \right\|^2

    If D is the exact posterior mean, Tweedie's formula makes :math:`x - D = -\sigma^2 \nabla \log p_\sigma`, with :math:`p_\sigma` the prior blurred
    by noise of level sigma, and solutions are stationary points of :math:`f - \lambda \log p_\sigma`: for strength 1 the MAP under the blurred prior,
    nearer to the MAP the smaller sigma. The paper's :math:`\tfrac12 x^T (x - D(x))` has this gradient only where D is locally homogeneous with a
    symmetric Jacobian, which networks have not; then there is an equation, but no objective. Both methods converge to its solution where D is the
    prox of a convex function, as the posterior mean of a log-concave prior is.

    * ``"fixed_point"``: :math:`\nabla f(x_{k+1}) + \lambda / \sigma^2 (x_{k+1} - D(x_k, \sigma)) = 0`, few calls of the denoiser.
    * ``"gradient"``: a step along the sum, for an A so costly that systems are not solved.

    Args:
      A: operator; x real or complex, of any shape that the denoiser takes.
      y: data, real or complex.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured.
      denoise: D.
      sigma: noise level of the denoiser.
      strength: lambda > 0; the paper's lambda is strength / sigma^2 here.
      method: one of `METHODS`.
      step_size: of "gradient", below 2 / (||A / sigma_y||^2 + strength / sigma^2); half of that if None.
      tolerance: of the steps of "fixed_point", relative, see `data_term`; it does not move the limit.
      num_krylov: the most conjugate gradient steps of it.

    Returns:
      A `Solver`. `Info.step_ratio` tells a gradient step beyond its bound.

    Raises:
      ValueError: for another method, a step_size without use, or numbers that are known and not above 0.

    Reference:
      Romano, Elad & Milanfar (2017), The little engine that could: regularization by denoising, https://arxiv.org/abs/1611.02862;
      its conditions and p_sigma: Reehorst & Schniter (2019), https://arxiv.org/abs/1806.02296
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, one of {', '.join(METHODS)} is needed")
    if step_size is not None and method != "gradient":
        raise ValueError(f"step_size is given, but the method is {method!r}; it has none")
    for number, what in ((strength, "strength"), (step_size, "step_size")):
        if number is not None:
            checks.positive(number, what)
    data = data_term(A, y, sigma_y, tolerance, num_krylov)
    sigma = noise_level(sigma, data.dtype)
    weight = strength / sigma**2
    if method == "gradient":
        step_size = 1 / (data.curvature() + weight) if step_size is None else step_size
        return proximal_gradient(lambda x: data.grad(x) + weight * (x - denoise(x, sigma)), lambda v, _: v, step_size)

    def step(state):
        x = data.prox(denoise(state.x, sigma), 1 / weight, state.x)
        change = linalg.change(x, state.x)
        return RedState(x), Info(change, jnp.zeros_like(change))

    return Solver(RedState, step)
