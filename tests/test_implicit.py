"""Derivatives of solutions, by every way, against finite differences of an independent solver."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rows_solvers as rows

from medjax import implicit, linalg
from medjax.functionals.total_generalized_variation import total_generalized_variation
from medjax.functionals.total_variation import total_variation
from medjax.iterate import iterate
from medjax.operators.algebra import identity
from medjax.solvers.fista import fista
from medjax.solvers.fista_reconstruction import fista_reconstruction
from medjax.solvers.pdhg import pdhg
from medjax.typing import Info, Solver


def _fista(theta):
    return rows._fista_restart(theta, 1.0)


def _pdhg(theta):
    return rows._pdhg(theta, 1.0)


class _Iterate(NamedTuple):
    x: jax.Array


def _shrinking(rate):
    """x_{k+1} = rate sin x_k."""
    return Solver(_Iterate, lambda state: (_Iterate(rate * jnp.sin(state.x)), Info(jnp.ones(()), jnp.zeros(()))))


def _loss(x):
    return (abs(x - 0.5) ** 2).sum() / 2 + np.real(x.sum())


def _direction(theta, seed=5):
    return jax.tree.map(lambda a: rows.normal(jax.random.key(seed), a.shape, a.dtype), theta)


def _moved(theta, direction, size):
    return jax.tree.map(lambda a, d: jnp.asarray(np.asarray(a) + size * np.asarray(d)), theta, direction)


def _along(grad, direction):
    return float(sum(np.real(np.sum(np.asarray(g) * np.asarray(d))) for g, d in zip(*map(jax.tree.leaves, (grad, direction)), strict=True)))


def _wanted(theta, direction):
    """Of coordinate descent, which knows nothing of the solvers."""
    plus, minus = (_loss(rows.lasso_optimum(_moved(theta, direction, e), None)) for e in (1e-5, -1e-5))
    return (plus - minus) / 2e-5


def _answer(make, backward, steps=200, dtype=float):
    return lambda theta: implicit.solution(make, theta, jnp.zeros(6, dtype), tolerance=1e-14, max_steps=steps, backward=backward).x


def test_forward_and_reverse_mode_are_true():
    """Also for the operator, whose matrix is a leaf of theta. Reverse mode of every solver, by both ways: `test_solvers`."""
    theta, _ = rows.lasso(jax.random.key(1), jnp.dtype(float))
    direction = _direction(theta)
    loss = lambda theta: _loss(_answer(_fista, "implicit")(theta))  # noqa: E731
    wanted = _wanted(theta, direction)
    grad, tangent = jax.jit(lambda t, d: (jax.grad(loss)(t), jax.jvp(loss, (t,), (d,))[1]))(theta, direction)
    assert abs(_along(grad, direction) - wanted) <= 1e-7 * abs(wanted)
    assert abs(float(tangent) - wanted) <= 1e-7 * abs(wanted)


def test_complex_problems():
    """Soft thresholding of complex numbers is not holomorphic: the Jacobian is one of pairs of reals."""
    theta, _ = rows.lasso(jax.random.key(1), jnp.dtype(complex))
    direction = _direction(theta)
    grad = jax.jit(jax.grad(lambda theta: _loss(_answer(_fista, "implicit", 400, complex)(theta))))(theta)
    wanted = _wanted(theta, direction)
    assert abs(_along(grad, direction) - wanted) <= 1e-7 * abs(wanted)


def test_the_second_derivative():
    """Of a ridge in its weight, against the closed form: x = M^-1 b with M = W^H W + s I, so that x' = -M^-1 x and x'' = 2 M^-2 x."""
    (A, y, _), _ = rows.lasso(jax.random.key(1), jnp.dtype(float))
    weights = jnp.arange(1.0, 7.0)

    def value(s):
        make = lambda s: fista(lambda x: A.adjoint(A(x) - y) + s * x, lambda v, _: v, 1 / (jnp.linalg.norm(A.w, 2) ** 2 + s), restart=True)  # noqa: E731
        return weights @ implicit.solution(make, s, jnp.zeros(6), tolerance=1e-14, max_steps=300).x

    first, second = jax.jit(lambda s: jax.jvp(jax.grad(value), (s,), (1.0,)))(2.0)
    inverse = np.linalg.inv(np.asarray(rows.gram(A.w)) + 2 * np.eye(6))
    x = inverse @ np.asarray(A.adjoint(y))
    assert np.allclose(first, -weights @ inverse @ x, rtol=1e-8, atol=0)
    assert np.allclose(second, 2 * weights @ inverse @ inverse @ x, rtol=1e-7, atol=0)


