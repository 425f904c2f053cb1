"""Contract rows of methods for least squares."""

import jax
import jax.numpy as jnp
import numpy as np
from rows_solvers import distance, gram, lasso, normal
from solver_row import SolverRow

from medjax import linalg
from medjax.solvers.cgls import cgls
from medjax.solvers.conjugate_gradient import conjugate_gradient
from medjax.solvers.gradient_descent import gradient_descent
from medjax.solvers.landweber import landweber
from medjax.solvers.lsqr import lsqr


def ridge(key, dtype):
    """theta = (A, y, sigma_y, damping) of min |(A x - y) / sigma_y|^2 + damping^2 |x|^2, and a start."""
    (A, y, _), x0 = lasso(key, dtype)
    return (A, y, jnp.exp(0.3 * normal(jax.random.fold_in(key, 2), y.shape, float)), jnp.asarray(1.5)), x0


def _system(theta):
    """The matrix and the right-hand side of its normal equations."""
    A, y, sigma_y, damping = theta
    w = A.w / sigma_y[:, None]
    return gram(w) + damping**2 * jnp.eye(w.shape[1], dtype=w.dtype), jnp.conj(w).T @ (y / sigma_y)


def ridge_value(theta, x):
    """Half the objective."""
    A, y, sigma_y, damping = theta
    return (jnp.sum(jnp.abs((A(x) - y) / sigma_y) ** 2) + damping**2 * jnp.sum(jnp.abs(x) ** 2)) / 2


def ridge_optimum(theta, _):
    """By numpy."""
    return np.linalg.solve(*(np.asarray(a) for a in _system(theta)))


def _energy_limit(theta, x0, best):
    """|x_k - x*|_M <= 2 ((sqrt kappa - 1) / (sqrt kappa + 1))^k |x_0 - x*|_M: Hestenes and Stiefel's method, by Chebyshev polynomials."""
    matrix, _ = _system(theta)
    root = jnp.sqrt(jnp.linalg.cond(matrix))

    def energy(x):
        return jnp.sqrt(linalg.vdot(x - best, matrix @ (x - best)))

    return lambda state: energy(state.x), lambda k: 2 * ((root - 1) / (root + 1)) ** k * energy(x0)


def _krylov(make):
    return SolverRow(make, ridge, ridge_optimum, 12, 1e-10, limit=_energy_limit, falls=distance, complex=True)


def _conjugate_gradient(theta):
    matrix, right = _system(theta)
    return conjugate_gradient(lambda x: matrix @ x, right)


def _landweber(theta, stretch):
    A, y, sigma_y, _ = theta
    return landweber(A, y, sigma_y, 1.8 * stretch / jnp.linalg.norm(A.w / sigma_y[:, None], 2) ** 2)


def _undamped(theta, _):
    A, y, sigma_y, _ = theta
    return ridge_optimum((A, y, sigma_y, 0.0), _)


def _landweber_limit(theta, x0, best):
    """Each singular component of the error shrinks by 1 - tau s^2."""
    A, _, sigma_y, _ = theta
    squares = jnp.linalg.svd(A.w / sigma_y[:, None], compute_uv=False) ** 2
    rate = jnp.max(jnp.abs(1 - 1.8 / squares[0] * squares))
    return distance(theta, x0, best), lambda k: rate**k * linalg.norm(x0 - best)


def _projected_limit(theta, x0, best):
    """A projection brings nothing apart; the step is within 5 % of 1 / s^2 of the largest s."""
    A, _, sigma_y, _ = theta
    squares = jnp.linalg.svd(A.w / sigma_y[:, None], compute_uv=False) ** 2
    return distance(theta, x0, best), lambda k: (1 - 0.95 * squares[-1] / squares[0]) ** k * linalg.norm(x0 - best)


def nonnegative_optimum(theta, _):
    """Coordinate descent on x >= 0."""
    A, y, sigma_y, _ = theta
    w, rest = np.asarray(A.w / sigma_y[:, None]), np.asarray(y / sigma_y)
    x, square = np.zeros(w.shape[1]), np.sum(w**2, 0)
    for _ in range(2000):
        for j in range(len(x)):
            new = max(x[j] + w[:, j] @ rest / square[j], 0)
            rest, x[j] = rest - w[:, j] * (new - x[j]), new
    return x


def _descent(theta, stretch):
    return gradient_descent(lambda x: ridge_value(theta, x), stretch / jnp.linalg.norm(_system(theta)[0], 2))


def _descent_limit(theta, x0, best):
    """Strongly convex, tau = 1 / L: f(x_k) - f* <= (1 - m / L)^k (f(x_0) - f*)."""
    m_over_l = 1 / jnp.linalg.cond(_system(theta)[0])

    def gap(x):
        return ridge_value(theta, x) - ridge_value(theta, best)

    return lambda state: gap(state.x), lambda k: (1 - m_over_l) ** k * gap(x0)


SOLVERS = {
    "conjugate_gradient": _krylov(_conjugate_gradient),
    "cgls": _krylov(lambda theta: cgls(*theta)),
    "lsqr": _krylov(lambda theta: lsqr(*theta)),
    "landweber": SolverRow(_landweber, ridge, _undamped, 300, step_bound=True, limit=_landweber_limit, complex=True),
    "landweber_nonnegative": SolverRow(
        lambda theta: landweber(*theta[:3], nonnegative=True), ridge, nonnegative_optimum, 300, limit=_projected_limit, falls=distance
    ),
    "gradient_descent": SolverRow(_descent, ridge, ridge_optimum, 200, step_bound=True, limit=_descent_limit, falls=distance, complex=True),
}
