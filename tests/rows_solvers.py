"""Contract rows of the optimisation algorithms; see `solver_row.SolverRow`. Other families have files of their own, joined in `test_solvers.py`."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import lsq_linear
from solver_row import Dense, SolverRow

from medjax import linalg
from medjax.solvers.admm import admm
from medjax.solvers.douglas_rachford import douglas_rachford
from medjax.solvers.fista import fista
from medjax.solvers.gradient_descent import gradient_descent
from medjax.solvers.half_quadratic import half_quadratic
from medjax.solvers.lbfgs import lbfgs
from medjax.solvers.pdhg import pdhg
from medjax.solvers.proximal_gradient import proximal_gradient


def soft(v, threshold):
    """prox of threshold |x|, real or complex."""
    size = jnp.abs(v)
    return v * jnp.maximum(1 - threshold / jnp.where(size > threshold, size, threshold), 0)


def normal(key, shape, dtype):
    """Normal numbers, one stream for a key."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    draw = rng.normal(size=shape)
    return jnp.asarray(draw + 1j * rng.normal(size=shape) if jnp.issubdtype(dtype, jnp.complexfloating) else draw)


def lasso(key, dtype):
    """theta = (A, y, strength) of min |A x - y|^2 / 2 + strength |x|_1, and a start."""
    w, y = normal(key, (24, 6), dtype), normal(jax.random.fold_in(key, 1), (24,), dtype)
    return (Dense(w), y, jnp.asarray(2.0)), jnp.ones(6, dtype)


def lasso_value(theta, x):
    """The objective."""
    A, y, strength = theta
    return jnp.sum(jnp.abs(A(x) - y) ** 2) / 2 + strength * jnp.sum(jnp.abs(x))


def lasso_optimum(theta, _):
    """Coordinate descent: each entry in turn to its exact minimum."""
    w, y, strength = np.asarray(theta[0].w), np.asarray(theta[1]), float(theta[2])
    x, rest, square = np.zeros(w.shape[1], w.dtype), y.copy(), np.sum(abs(w) ** 2, 0)
    for _ in range(2000):
        for j in range(len(x)):
            v = np.vdot(w[:, j], rest) + square[j] * x[j]
            new = v * max(1 - strength / max(abs(v), 1e-300), 0) / square[j]
            rest += w[:, j] * (x[j] - new)
            x[j] = new
    return x


def prox_data(theta):
    """prox of |A x - y|^2 / 2, by a dense solve."""
    A, y, _ = theta
    return lambda v, tau: jnp.linalg.solve(gram(A.w) + jnp.eye(A.w.shape[1], dtype=A.w.dtype) / tau, A.adjoint(y) + v / tau)


def distance(theta, x0, best):
    """|x - x*|."""
    return lambda state: linalg.norm(state.x - best)


def gram(w):
    """w^H w."""
    return jnp.conj(w).T @ w


def smooth_value(theta, x):
    """A logistic loss, which is far from quadratic, and a ridge."""
    A, y, strength = theta
    margin = jnp.real(A(x) * jnp.conj(y))
    return jnp.sum(jax.nn.softplus(-margin)) + strength / 2 * jnp.sum(jnp.abs(x) ** 2)


def smooth_optimum(theta, x0):
    """By Newton's method with the damping of self-concordant functions."""
    flat, unflat = linalg.flat(x0), linalg.flattening(x0)[1]
    grad = jax.grad(lambda v: smooth_value(theta, unflat(v)))
    both = jax.jit(lambda v: (grad(v), jax.jacfwd(grad)(v)))
    for _ in range(60):
        slope, hessian = (np.asarray(a) for a in both(flat))
        direction = np.linalg.solve(hessian, slope)
        flat = flat - direction / (1 + np.sqrt(slope @ direction))
    return unflat(flat)


def _smooth_residual(theta, x):
    return linalg.gradient(lambda u: smooth_value(theta, u))(x)


def _smooth_falls(theta, x0, best):
    return lambda state: smooth_value(theta, state.x)


def _data(theta):
    A, y, _ = theta
    return lambda x: jnp.sum(jnp.abs(A(x) - y) ** 2) / 2


def _soft(theta):
    return lambda v, tau: soft(v, theta[2] * tau)