def test_jfb_goes_down_but_is_not_the_gradient():
    theta, _ = rows.lasso(jax.random.key(1), jnp.dtype(float))
    make = lambda theta: rows._proximal_gradient(theta, 0.5)  # noqa: E731
    true, short = (jax.jit(jax.grad(lambda t, w=way: _loss(_answer(make, w, 400)(t))))(theta) for way in ("implicit", "jfb"))
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(g)]) for g in (true, short))
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert 0.3 < cosine < 0.999


def test_unroll_is_the_derivative_of_the_iterate_far_from_the_optimum():
    """Where "implicit" would be wrong: 3 steps only."""
    theta, _ = rows.lasso(jax.random.key(1), jnp.dtype(float))
    direction = _direction(theta)
    grad = jax.jit(jax.grad(lambda t: _loss(_answer(_pdhg, "unroll", 3)(t))))(theta)
    run = jax.jit(lambda t: _loss(iterate(_pdhg(t), jnp.zeros(6), 3).x))
    wanted = float(run(_moved(theta, direction, 1e-5)) - run(_moved(theta, direction, -1e-5))) / 2e-5
    assert abs(_along(grad, direction) - wanted) <= 1e-8 * abs(wanted)


@pytest.mark.parametrize("steps", [1, 7, 16])
def test_unroll_takes_all_steps(steps):
    """Whatever the number, in segments: x_{k+1} = s sin x_k, against the chain rule step by step."""
    found = jax.grad(lambda s: implicit.solution(_shrinking, s, jnp.ones(()), max_steps=steps, backward="unroll").x)(0.9)
    x, slope = 1.0, 0.0
    for _ in range(steps):
        x, slope = 0.9 * np.sin(x), np.sin(x) + 0.9 * np.cos(x) * slope
    assert jnp.allclose(found, slope, rtol=1e-12)


def test_memory_of_unroll_grows_with_the_square_root():
    """100 times the steps take about 10 times the memory; of the implicit way, the same."""

    def temporary(backward, steps):
        def loss(rate):
            x = implicit.solution(lambda rate: _shrinking(rate), rate, jnp.ones(10000), max_steps=steps, backward=backward, num_krylov=3).x
            return jnp.sum(jnp.sin(x))

        return jax.jit(jax.grad(loss)).lower(0.9).compile().memory_analysis().temp_size_in_bytes

    state = 10000 * 8
    few, many = temporary("unroll", 100), temporary("unroll", 10000)
    assert 5 * few <= many <= 12 * few and many <= 3.2 * 100 * state  # two floors of 100 states each, and some
    assert temporary("implicit", 10000) == temporary("implicit", 100) <= 30 * state


@pytest.mark.parametrize("symmetric", [True, False])
def test_root_of_a_gradient(symmetric):
    """x = argmin of a logistic loss with a ridge, found by Newton's method: dx = -H^-1 d(grad)."""
    theta, x0 = rows.lasso(jax.random.key(1), jnp.dtype(float))
    best = rows.smooth_optimum(theta, x0)
    direction = _direction(theta)
    plus, minus = (_loss(np.asarray(rows.smooth_optimum(_moved(theta, direction, e), x0))) for e in (1e-5, -1e-5))

    def loss(theta):
        return _loss(implicit.root(rows._smooth_residual, theta, lambda _: best, symmetric=symmetric))

    wanted = (plus - minus) / 2e-5
    assert abs(_along(jax.jit(jax.grad(loss))(theta), direction) - wanted) <= 1e-7 * abs(wanted)


