"""Gradient descent with a line search."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import linalg
from medjax.solvers.proximal_gradient import proximal_gradient
from medjax.typing import Info, Solver

_ARMIJO = 0.1  # the share of the decrease of the linear model that must be had


class GradientDescentState(NamedTuple):
    """x: iterate; value, grad: f and its gradient there; step_size: tau to try next."""

    x: Any
    value: Array
    grad: Any
    step_size: Array


def gradient_descent(value_fn: Callable, step_size=None) -> Solver:
    r"""Gradient descent for a smooth f of real or complex x.

    .. math:: x_{k+1} = x_k - \tau_k \nabla f(x_k), \quad \tau_{k+1} = \frac{\langle \Delta x, \Delta g \rangle}{\|\Delta g\|^2}, \quad
        \Delta x = x_{k+1} - x_k, \; \Delta g = \nabla f(x_{k+1}) - \nabla f(x_k)

    Without a `step_size` the step of Barzilai and Borwein is tried first, from the exact minimiser along the gradient of a quadratic f at x0, and
    halved until :math:`f(x_k - \tau g) \le f(x_k) - 0.1 \tau \|g\|^2`. There is no inner loop: a trial that fails is not taken and counts as a step.

    Args:
      value_fn: f, `x -> real scalar`, differentiable twice where `step_size` is None.
      step_size: a fixed tau, below 2 / L with L the Lipschitz constant of the gradient; line search if None.

    Returns:
      A `Solver`; the gradient is `linalg.gradient`. With the line search f never rises, up to its rounding.

    Raises:
      ValueError: for a known step size that is not positive.

    Reference:
      Barzilai & Borwein (1988), eq. 5, https://doi.org/10.1093/imanum/8.1.141; Armijo (1966), https://doi.org/10.2140/pjm.1966.16.1
    """
    gradient = linalg.gradient(value_fn)
    if step_size is not None:
        return proximal_gradient(gradient, lambda v, _: v, step_size)

    def init(x0):
        grad, turned = jax.jvp(gradient, (x0,), (gradient(x0),))
        square, curvature = linalg.vdot(grad, grad), jnp.abs(linalg.vdot(grad, turned))
        tau = jnp.where(curvature > 0, square / jnp.where(curvature > 0, curvature, 1), 1)
        return GradientDescentState(x0, value_fn(x0), grad, tau.astype(linalg.real_dtype(x0)))

    def step(state):
        tau = state.step_size
        x = jax.tree.map(lambda u, g: u - tau * g, state.x, state.grad)
        value, grad = value_fn(x), gradient(x)
        rounding = 10 * jnp.finfo(tau.dtype).eps * jnp.abs(state.value)
        taken = value <= state.value - _ARMIJO * tau * linalg.vdot(state.grad, state.grad) + rounding
        moved, turned = jax.tree.map(jnp.subtract, x, state.x), jax.tree.map(jnp.subtract, grad, state.grad)
        bent, square = linalg.vdot(moved, turned), linalg.vdot(turned, turned)
        convex = (bent > 0) & (square > 0)
        following = jnp.where(convex, bent / jnp.where(convex, square, 1), jnp.where(bent < 0, 2 * tau, tau))
        new = GradientDescentState(x, value, grad, following)
        old = state._replace(step_size=tau / 2)
        return jax.tree.map(lambda a, b: jnp.where(taken, a, b), new, old), Info(linalg.change(x, state.x), jnp.zeros_like(tau))

    return Solver(init, step, gradient)
