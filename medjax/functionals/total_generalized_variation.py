"""Second-order total generalized variation and its prox."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from medjax import checks, linalg
from medjax.functionals.length import length, project_lengths, squares
from medjax.functionals.symmetric_jacobian import symmetric_jacobian
from medjax.functionals.until_gap import until_gap
from medjax.typing import Functional

_NORM_SQUARE = (17 + 33**0.5) / 2  # bounds that of (x, w) -> (D x - w, E w), with 8 for D and E and 1 for the identity
_RELAXATION = 1.8  # below 2; needs about half the steps of 1
_CHECK_EVERY = 20  # steps between two looks at the duality gap


class _State(NamedTuple):
    """Primal image x and field w `[2, h, w, ...]`, duals p `[2, h, w, ...]` and q `[3, h, w, ...]`."""

    x: Array
    w: Array
    p: Array
    q: Array


def total_generalized_variation(strength, ratio=2.0, tolerance=1e-2, max_steps: int = 5000) -> Functional:
    r"""Second-order total generalized variation of `[h, w]` or `[h, w, c]`, channels joined under one root: piecewise affine images.

    .. math::
        \alpha_1 \min_w \|D x - w\|_{2,1} + r \|E w\|_{2,1}, \quad \alpha_1 = \lambda, \; \alpha_0 = r \lambda

    D has the forward differences, E the symmetrised differences of the field w, the mixed ones counted twice; both only where all the pixels exist
    that they need, so that affine images have the value 0. It is at most lambda times the isotropic `total_variation`. Value and prox are found by
    the primal-dual method, which stops by a duality gap: that of the dual field E^T q with q made short enough to be feasible.

    Args:
      strength: lambda = alpha_1 >= 0, a scalar.
      ratio: r = alpha_0 / alpha_1 > 0, a scalar.
      tolerance: the value is at most `tolerance` times lambda TV(x) too high; the prox is proven within `tolerance` ||v|| of the true one, and is
        mostly ten times nearer.
      max_steps: the most steps of either.

    Returns:
      A `Functional` of real or complex x. Derivatives are those at the optimum for the value, of the iterate for the prox (`symmetric_jacobian`).

    Raises:
      ValueError: for a strength below 0 or NaN, a ratio or tolerance that is not positive, no steps; for images of one row or column.

    Reference:
      Bredies, Kunisch & Pock (2010), Total generalized variation, https://doi.org/10.1137/090769521; relaxed steps: Condat (2013),
      algorithm 3.1, https://doi.org/10.1007/s10957-012-0245-9
    """
    checks.nonnegative(strength, "strength of total_generalized_variation")
    checks.positive(ratio, "ratio of total_generalized_variation")
    checks.positive(tolerance, "tolerance of total_generalized_variation")
    checks.positive(max_steps, "max_steps of total_generalized_variation")

    def value(x):
        dtype = linalg.real_dtype(x)
        slope = linalg.difference(x)
        first, second = _total(slope), _total(_symmetrised(slope))
        r = jnp.asarray(ratio, dtype)
        still, held = lax.stop_gradient(x), lax.stop_gradient(r)
        state = _run(still, jnp.ones((), dtype), held, tolerance * lax.stop_gradient(first), max_steps, moves=False)
        bent = _total(_symmetrised(state.w))
        found = _total(linalg.difference(still) - state.w) + held * bent
        # at the optimum the derivative is that of <D x, p> for x and |E w| for r
        found += linalg.vdot(slope - lax.stop_gradient(slope), _feasible(state.q, held, 1.0)) + (r - held) * bent
        return jnp.asarray(strength, dtype) * jnp.minimum(found, jnp.minimum(first, r * second))

    def run(v, radius, ratio):
        return _run(v, radius, ratio, tolerance**2 / 2 * linalg.vdot(v, v), max_steps, moves=True).x

    def prox(v, tau):
        dtype = linalg.real_dtype(v)
        return symmetric_jacobian(run, v, jnp.asarray(strength * tau, dtype), jnp.asarray(ratio, dtype))

    return Functional(value, prox)


def _symmetrised(w):
    """E w `[3, h, w, ...]`: second differences along both axes, and sqrt(1/2) times the sum of the mixed ones, zero where w does not reach."""
    if min(w.shape[1:3]) < 2:
        raise ValueError(f"total_generalized_variation needs at least 2 pixels along both axes, got {list(w.shape[1:])}")
    rest = [(0, 0)] * (w.ndim - 3)
    down = jnp.pad(jnp.diff(w[0, :-1], axis=0), [(1, 1), (0, 0), *rest])
    right = jnp.pad(jnp.diff(w[1, :, :-1], axis=1), [(0, 0), (1, 1), *rest])
    mixed = jnp.pad(jnp.diff(w[0, :-1], axis=1) + jnp.diff(w[1, :, :-1], axis=0), [(0, 1), (0, 1), *rest])
    return jnp.stack([down, right, mixed * 0.5**0.5])


def _joined(p):
    """The axes that share a root: components and channels."""
    return (0, *range(3, p.ndim))


def _total(p):
    return jnp.sum(length(p, _joined(p)))


def _run(v, radius, ratio, bound, max_steps, moves):
    """min over x and w of radius (|D x - w| + ratio |E w|) + ||x - v||^2 / 2, or with x = v unless it `moves`, to a duality gap of `bound`."""
    slope = linalg.difference(v)
    E_transpose = jax.linear_transpose(_symmetrised, jax.ShapeDtypeStruct(slope.shape, slope.dtype))
    size = jnp.sqrt(jnp.mean(squares(slope))) / jnp.where(radius > 0, radius, 1)  # of primal over dual, which the ratio of their steps follows
    balance = lax.stop_gradient(jnp.where(size > 0, size, 1)) * (0.15 if moves else 0.6)
    tau, sigma = balance / _NORM_SQUARE**0.5, 1 / (balance * _NORM_SQUARE**0.5)

    def step(_, state):
        x, w, p, q = state
        pull = v - x - linalg.difference_adjoint(p)
        x_next = x + tau / (1 + tau) * pull if moves else v
        w_next = w + tau * (p - E_transpose(q)[0])
        x_bar, w_bar = 2 * x_next - x, 2 * w_next - w
        p_next = project_lengths(p + sigma * (linalg.difference(x_bar) - w_bar), radius, _joined(p))
        q_next = project_lengths(q + sigma * _symmetrised(w_bar), ratio * radius, _joined(q))
        return jax.tree.map(lambda a, b: a + _RELAXATION * (b - a), state, _State(x_next, w_next, p_next, q_next))

    def gap(state):
        """Of the primal at (x, w) and the dual at a feasible p."""
        p = _feasible(state.q, ratio, radius)
        bracket = radius * (_total(linalg.difference(state.x) - state.w) + ratio * _total(_symmetrised(state.w)))
        bracket -= linalg.vdot(linalg.difference(state.x), p)
        return bracket + jnp.sum(squares(state.x - v + linalg.difference_adjoint(p))) / 2 if moves else bracket

    start = _State(v, jnp.zeros_like(slope), jnp.zeros_like(slope), jnp.zeros((3, *v.shape), v.dtype))
    return until_gap(step, start, gap, bound, max_steps, _CHECK_EVERY)


def _feasible(q, ratio, radius):
    """p = E^T q with q made short enough that it and p are in their balls."""
    p = jax.linear_transpose(_symmetrised, jax.ShapeDtypeStruct((2, *q.shape[1:]), q.dtype))(q)[0]
    longest = jnp.maximum(jnp.max(length(p, _joined(p))), jnp.max(length(q, _joined(q))) / ratio)
    return p * (radius / jnp.maximum(jnp.maximum(longest, radius), jnp.finfo(p.dtype).tiny))