def test_single_precision():
    theta, _ = rows.lasso(jax.random.key(1), jnp.dtype(float))
    single = jax.tree.map(lambda a: a.astype(jnp.float32), theta)

    def loss(theta):
        return _loss(implicit.solution(_pdhg, theta, jnp.zeros(6, jnp.float32), tolerance=1e-7, max_steps=200).x)

    grad = jax.jit(jax.grad(loss))(single)
    assert {a.dtype.name for a in jax.tree.leaves(grad)} == {"float32"}
    direction = _direction(theta)
    wanted = _wanted(theta, direction)
    assert abs(_along(grad, direction) - wanted) <= 1e-3 * abs(wanted)  # float32, through a linear solve


@pytest.mark.parametrize(
    "regulariser, most",
    [(lambda s: total_variation(s, 2000, tolerance=1e-6), 1e-5), (lambda s: total_generalized_variation(s, tolerance=1e-3), 1e-3)],
    ids=["tv", "tgv"],
)
def test_a_prox_found_by_an_inner_loop(regulariser, most):
    """Its symmetric Jacobian is transposed by reverse mode, and once more inside GMRES; against differences of the same solver's answers."""
    A = linalg.Weighted(identity(), jnp.linspace(0.9, 1.1, 9).reshape(3, 3))
    theta = (rows.normal(jax.random.key(3), (3, 3), jnp.dtype(float)), jnp.asarray(0.2))
    direction = _direction(theta)

    def make(theta):
        return fista_reconstruction(A, theta[0], 1.0, regulariser(theta[1]), step_size=0.8)

    def loss(theta):
        return _loss(implicit.solution(make, theta, jnp.zeros((3, 3)), tolerance=1e-7, max_steps=15).x)

    both = jax.jit(jax.value_and_grad(loss))
    grad = both(theta)[1]
    wanted = float(both(_moved(theta, direction, 1e-4))[0] - both(_moved(theta, direction, -1e-4))[0]) / 2e-4
    assert abs(_along(grad, direction) - wanted) <= most * abs(wanted)  # what the inner tolerance leaves
    assert all(float(jnp.linalg.norm(g)) > 0.1 for g in grad)


def test_a_strange_backward_is_refused():
    with pytest.raises(ValueError, match="^backward is 'reverse', one of implicit, unroll, jfb is needed$"):
        implicit.solution(_fista, rows.lasso(jax.random.key(1), jnp.dtype(float))[0], jnp.zeros(6), backward="reverse")


def test_pytrees():
    """x and theta of several leaves: (u - a)^2 / 2 + (v - b)^2 / 2 + strength |u - v| by a primal-dual method.

    The rows of the Jacobian are solved for at once, and exhaust their Krylov spaces at different steps.
    """

    def make(theta):
        a, b, strength = theta

        def prox_g(x, tau):
            return {"u": (x["u"] + tau * a) / (1 + tau), "v": (x["v"] + tau * b) / (1 + tau)}

        return pdhg(lambda x: x["u"] - x["v"], lambda p: {"u": p, "v": -p}, prox_g, lambda p, _: jnp.clip(p, -strength, strength), 0.7, 0.7)

    x0 = {"u": jnp.zeros(2), "v": jnp.zeros(2)}
    theta = (jnp.array([3.0, 1.0]), jnp.array([0.0, 0.5]), jnp.asarray(1.0))  # far apart, and joined
    jacobian = jax.jit(jax.jacrev(lambda t: implicit.solution(make, t, x0, tolerance=1e-14, max_steps=200).x))(theta)
    assert np.allclose(jacobian["u"][0], [[1, 0], [0, 0.5]], atol=1e-9) and np.allclose(jacobian["v"][0], [[0, 0], [0, 0.5]], atol=1e-9)
    assert np.allclose(jacobian["u"][2], [-1, 0], atol=1e-9) and np.allclose(jacobian["v"][2], [1, 0], atol=1e-9)
