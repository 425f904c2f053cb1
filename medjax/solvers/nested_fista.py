"""FISTA for a penalty of K x, whose prox an inner FISTA on the dual finds, beginning where it ended before."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from medjax import checks, linalg
from medjax.solvers.step_ratio import step_ratio
from medjax.typing import Info, Solver


class NestedFistaState(NamedTuple):
    """x: iterate; z: extrapolated point; t: momentum; dual: p; previous, grad: the last point z and the gradient there."""

    x: Any
    z: Any
    t: Array
    dual: Any
    previous: Any
    grad: Any


def nested_fista(
    grad_fn: Callable,
    K: Callable,
    K_adjoint: Callable,
    prox_g_conj: Callable,
    step_size,
    K_norm,
    num_inner: int = 10,
    constrain: Callable = lambda x: x,
    restart: bool = True,
) -> Solver:
    r"""FISTA for min_x f(x) + g(K x) over a convex set C, f smooth, g proximable, K any linear map.

    The prox of g(K .) at :math:`v = z_k - \tau \nabla f(z_k)` is found by steps on its dual,

    .. math::
        x = P_C(v - \tau K^* p), \quad p \leftarrow \mathrm{prox}_{s g^*}(r + s K P_C(v - \tau K^* r)), \quad s = \frac{1}{\tau \|K\|^2}

    with FISTA's extrapolation r of p. p stays from one outer step to the next, so that few inner steps do: the error of the prox vanishes
    as x settles. Worth it where a gradient of f costs many products with K; `pdhg` has one of each a step.

    Args:
      grad_fn: gradient of f, like x.
      K: linear map, x -> K x, arrays or pytrees.
      K_adjoint: its adjoint in the real inner product.
      prox_g_conj: `(v, s) -> argmin_p g*(p) + ||p - v||^2 / (2 s)`.
      step_size: tau <= 1 / L, with L the Lipschitz constant of grad f.
      K_norm: at least ||K||.
      num_inner: inner steps in each outer one.
      constrain: the projection P_C onto C.
      restart: as in `fista`.

    Returns:
      A `Solver` that starts from p = 0. Its `change` is that of (x, z): x alone may rest for a step before the solution.

    Raises:
      ValueError: for a known step size or K_norm that is not positive.

    Reference:
      Beck & Teboulle (2009), Fast gradient-based algorithms for constrained total variation image denoising and deblurring problems, sections 4
      and 5, https://doi.org/10.1109/TIP.2009.2028250. Theirs begins each inner run at p = 0.
    """
    checks.positive(step_size, "step_size")
    checks.positive(K_norm, "K_norm")
    inner_size = 1 / (step_size * K_norm**2)

    def init(x0):
        dual = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(K, x0))
        return NestedFistaState(x0, x0, jnp.ones((), linalg.real_dtype(x0)), dual, x0, jax.tree.map(jnp.zeros_like, x0))

    def step(state):
        grad = grad_fn(state.z)
        v = jax.tree.map(lambda z, g: z - step_size * g, state.z, grad)

        def primal(p):
            return constrain(jax.tree.map(lambda a, b: a - step_size * b, v, K_adjoint(p)))

        def inner(_, carry):
            p, r, t = carry
            p_next = prox_g_conj(jax.tree.map(lambda a, b: a + inner_size * b, r, K(primal(r))), inner_size)
            t_next = _following(t)
            return p_next, _extrapolated(p_next, p, (t - 1) / t_next), t_next

        dual = lax.fori_loop(0, num_inner, inner, (state.dual, state.dual, jnp.ones_like(state.t)))[0]
        x, t = primal(dual), _following(state.t)
        momentum = (state.t - 1) / t
        if restart:
            uphill = linalg.vdot(jax.tree.map(jnp.subtract, state.z, x), jax.tree.map(jnp.subtract, x, state.x)) > 0
            t, momentum = jnp.where(uphill, 1, t), jnp.where(uphill, 0, momentum)
        ratio = step_ratio(step_size, state.z, state.previous, grad, state.grad)
        z = _extrapolated(x, state.x, momentum)
        return NestedFistaState(x, z, t, dual, state.z, grad), Info(linalg.change((x, z), (state.x, state.z)), ratio)

    return Solver(init, step)


def _following(t):
    """The next momentum of FISTA."""
    return (1 + jnp.sqrt(1 + 4 * t**2)) / 2


def _extrapolated(x, previous, momentum):
    """x + momentum (x - previous)."""
    return jax.tree.map(lambda a, b: a + momentum.astype(a.dtype) * (a - b), x, previous)
