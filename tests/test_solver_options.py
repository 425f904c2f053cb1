"""What single solvers promise beyond the contract of all: `test_solvers`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rows_least_squares as least
import rows_solvers as rows
from solver_row import Dense

from medjax import linalg
from medjax.iterate import iterate, iterate_until
from medjax.solvers.admm import admm
from medjax.solvers.cgls import cgls
from medjax.solvers.conjugate_gradient import conjugate_gradient
from medjax.solvers.douglas_rachford import douglas_rachford
from medjax.solvers.fista import fista
from medjax.solvers.gradient_descent import gradient_descent
from medjax.solvers.half_quadratic import half_quadratic
from medjax.solvers.landweber import landweber
from medjax.solvers.lsqr import lsqr
from medjax.solvers.pdhg import pdhg
from medjax.solvers.proximal_gradient import proximal_gradient

REAL = jnp.dtype(float)


def _path(make, theta, x0, num_steps):
    """All iterates, `[steps, n]`."""
    return jax.jit(lambda theta: iterate_until(make(theta), x0, -1.0, num_steps, lambda state, _: state.x)[1].history)(theta)


def test_krylov_methods_are_one():
    """CGLS and LSQR walk the path of conjugate gradients on the normal equations, damped and weighted, from any start."""
    theta, x0 = least.ridge(jax.random.key(1), jnp.dtype(complex))
    wanted = _path(least._conjugate_gradient, theta, x0, 6)
    for method in (cgls, lsqr):
        assert np.allclose(_path(lambda t, m=method: m(*t), theta, x0, 6), wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", [cgls, lsqr])
def test_minimum_norm(method):
    """Without damping, fewer data than unknowns and dead bins of infinite sigma: the generalised inverse of what was measured."""
    w, y = np.array(rows.normal(jax.random.key(1), (5, 8), REAL)), jnp.arange(1.0, 6.0)
    sigma = jnp.array([1.0, 2.0, jnp.inf, 1.0, 0.5])
    solver = method(Dense(jnp.asarray(w)), y, sigma)
    state, outcome = jax.jit(lambda: iterate_until(solver, jnp.zeros(8), 1e-12, 20))()
    w[2] = 0
    assert bool(outcome.converged) and np.allclose(state.x, np.linalg.pinv(w) @ np.asarray(y), rtol=1e-9, atol=1e-9)


@jax.jit
def _krylov(w, y, start):
    makers = (lambda: cgls(Dense(w), y), lambda: lsqr(Dense(w), y), lambda: conjugate_gradient(lambda x: w.T @ (w @ x), w.T @ y))
    return [iterate_until(make(), start, -1.0, 35) for make in makers]


@pytest.mark.parametrize("kind", ["zero data", "exact at the start", "one step is enough", "zero operator"])
def test_krylov_methods_end_without_nan(kind):
    """Lanczos vectors run out, residuals become exactly 0: 30 steps more change nothing."""
    w = {"one step is enough": 3 * jnp.eye(4), "zero operator": jnp.zeros((4, 4))}.get(kind, rows.normal(jax.random.key(3), (4, 4), REAL))
    best = jnp.array([1.0, -2.0, 0.5, 3.0])
    start, y = (best if kind == "exact at the start" else jnp.zeros(4)), (jnp.zeros(4) if kind == "zero data" else w @ best)
    wanted = {"zero data": jnp.zeros(4), "zero operator": jnp.zeros(4)}.get(kind, best)
    for dtype in ("float64", "float32"):
        for state, outcome in _krylov(*(a.astype(dtype) for a in (w, y, start))):
            assert not bool(outcome.diverged) and np.isfinite(float(outcome.change))
            assert np.allclose(state.x, wanted, rtol=0, atol=1e-9 if dtype == "float64" else 1e-2)  # a condition number of 50, squared


def test_conjugate_gradient_refuses_negative_curvature():
    matrix = jnp.diag(jnp.array([2.0, 1.0, -1.0]))
    state, outcome = iterate_until(conjugate_gradient(lambda x: matrix @ x, jnp.array([0.0, 0.0, 1.0])), jnp.zeros(3), 1e-8, 10)
    assert np.array_equal(state.x, np.zeros(3)) and not bool(outcome.converged) and float(outcome.change) == 1.0


def test_landweber_finds_its_step():
    """1 / ||A / sigma||^2, from the operator norm: the slowest component still shrinks by 1 - (s / s_max)^2, the fastest is gone at once."""
    (A, y, sigma_y, _), x0 = least.ridge(jax.random.key(1), REAL)
    u, s, vh = np.linalg.svd(np.asarray(A.w) / np.asarray(sigma_y)[:, None], full_matrices=False)
    best = vh.T @ (u.T @ np.asarray(y / sigma_y) / s)
    path = _path(lambda t: landweber(*t), (A, y, sigma_y), x0, 5)
    errors = np.abs((np.asarray(path) - best[None]) @ vh.T)
    wanted = np.abs(vh @ (np.asarray(x0) - best))[None] * np.abs(1 - (s / s[0]) ** 2)[None] ** np.arange(1, 6)[:, None]
    assert np.allclose(errors, wanted, rtol=1e-8, atol=1e-10)


def test_momentum_is_worth_it():
    """Curvatures from 1 to 1/1000: FISTA keeps within 2 L |x_0 - x*|^2 / (k + 1)^2 where steps without it do not, and restarts make it linear."""
    curvature = jnp.array([1.0, 1e-2, 1 / 300, 1e-3])

    @jax.jit
    def run():
        makers = [lambda r=r: fista(lambda x: curvature * x, lambda v, _: v, 1.0, r) for r in (False, True)]
        makers.append(lambda: proximal_gradient(lambda x: curvature * x, lambda v, _: v, 1.0))
        return [iterate_until(make(), jnp.ones(4), -1.0, 800, lambda state, _: curvature @ state.x**2 / 2)[1].history for make in makers]

    momentum, restarted, plain = (np.asarray(a) for a in run())
    bound = 2 * 4 / (np.arange(800) + 2) ** 2
    assert np.all(momentum <= bound) and np.all(plain[100:500] > bound[100:500])
    assert restarted[-1] < 1e-12 < momentum[-1]


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_line_search_knows_no_units(scale):
    """f(x) -> scale f(scale x) is the same problem: the same path, to rounding."""
    theta, x0 = rows.lasso(jax.random.key(1), REAL)
    wanted = _path(lambda t: gradient_descent(lambda x: rows.smooth_value(t, x)), theta, x0, 12)
    found = _path(lambda t: gradient_descent(lambda x: scale * rows.smooth_value(t, x * scale)), theta, x0 / scale, 12)
    assert np.allclose(found * scale, wanted, rtol=1e-6, atol=1e-8)  # rounding, grown over 12 steps


@pytest.mark.parametrize("method", ["proximal_gradient", "fista", "gradient_descent"])
def test_backtracking_stays_in_the_domain(method):
    """Poisson likelihood, infinite or NaN where a rate is not positive: steps out of there are refused, in every component at once."""
    w, counts = jnp.abs(rows.normal(jax.random.key(1), (9, 3), REAL)) + 0.1, jnp.array([3.0, 0, 1, 7, 2, 5, 1, 0, 4])

    def value(x):
        return jnp.sum(w @ x - counts * jnp.log(w @ x))

    makers = {
        "proximal_gradient": lambda: proximal_gradient(jax.grad(value), lambda v, _: v, 10.0, value),
        "fista": lambda: fista(jax.grad(value), lambda v, _: v, 10.0, True, value),
        "gradient_descent": lambda: gradient_descent(value),
    }
    state, outcome = jax.jit(lambda x0: iterate_until(makers[method](), x0, 1e-10, 3000))(jnp.ones(3))
    assert bool(outcome.converged) and not bool(outcome.diverged)
    assert jnp.all(w @ state.x > 0) and linalg.norm(jax.grad(value)(state.x)) < 1e-6


def test_pdhg_takes_blocks_and_array_steps():
    """Two dual blocks with diagonal steps, row sums of |K| as in Pock & Chambolle (2011), reach what coordinate descent reaches."""
    (A, y, strength), _ = rows.lasso(jax.random.key(1), REAL)
    w = A.w * jnp.geomspace(0.1, 10, 24)[:, None]
    tau = 1 / (jnp.sum(jnp.abs(w), 0) + 1)
    sigma = (1 / jnp.sum(jnp.abs(w), 1), jnp.ones(6))

    def prox_f_conj(dual, sigma):
        return (dual[0] - sigma[0] * y) / (1 + sigma[0]), jnp.clip(dual[1], -strength, strength)

    solver = pdhg(lambda x: (w @ x, x), lambda q: w.T @ q[0] + q[1], lambda v, tau: v, prox_f_conj, tau, sigma)
    wanted = rows.lasso_optimum((Dense(w), y, strength), None)
    state, outcome = jax.jit(lambda: iterate_until(solver, jnp.zeros(6), 1e-12, 20000))()
    assert bool(outcome.converged) and float(outcome.step_ratio) <= 1 and np.allclose(state.x, wanted, rtol=0, atol=1e-8)


def test_a_rest_of_the_primal_is_no_end():
    """From 0 the first step of x is 0, for the strength is large; the dual moves, and the run must not stop."""
    theta = (Dense(jnp.array([[1.0, 0.9], [0.9, 1.0]])), jnp.array([1.0, 0.2]), jnp.asarray(0.55))
    state, outcome = jax.jit(lambda: iterate_until(rows._pdhg(theta, 1.0), jnp.zeros(2), 1e-12, 5000, lambda s, _: s.x))()
    assert np.array_equal(outcome.history[0], np.zeros(2)) and float(linalg.norm(state.x)) > 0.1
    assert np.allclose(state.x, rows.lasso_optimum(theta, None), rtol=0, atol=1e-8)


def test_a_rest_with_momentum_is_no_end():
    """(x - 5.01)^2 / 2 + 5 |x| has its minimum at 0.01; momentum carries z so far that x is 0 twice."""
    solver = fista(lambda x: x - 5.01, lambda v, tau: rows.soft(v, 5 * tau), 0.1)
    state, outcome = jax.jit(lambda: iterate_until(solver, jnp.ones(1), 1e-9, 5000, lambda s, _: s.x))()
    x = np.asarray(outcome.history)[:, 0]
    assert np.any((x[1:] == 0) & (x[:-1] == 0)) and abs(float(state.x[0]) - 0.01) < 1e-6


@pytest.mark.parametrize("rho", [1e-3, 1e4])
def test_admm_balances_its_residuals(rho):
    """From a penalty that is 4 orders off; without balancing it is not there after 10 times as many steps."""
    theta, x0 = rows.lasso(jax.random.key(1), REAL)
    wanted = rows.lasso_optimum(theta, None)

    @jax.jit
    def run(rho):
        solvers = [admm(rows.prox_data(theta), rows._soft(theta), rho, balance=balance) for balance in (True, False)]
        return iterate(solvers[0], x0, 100).x, iterate(solvers[1], x0, 1000).x

    balanced, plain = (np.linalg.norm(x - wanted) for x in run(rho))
    assert balanced < 1e-6 < 1e-3 < plain


def test_half_quadratic_nears_the_constrained_optimum_as_mu_grows():
    """The envelope is off by at most strength^2 n / (2 mu): an error of the order of 1 / mu."""
    theta, x0 = rows.lasso(jax.random.key(1), REAL)
    wanted = rows.lasso_optimum(theta, None)
    run = jax.jit(lambda mu: iterate(half_quadratic(rows.prox_data(theta), rows._soft(theta), mu), x0, 30000).x)
    errors = [np.linalg.norm(run(mu) - wanted) for mu in (1e1, 1e2, 1e3)]
    assert 5 < errors[0] / errors[1] < 20 and 5 < errors[1] / errors[2] < 20


def test_admm_is_douglas_rachford():
    """With K the identity, rho = 1 / tau and relaxation alike, w of the one is z + y / rho of the other (Eckstein & Bertsekas 1992)."""
    theta, x0 = rows.lasso(jax.random.key(1), REAL)
    first = admm(rows.prox_data(theta), rows._soft(theta), 5.0, relaxation=1.5)
    second = douglas_rachford(rows.prox_data(theta), rows._soft(theta), 0.2, relaxation=1.5)

    @jax.jit
    def run(x0):
        start = first.step(first.init(x0))[0]
        return iterate(first, x0, 8), iterate(second, start.z + start.y / 5, 7)

    a, b = run(x0)
    assert np.allclose(a.z + a.y / 5, b.w, rtol=0, atol=1e-12)


def test_lasso_equals_scikit_learn():
    """100 x 60 with 10 pairs of columns much alike, to 1e-6 of the largest coefficient."""
    from sklearn import linear_model

    w, y = rows.normal(jax.random.key(1), (100, 60), REAL), rows.normal(jax.random.key(2), (100,), REAL)
    w = w.at[:, :10].set(w[:, 10:20] + 0.3 * w[:, :10])
    theta = (Dense(w), y + w @ jnp.linspace(-2, 2, 60), jnp.asarray(20.0))
    wanted = linear_model.Lasso(20.0 / 100, fit_intercept=False, tol=1e-14, max_iter=1000000).fit(np.asarray(w), np.asarray(theta[1])).coef_
    assert np.allclose(rows.lasso_optimum(theta, None), wanted, rtol=0, atol=1e-6 * np.max(np.abs(wanted)))
    for make in (rows._fista_restart, rows._pdhg):
        x = jax.jit(lambda make=make: iterate_until(make(theta, 1.0), jnp.zeros(60), 1e-13, 100000)[0].x)()
        assert np.allclose(x, wanted, rtol=0, atol=1e-6 * np.max(np.abs(wanted)))
        assert 0 < np.sum(np.asarray(x) == 0) < 60


def _identity(v, *_):
    return v


A, Y = Dense(jnp.eye(2)), jnp.ones(2)
BAD = {
    "fista": (lambda: fista(_identity, _identity, 0.0), "step_size is 0, more than 0"),
    "proximal_gradient": (lambda: proximal_gradient(_identity, _identity, -1.0), "step_size is -1, more than 0"),
    "gradient_descent": (lambda: gradient_descent(jnp.sum, -0.1), "step_size is -0.1, more than 0"),
    "pdhg": (lambda: pdhg(_identity, _identity, _identity, _identity, 0.5, (jnp.array([1.0, -2.0]), 1.0)), "sigma is -2, more than 0"),
    "pdhg_convexity": (lambda: pdhg(_identity, _identity, _identity, _identity, 0.5, 1.0, -1.0), "strong_convexity is -1, at least 0"),
    "admm": (lambda: admm(_identity, _identity, 0.0), "rho is 0, more than 0"),
    "half_quadratic": (lambda: half_quadratic(_identity, _identity, -3.0), "mu is -3, more than 0"),
    "douglas_rachford": (lambda: douglas_rachford(_identity, _identity, 0.0), "step_size is 0, more than 0"),
    "landweber": (lambda: landweber(A, Y, 0.0), "sigma_y is 0, more than 0"),
    "cgls": (lambda: cgls(A, Y, damping=-1.0), "damping is -1, at least 0"),
    "lsqr": (lambda: lsqr(A, Y, damping=jnp.asarray(-1.0)), "damping is -1, at least 0"),
}


@pytest.mark.parametrize("make, message", BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=f"^{message} is needed$"):
        make()
