"""Contract rows of reconstructions that are least squares with a penalty; see `solver_row.SolverRow`."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import rows_least_squares
import rows_solvers
from solver_row import Dense, SolverRow

from medjax import linalg
from medjax.functionals.l1 import l1
from medjax.functionals.total_variation import total_variation
from medjax.iterate import iterate
from medjax.solvers.analysis_reconstruction import analysis_reconstruction
from medjax.solvers.cg_reconstruction import cg_reconstruction
from medjax.solvers.fista import fista
from medjax.solvers.fista_reconstruction import fista_reconstruction
from medjax.solvers.tv_reconstruction import tv_reconstruction
from medjax.typing import Leaf


def _analysis(theta, stretch):
    A, y, strength = theta
    K, size = Dense(rows_solvers._analysis(theta)), stretch / jnp.linalg.norm(A.w, 2) ** 2
    return analysis_reconstruction(A, y, 1.0, K, strength, step_size=size, K_norm=1.6)


def _cg(theta):
    A, y, sigma_y, damping = theta
    return cg_reconstruction(A, y, sigma_y, damping**2)


def _fista(theta, stretch):
    A, y, strength = theta
    return fista_reconstruction(A, y, 1.0, l1(strength), stretch / jnp.linalg.norm(A.w, 2) ** 2)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Image:
    """x -> w x of a matrix `[m, 12]` and an image `[3, 4]`."""

    w: Leaf

    def __call__(self, x):
        """`[3, 4]` -> `[m]`."""
        return self.w @ x.ravel()

    def adjoint(self, y):
        """`[m]` -> `[3, 4]`."""
        return (jnp.conj(self.w).T @ y).reshape(3, 4)


def _edges(key, dtype):
    """theta = (A, y, sigma_y, strength): rays of uneven weight."""
    keys = jax.random.split(key, 4)
    w, image = (rows_solvers.normal(k, shape, dtype) for k, shape in zip(keys, ((15, 12), (3, 4)), strict=False))
    sigma_y = 0.5 + jax.random.uniform(keys[2], (15,), jnp.finfo(dtype).dtype)
    A = _Image(w + 6 * jnp.eye(15, 12, dtype=dtype))
    return (A, A(image) + 0.1 * rows_solvers.normal(keys[3], (15,), dtype), sigma_y, jnp.asarray(1.5, sigma_y.dtype)), jnp.zeros((3, 4), dtype)


def _edges_optimum(theta, x0):
    """By FISTA, whose prox is solved to the end."""
    A, y, sigma_y, strength = theta
    weighted = linalg.Weighted(A, 1 / sigma_y)
    step_size, prox = 1 / np.linalg.norm(np.asarray(A.w / sigma_y[:, None]), 2) ** 2, total_variation(strength, 400).prox
    return jax.jit(lambda: iterate(fista(lambda x: weighted.adjoint(weighted(x) - y / sigma_y), prox, step_size), x0, 600).x)()


SOLVERS = {
    "analysis_reconstruction": SolverRow(_analysis, rows_solvers.lasso, rows_solvers._analysis_optimum, 150, step_bound=True, complex=True),
    "cg_reconstruction": rows_least_squares._krylov(_cg),
    "fista_reconstruction": SolverRow(_fista, rows_solvers.lasso, rows_solvers.lasso_optimum, 150, step_bound=True, complex=True),
    # where hardly an edge is left PDHG is slow: 3e-6 of the second complex problem
    "tv_reconstruction": SolverRow(lambda theta: tv_reconstruction(*theta), _edges, _edges_optimum, 1500, 1e-5, complex=True),
}
