"""Contract rows of the tomographic solvers, on small matrices that are not negative; see `solver_row.SolverRow`."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from rows_solvers import normal
from solver_row import Dense, SolverRow

from medjax.solvers.mlem import mlem
from medjax.solvers.os_sart import os_sart
from medjax.solvers.osem import osem
from medjax.solvers.sart import sart
from medjax.solvers.sirt import sirt
from medjax.typing import Leaf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scan:
    """x -> w x of a matrix `[views, detectors, n]`, with the views of a scan."""

    w: Leaf

    def __call__(self, x):
        """`[n]` -> `[views, detectors]`."""
        return self.w @ x

    def adjoint(self, y):
        """`[views, detectors]` -> `[n]`."""
        return jnp.einsum("vdn,vd->n", self.w, y)

    def views(self, indices):
        """Some of the views."""
        return Scan(self.w[indices])


def _weights(key, shape):
    """Positive numbers, in each row one pixel above the others, so that all solvers are quick."""
    high = jnp.eye(shape[-1])[jnp.arange(np.prod(shape[:-1])) % shape[-1]].reshape(shape)
    return 0.2 * jnp.exp(normal(key, shape, float)) + 4 * high


def _lines(key, dtype):
    """theta = (A, y) of data that contradict each other, and a start."""
    w = _weights(key, (14, 5))
    return (Dense(w), 10 + normal(jax.random.fold_in(key, 1), (14,), dtype)), jnp.ones(5)


def _consistent(key, dtype):
    """theta = (A, y) of 5 views of 4 detectors, which some x explains, and a start; of two subsets one is filled up."""
    w = _weights(key, (5, 4, 6))
    x = jnp.exp(0.3 * normal(jax.random.fold_in(key, 1), (6,), dtype))
    return (Scan(w), w @ x), jnp.ones(6)


def _scaled(theta):
    """R^1/2 A C^1/2, R^1/2 y and C^1/2."""
    w = theta[0].w
    root_r, root_c = 1 / jnp.sqrt(jnp.sum(w, 1)), 1 / jnp.sqrt(jnp.sum(w, 0))
    return root_r[:, None] * w * root_c[None, :], root_r * theta[1], root_c


def _sirt_optimum(theta, x0):
    """The weighted least-squares solution nearest to x0 in the norm |C^-1/2 x|, by the pseudoinverse."""
    matrix, right, root_c = (np.asarray(a) for a in _scaled(theta))
    start = np.asarray(x0) / root_c
    return root_c * (start + np.linalg.pinv(matrix) @ (right - matrix @ start))


def _sirt_limit(theta, x0, best):
    """Each singular component of C^-1/2 (x - x*) shrinks by 1 - omega s^2, where s <= 1."""
    matrix, _, root_c = _scaled(theta)
    squares = jnp.linalg.svd(matrix, compute_uv=False) ** 2

    def distance(x):
        return jnp.linalg.norm((x - best) / root_c)

    return lambda state: distance(state.x), lambda k: jnp.max(jnp.abs(1 - 1.8 * squares)) ** k * distance(x0)


def _sirt_falls(theta, x0, best):
    matrix, right, root_c = _scaled(theta)
    return lambda state: jnp.linalg.norm(matrix @ (state.x / root_c) - right)


def _truth(theta, _):
    """Of consistent data."""
    w, y = (np.asarray(a) for a in (theta[0].w, theta[1]))
    return np.linalg.lstsq(w.reshape(-1, w.shape[-1]), y.ravel(), rcond=None)[0]


def _counts(key, dtype):
    """theta = (A, y, background) of data that no x explains, and a start."""
    (A, y), x0 = _lines(key, dtype)
    return (A, 3 * y, jnp.asarray(2.0)), x0


def _consistent_counts(key, dtype):
    (A, y), x0 = _consistent(key, dtype)
    background = jnp.linspace(0.2, 0.4, y.size).reshape(y.shape)
    return (A, y + background, background), x0


def likelihood(theta, x):
    """Minus the logarithm, of x > 0."""
    mean = theta[0](x) + theta[2]
    return jnp.sum(mean - theta[1] * jnp.log(mean))


def _mlem_optimum(theta, x0):
    """By Newton's method: here the maximum has x > 0."""
    w, y, background = np.asarray(theta[0].w), np.asarray(theta[1]), float(theta[2])
    x = np.linalg.lstsq(w, y - background)[0]
    for _ in range(30):
        mean = w @ x + background
        x = x - np.linalg.solve(w.T @ (w * (y / mean**2)[:, None]), w.T @ (1 - y / mean))
    assert np.all(x > 0)
    return x


def _mlem_limit(theta, x0, best):
    """EM minimises two divergences in turn: the gaps of all steps add up to sum s (x* log(x* / x_0) - x* + x_0) at most, and never grow."""
    first = jnp.sum(jnp.sum(theta[0].w, 0) * (best * jnp.log(best / x0) - best + x0))
    return lambda state: likelihood(theta, state.x) - likelihood(theta, best), lambda k: first / k


def _mlem_falls(theta, x0, best):
    return lambda state: likelihood(theta, state.x)


def _sirt(theta, stretch):
    return sirt(*theta, relaxation=1.8 * stretch)


def _net_truth(theta, x0):
    return _truth((theta[0], theta[1] - theta[2]), x0)


SOLVERS = {
    "sirt": SolverRow(_sirt, _lines, _sirt_optimum, 120, step_bound=True, limit=_sirt_limit, falls=_sirt_falls),
    "sart": SolverRow(lambda theta: sart(*theta), _consistent, _truth, 60),
    "os_sart": SolverRow(lambda theta, stretch: os_sart(*theta, 2, relaxation=1.5 * stretch), _consistent, _truth, 100, step_bound=True),
    "mlem": SolverRow(lambda theta: mlem(*theta), _counts, _mlem_optimum, 120, limit=_mlem_limit, falls=_mlem_falls),
    "osem": SolverRow(lambda theta: osem(*theta[:2], 2, theta[2]), _consistent_counts, _net_truth, 100),
}
