"""Plug-and-play with a gradient-step denoiser, which has an objective."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from medjax import checks, linalg
from medjax.solvers.data_term import data_term
from medjax.solvers.gradient_step_denoiser import gradient_step_denoiser
from medjax.solvers.noise_level import noise_level
from medjax.typing import Info, Operator, Solver


class PnpGradientStepState(NamedTuple):
    """x: iterate; grad: gradient of the potential there; objective: its value at x; step_size: tau of the next step."""

    x: Any
    grad: Any
    objective: Array
    step_size: Array


def pnp_gradient_step(
    A: Operator, y, sigma_y, denoise: Callable, sigma, strength=1.0, step_size=None, shrink=0.9, decrease=0.1, tolerance=1e-5, num_krylov: int = 100
) -> Solver:
    r"""Proximal gradient steps on an objective whose gradient is what a gradient-step denoiser removes.

    .. math::
        \min_x F(x) = \tfrac12 \left\| \frac{A x - y}{\sigma_y} \right\|^2 + \frac{\lambda}{\sigma^2} g_\sigma(x), \quad
        x_{k+1} = \mathrm{prox}_{\tau f}\big(x_k - \tfrac{\tau \lambda}{\sigma^2} \nabla g_\sigma(x_k)\big), \quad
        F(x_k) - F(x_{k+1}) \ge \frac{\gamma}{\tau} \|x_{k+1} - x_k\|^2

    A step that falls short of the last inequality is not taken: x stays and tau shrinks. So the objective falls with every step, also where g is
    not convex. At the first tau, :math:`\sigma^2 / \lambda`, a step is the denoiser and then the data.

    Args:
      A: operator; x real or complex, of any shape that the denoiser takes.
      y: data, real or complex.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured.
      denoise: N or g of `gradient_step_denoiser`.
      sigma: noise level of the denoiser.
      strength: lambda > 0.
      step_size: the first tau; sigma^2 / strength if None.
      shrink: what tau is multiplied by after a step that was not taken, below 1.
      decrease: gamma, below 1 / 2.
      tolerance: of the proximal step, relative, see `data_term`; it does not move the limit.
      num_krylov: the most conjugate gradient steps of it.

    Returns:
      A `Solver`, tau a constant for derivatives; `Info.change` is that of the step proposed, taken or not.

    Raises:
      ValueError: for numbers that are known and out of range.

    Reference:
      Hurault, Leclaire & Papadakis (2022), Gradient step denoiser for convergent plug-and-play, https://arxiv.org/abs/2110.03220, shrink and decrease
      as in https://github.com/samuro95/GSPnP
    """
    for number, what in ((strength, "strength"), (step_size, "step_size"), (shrink, "shrink"), (decrease, "decrease")):
        if number is not None:
            checks.positive(number, what)
    if checks.is_concrete(shrink, decrease) and (shrink >= 1 or decrease >= 0.5):
        raise ValueError(f"shrink is {shrink:.4g} and decrease {decrease:.4g}, below 1 and below 1/2 is needed")
    data, potential = data_term(A, y, sigma_y, tolerance, num_krylov), gradient_step_denoiser(denoise).potential
    sigma = noise_level(sigma, data.dtype)
    weight = strength / sigma**2

    def evaluate(x):
        value, grad = jax.value_and_grad(potential)(x, sigma)
        return jnp.conj(grad), (data.value(x) + weight * value).astype(data.dtype)

    def init(x0):
        return PnpGradientStepState(x0, *evaluate(x0), jnp.asarray(1 / weight if step_size is None else step_size, data.dtype))

    def step(state):
        tau = lax.stop_gradient(state.step_size)
        x = data.prox(state.x - tau * weight * state.grad, tau, state.x)
        grad, objective = evaluate(x)
        moved = jax.tree.map(jnp.subtract, x, state.x)
        rounding = 10 * jnp.finfo(data.dtype).eps * jnp.abs(objective)
        taken = state.objective - objective >= decrease / tau * linalg.vdot(moved, moved) - rounding
        proposed = PnpGradientStepState(x, grad, objective, tau)
        stay = state._replace(step_size=shrink * tau)
        change = linalg.change(x, state.x)
        return jax.tree.map(lambda a, b: jnp.where(taken, a, b), proposed, stay), Info(change, jnp.zeros_like(change))

    return Solver(init, step)
