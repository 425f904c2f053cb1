"""Primal-dual hybrid gradient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import checks, linalg
from medjax.typing import Info, Solver


class PdhgState(NamedTuple):
    """x: primal iterate; y: dual iterate; x_bar: extrapolated primal point; back: K* y; scale: of tau, and of 1 / sigma."""

    x: Any
    y: Any
    x_bar: Any
    back: Any
    scale: Array


def pdhg(K: Callable, K_adjoint: Callable, prox_g: Callable, prox_f_conj: Callable, tau, sigma, strong_convexity=0.0) -> Solver:
    r"""Chambolle and Pock's method for min_x f(K x) + g(x), f and g proximable.

    .. math::
        y_{k+1} = \mathrm{prox}_{\sigma f^*}(y_k + \sigma K \bar x_k), \quad
        x_{k+1} = \mathrm{prox}_{\tau g}(x_k - \tau K^* y_{k+1}), \quad \bar x_{k+1} = x_{k+1} + \theta (x_{k+1} - x_k)

    Steps may be scalars, arrays like the variable (diagonal preconditioning) or, for a y of several blocks, one of either for each
    block; they must satisfy :math:`\|\Sigma^{1/2} K T^{1/2}\| \le 1`. theta is 1; where g is strongly convex with a modulus gamma > 0 it is
    :math:`\theta_k = (1 + 2 \gamma \min \tau_k)^{-1/2}`, and :math:`\tau_{k+1} = \theta_k \tau_k, \sigma_{k+1} = \sigma_k / \theta_k` bring
    :math:`\|x_k - x^*\|` down as 1 / k.

    Args:
      K: linear map, x -> y; x and y are arrays or pytrees.
      K_adjoint: its adjoint in the real inner product.
      prox_g: `(v, tau) -> argmin_x g(x) + ||x - v||^2 / (2 tau)`.
      prox_f_conj: `(v, sigma) -> argmin_y f*(y) + ||y - v||^2 / (2 sigma)`.
      tau: primal step, a prefix of the tree x.
      sigma: dual step, a prefix of the tree y.
      strong_convexity: gamma >= 0, scalar: g(x) - gamma ||x||^2 / 2 is convex.

    Returns:
      A `Solver` that starts from y = 0. Its `change` is that of (x, y) in the metric :math:`\|x\|^2_{T^{-1}} + \|y\|^2_{\Sigma^{-1}}`: x alone may
      rest for a step before the solution.

    Raises:
      ValueError: for a known step that is not positive, or strong_convexity below 0.

    Reference:
      Chambolle & Pock (2011), algorithm 1 with theta = 1 and algorithm 2, https://doi.org/10.1007/s10851-010-0251-1; array steps:
      Pock & Chambolle (2011), eq. 4, https://doi.org/10.1109/ICCV.2011.6126441
    """

    for name, steps in (("tau", tau), ("sigma", sigma)):
        jax.tree.map(lambda s, name=name: checks.positive(s, name), steps)
    checks.nonnegative(strong_convexity, "strong_convexity")

    def advance(point, step, direction):
        return jax.tree.map(lambda u, s, d: u + s * d, point, jax.tree.broadcast(step, point), direction)

    def weighed(step, a):
        return linalg.vdot(a, jax.tree.map(lambda s, u: s * u, jax.tree.broadcast(step, a), a))

    def init(x0):
        y = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(K, x0))
        return PdhgState(x0, y, x0, jax.tree.map(jnp.zeros_like, x0), jnp.ones((), linalg.real_dtype(x0)))

    def step(state):
        primal, dual = jax.tree.map(lambda s: s * state.scale, tau), jax.tree.map(lambda s: s / state.scale, sigma)
        y = prox_f_conj(advance(state.y, dual, K(state.x_bar)), dual)
        back = K_adjoint(y)
        x = prox_g(advance(state.x, primal, jax.tree.map(jnp.negative, back)), primal)
        shortest = jax.tree.reduce(jnp.minimum, jax.tree.map(jnp.min, primal))
        theta = 1 / jnp.sqrt(1 + 2 * strong_convexity * shortest)
        x_bar = jax.tree.map(lambda a, b: a + theta * (a - b), x, state.x)
        # ||T^1/2 K* dy||^2 / ||Sigma^-1/2 dy||^2 of this step, at most ||Sigma^1/2 K T^1/2||^2
        dx, dy = jax.tree.map(jnp.subtract, x, state.x), jax.tree.map(jnp.subtract, y, state.y)
        turned = weighed(primal, jax.tree.map(jnp.subtract, back, state.back))
        inverse = [jax.tree.map(lambda s: 1 / s, steps) for steps in (primal, dual)]
        moved = weighed(inverse[1], dy)
        seen = linalg.norm(dy) > 1e3 * jnp.finfo(linalg.real_dtype(y)).eps * linalg.norm(y)
        ratio = jnp.where(seen, jnp.sqrt(turned / jnp.where(seen, moved, 1)), 0)
        size = weighed(inverse[0], x) + weighed(inverse[1], y)
        change = jnp.sqrt((weighed(inverse[0], dx) + moved) / jnp.where(size > 0, size, 1))
        return PdhgState(x, y, x_bar, back, theta * state.scale), Info(change, ratio)

    return Solver(init, step)
