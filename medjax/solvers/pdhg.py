"""Primal-dual hybrid gradient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medjax import linalg
from medjax.typing import Info, Solver


class PdhgState(NamedTuple):
    """x: primal iterate; y: dual iterate; x_bar: extrapolated primal point; back: K* y."""

    x: Any
    y: Any
    x_bar: Any
    back: Any


def pdhg(K: Callable, K_adjoint: Callable, prox_g: Callable, prox_f_conj: Callable, tau, sigma) -> Solver:
    r"""Chambolle and Pock's method for min_x f(K x) + g(x), f and g proximable.

    .. math::
        y_{k+1} = \mathrm{prox}_{\sigma f^*}(y_k + \sigma K \bar x_k), \quad
        x_{k+1} = \mathrm{prox}_{\tau g}(x_k - \tau K^* y_{k+1}), \quad \bar x_{k+1} = 2 x_{k+1} - x_k

    Steps may be scalars, arrays like the variable (diagonal preconditioning) or, for a y of several blocks, one of either for each
    block; they must satisfy :math:`\|\Sigma^{1/2} K T^{1/2}\| \le 1`.

    Args:
      K: linear map, x -> y; x and y are arrays or pytrees.
      K_adjoint: its adjoint in the real inner product.
      prox_g: `(v, tau) -> argmin_x g(x) + ||x - v||^2 / (2 tau)`.
      prox_f_conj: `(v, sigma) -> argmin_y f*(y) + ||y - v||^2 / (2 sigma)`.
      tau: primal step, a prefix of the tree x.
      sigma: dual step, a prefix of the tree y.

    Returns:
      A `Solver` that starts from y = 0.

    Reference:
      Chambolle & Pock (2011), algorithm 1 with theta = 1, https://doi.org/10.1007/s10851-010-0251-1; array steps:
      Pock & Chambolle (2011), eq. 4, https://doi.org/10.1109/ICCV.2011.6126441
    """

    def advance(point, step, direction):
        return jax.tree.map(lambda u, s, d: u + s * d, point, jax.tree.broadcast(step, point), direction)

    def weighed(step, a):
        return linalg.vdot(a, jax.tree.map(lambda s, u: s * u, jax.tree.broadcast(step, a), a))

    def init(x0):
        y = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(K, x0))
        return PdhgState(x0, y, x0, jax.tree.map(jnp.zeros_like, x0))

    def step(state):
        y = prox_f_conj(advance(state.y, sigma, K(state.x_bar)), sigma)
        back = K_adjoint(y)
        x = prox_g(advance(state.x, tau, jax.tree.map(jnp.negative, back)), tau)
        x_bar = jax.tree.map(lambda a, b: 2 * a - b, x, state.x)
        # ||T^1/2 K* dy||^2 / ||Sigma^-1/2 dy||^2 of this step, at most ||Sigma^1/2 K T^1/2||^2
        dy = jax.tree.map(jnp.subtract, y, state.y)
        turned = weighed(tau, jax.tree.map(jnp.subtract, back, state.back))
        moved = weighed(jax.tree.map(lambda s: 1 / s, sigma), dy)
        seen = linalg.norm(dy) > 1e3 * jnp.finfo(linalg.real_dtype(y)).eps * linalg.norm(y)
        ratio = jnp.where(seen, jnp.sqrt(turned / jnp.where(seen, moved, 1)), 0)
        return PdhgState(x, y, x_bar, back), Info(linalg.change(x, state.x), ratio)

    return Solver(init, step)