def _data_gradient(theta):
    A, y, _ = theta
    return lambda x: A.adjoint(A(x) - y)


def _lipschitz(theta):
    return jnp.linalg.norm(theta[0].w, 2) ** 2


def _proximal_gradient(theta, stretch):
    return proximal_gradient(_data_gradient(theta), _soft(theta), 1.8 * stretch / _lipschitz(theta))


def _proximal_gradient_backtracking(theta):
    return proximal_gradient(_data_gradient(theta), _soft(theta), 12 / _lipschitz(theta), _data(theta))


def _proximal_gradient_limit(theta, x0, best):
    """Beck & Teboulle (2009), theorem 3.1: F(x_k) - F* <= eta L |x_0 - x*|^2 / (2 k), eta 2 with backtracking, here after 4 refused trials."""
    scale = _lipschitz(theta) * jnp.sum(jnp.abs(x0 - best) ** 2)
    return _gap(theta, best), lambda k: jnp.where(k > 4, scale / jnp.maximum(k - 4, 1), jnp.inf)


def _gap(theta, best):
    return lambda state: lasso_value(theta, state.x) - lasso_value(theta, best)


def _objective_falls(theta, x0, best):
    return _gap(theta, best)


def _fista(theta, stretch):
    return fista(_data_gradient(theta), _soft(theta), stretch / _lipschitz(theta))


def _fista_restart(theta, stretch):
    return fista(_data_gradient(theta), _soft(theta), stretch / _lipschitz(theta), restart=True)


def _fista_backtracking(theta):
    return fista(_data_gradient(theta), _soft(theta), 12 / _lipschitz(theta), value_fn=_data(theta))


def _fista_limit(theta, x0, best):
    """Beck & Teboulle (2009), theorem 4.4: F(x_k) - F* <= 2 L |x_0 - x*|^2 / (k + 1)^2."""
    scale = 2 * _lipschitz(theta) * jnp.sum(jnp.abs(x0 - best) ** 2)
    return _gap(theta, best), lambda k: scale / (k + 1) ** 2


def _fista_backtracking_limit(theta, x0, best):
    """The same with 2 L for L, after 4 refused trials at most."""
    scale = 4 * _lipschitz(theta) * jnp.sum(jnp.abs(x0 - best) ** 2)
    return _gap(theta, best), lambda k: jnp.where(k > 4, scale / jnp.maximum(k - 3, 1) ** 2, jnp.inf)


def _dual_data_prox(theta):
    return lambda q, sigma: (q - sigma * theta[1]) / (1 + sigma)


def _pdhg(theta, stretch):
    A, step = theta[0], 0.99 * stretch / jnp.linalg.norm(theta[0].w, 2)
    return pdhg(A, A.adjoint, _soft(theta), _dual_data_prox(theta), step, step)


def _pdhg_falls(theta, x0, best):
    """With theta = 1 it is a proximal point method for (x_k, y_{k+1}), in the metric of the steps."""
    A, y, _ = theta
    solver, step = _pdhg(theta, 1.0), 0.99 / jnp.linalg.norm(A.w, 2)

    def distance(state):
        dx, dy = state.x - best, solver.step(state)[0].y - (A(best) - y)
        return (linalg.vdot(dx, dx) + linalg.vdot(dy, dy)) / step - 2 * linalg.vdot(A(dx), dy)

    return distance


def _pdhg_limit(theta, x0, best):
    """A firmly nonexpansive map of (x_k, y_{k+1}) in that metric moves by |u_{k+1} - u_k|^2 <= |u_0 - u*|^2 / (k + 1)."""
    A, _, _ = theta
    solver, step = _pdhg(theta, 1.0), 0.99 / jnp.linalg.norm(A.w, 2)

    def moved(state):
        new = solver.step(state)[0]
        dx, dy = new.x - state.x, solver.step(new)[0].y - new.y
        return (linalg.vdot(dx, dx) + linalg.vdot(dy, dy)) / step - 2 * linalg.vdot(A(dx), dy)

    start = _pdhg_falls(theta, x0, best)(solver.init(x0))
    return moved, lambda k: start / (k + 1)


