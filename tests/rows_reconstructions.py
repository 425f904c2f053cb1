"""Contract rows of reconstructions that are least squares with a penalty; see `solver_row.SolverRow`."""

import jax.numpy as jnp
import rows_least_squares
import rows_solvers
from solver_row import Dense, SolverRow

from medjax.solvers.analysis_reconstruction import analysis_reconstruction
from medjax.solvers.cg_reconstruction import cg_reconstruction


def _analysis(theta, stretch):
    A, y, strength = theta
    K, size = Dense(rows_solvers._analysis(theta)), stretch / jnp.linalg.norm(A.w, 2) ** 2
    return analysis_reconstruction(A, y, 1.0, K, strength, step_size=size, K_norm=1.6)


def _cg(theta):
    A, y, sigma_y, damping = theta
    return cg_reconstruction(A, y, sigma_y, damping**2)


SOLVERS = {
    "analysis_reconstruction": SolverRow(_analysis, rows_solvers.lasso, rows_solvers._analysis_optimum, 150, step_bound=True, complex=True),
    "cg_reconstruction": rows_least_squares._krylov(_cg),
}