def _pdhg_accelerated(theta, stretch):
    """|x - A^H y|^2 / 2 + strength / 20 |A x|_1, like denoising by total variation, from steps that suit it badly."""
    (A, y, strength), step = theta, 0.99 * stretch / jnp.linalg.norm(theta[0].w, 2)

    def prox_g(v, tau):
        return (v + tau * A.adjoint(y)) / (1 + tau)

    return pdhg(A, A.adjoint, prox_g, lambda q, _: jnp.clip(q, -strength / 20, strength / 20), 100 * step, step / 100, strong_convexity=1.0)


def _denoised(theta, _):
    """From the dual, least squares in a box."""
    back, image, strength = np.asarray(theta[0].w).T, np.asarray(theta[0].adjoint(theta[1])), float(theta[2]) / 20
    return image - back @ lsq_linear(back, image, (-strength, strength), "bvls", 1e-14).x


def _pdhg_accelerated_limit(theta, x0, best):
    """Chambolle & Pock (2011), theorem 2: |x_k - x*|^2 <= tau_k^2 (|x_0 - x*|^2 / tau^2 + |y_0 - y*|^2 / (tau sigma)), with tau_k ~ 1 / (gamma k)."""
    step = 0.99 / jnp.linalg.norm(theta[0].w, 2)
    taus = jax.lax.scan(lambda tau, _: (tau / jnp.sqrt(1 + 2 * tau),) * 2, 100 * step, length=1000)[1]
    start = jnp.sum((x0 - best) ** 2) / (100 * step) ** 2 + theta[1].size * (theta[2] / 20) ** 2 / step**2  # at most, of y* in the box
    return lambda state: jnp.sum((state.x - best) ** 2), lambda k: taus[k - 1] ** 2 * start


_RHO = 12.0


def _admm(theta):
    return admm(prox_data(theta), _soft(theta), _RHO)


def _multiplier(theta, best):
    """y with grad f(x*) + y = 0."""
    return -_data_gradient(theta)(best)


def _admm_limit(theta, x0, best):
    """Firmly nonexpansive in w = z + y / rho, as Douglas and Rachford's is."""
    solver, start = _admm(theta), linalg.norm(x0 - best - _multiplier(theta, best) / _RHO) ** 2

    def moved(state):
        new = solver.step(state)[0]
        return linalg.norm(new.z - state.z + (new.y - state.y) / _RHO) ** 2

    return moved, lambda k: start / (k + 1)


def _admm_falls(theta, x0, best):
    """|z + y / rho - fixed point| of the averaged map that ADMM is."""
    return lambda state: linalg.norm(state.z - best + (state.y - _multiplier(theta, best)) / _RHO)


def _analysis(theta):
    """K of the problem in analysis form: invertible, so that a change of variables makes a Lasso of it."""
    size = theta[0].w.shape[1]
    return jnp.eye(size, dtype=theta[0].w.dtype) - 0.6 * jnp.eye(size, k=1, dtype=theta[0].w.dtype)


def _admm_analysis(theta):
    A, y, _ = theta
    K = _analysis(theta)

    def update(v, tau, x):
        matrix, right = gram(A.w) + K.T @ K / tau, A.adjoint(y) + K.T @ v / tau

        def solve(matvec, b):
            return linalg.conjugate_gradient(matvec, b, jax.lax.stop_gradient(x), num_steps=10, tolerance=1e-14)

        return jax.lax.custom_linear_solve(lambda u: matrix @ u, right, solve, symmetric=True)

    return admm(update, _soft(theta), _RHO, lambda x: K @ x, relaxation=1.6)


def _analysis_optimum(theta, x0):
    A, y, strength = theta
    back = np.linalg.inv(_analysis(theta))
    return back @ lasso_optimum((Dense(A.w @ back), y, strength), x0)


def _analysis_falls(theta, x0, best):
    K = _analysis(theta)
    multiplier = jnp.linalg.solve(K.T, _multiplier(theta, best))
    return lambda state: linalg.norm(state.z - K @ best + (state.y - multiplier) / _RHO)


def _half_quadratic(theta):
    return half_quadratic(prox_data(theta), _soft(theta), _RHO)


def _huber_optimum(theta, x0):
    """The Moreau envelope of strength |x| is Huber's function: proximal gradient steps on f, with the envelope's prox in closed form."""
    w, y, strength = np.asarray(theta[0].w), np.asarray(theta[1]), float(theta[2])
    x, step = np.zeros(w.shape[1], w.dtype), 1 / np.linalg.norm(w, 2) ** 2
    for _ in range(3000):
        v = x - step * np.conj(w).T @ (w @ x - y)
        inner, size = v / (1 + step * _RHO), np.maximum(abs(v), 1e-300)
        x = np.where(abs(inner) * _RHO <= strength, inner, v * (1 - step * strength / size))
    return x


def _half_quadratic_limit(theta, x0, best):
    """A proximal step, which is nonexpansive, and a solve that shrinks by rho / (rho + smallest eigenvalue)."""
    rate = _RHO / (_RHO + jnp.linalg.svd(theta[0].w, compute_uv=False)[-1] ** 2)
    return distance(theta, x0, best), lambda k: rate ** (k - 1) * linalg.norm(x0 - best)


def _douglas_rachford(theta):
    return douglas_rachford(prox_data(theta), _soft(theta), 1 / _RHO)


def _douglas_rachford_limit(theta, x0, best):
    """Firmly nonexpansive: |w_{k+1} - w_k|^2 <= |w_0 - w*|^2 / (k + 1), with w* = x* - tau grad f(x*)."""
    solver, scale = _douglas_rachford(theta), linalg.norm(x0 - best - _multiplier(theta, best) / _RHO) ** 2
    return lambda state: linalg.norm(solver.step(state)[0].w - state.w) ** 2, lambda k: scale / (k + 1)


def _douglas_rachford_falls(theta, x0, best):
    return lambda state: linalg.norm(state.w - best - _multiplier(theta, best) / _RHO)


SOLVERS = {
    "gradient_descent_search": SolverRow(
        lambda theta: gradient_descent(lambda x: smooth_value(theta, x)),
        *(lasso, smooth_optimum, 80, 1e-10),
        falls=_smooth_falls,
        complex=True,
    ),
    "lbfgs": SolverRow(
        lambda theta: lbfgs(lambda x: smooth_value(theta, x), memory=5),
        *(lasso, smooth_optimum, 50, 1e-10),
        falls=_smooth_falls,
        complex=True,
        backward=("implicit",),
    ),
    "proximal_gradient": SolverRow(_proximal_gradient, lasso, lasso_optimum, 300, step_bound=True, falls=_objective_falls, complex=True),
    "proximal_gradient_backtracking": SolverRow(
        _proximal_gradient_backtracking, lasso, lasso_optimum, 300, limit=_proximal_gradient_limit, falls=_objective_falls, complex=True
    ),
    "fista": SolverRow(_fista, lasso, lasso_optimum, 150, step_bound=True, limit=_fista_limit, complex=True),
    "fista_restart": SolverRow(_fista_restart, lasso, lasso_optimum, 150, step_bound=True, complex=True),
    "fista_backtracking": SolverRow(_fista_backtracking, lasso, lasso_optimum, 150, limit=_fista_backtracking_limit, complex=True),
    "pdhg": SolverRow(_pdhg, lasso, lasso_optimum, 150, step_bound=True, limit=_pdhg_limit, falls=_pdhg_falls, complex=True),
    # 1 / k, and no faster: 1e-3 after 200 steps
    "pdhg_accelerated": SolverRow(_pdhg_accelerated, lasso, _denoised, 200, 1e-3, step_bound=True, limit=_pdhg_accelerated_limit),
    "admm": SolverRow(_admm, lasso, lasso_optimum, 150, limit=_admm_limit, falls=_admm_falls, complex=True),
    "admm_analysis": SolverRow(_admm_analysis, lasso, _analysis_optimum, 150, falls=_analysis_falls, complex=True),
    "half_quadratic": SolverRow(_half_quadratic, lasso, _huber_optimum, 150, limit=_half_quadratic_limit, falls=distance, complex=True),
    "douglas_rachford": SolverRow(
        _douglas_rachford, lasso, lasso_optimum, 150, limit=_douglas_rachford_limit, falls=_douglas_rachford_falls, complex=True
    ),
}
