"""Contract rows of plug-and-play: with the exact denoiser of a Gaussian prior every limit has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
from rows_solvers import normal
from solver_row import Dense, SolverRow

from medjax.diffusion.gaussian import gaussian
from medjax.solvers.dpir import dpir
from medjax.solvers.pnp_admm import pnp_admm
from medjax.solvers.pnp_gradient_step import pnp_gradient_step
from medjax.solvers.pnp_pgm import pnp_pgm
from medjax.solvers.red import red

TIGHT = 1e-13  # of the data step, so that jit and eager take the same number of conjugate gradient steps


def problem(key, dtype):
    """theta = (A, y, sigma_y, m, B, sigma, strength) with the prior N(m, B B^T + I / 2) and noise that differs from datum to datum, and a start."""
    keys = jax.random.split(key, 4)
    w, y, mean = normal(keys[0], (7, 5), dtype), 3 * normal(keys[1], (7,), dtype), normal(keys[2], (5,), dtype)
    root, sigma_y = 0.5 * normal(keys[3], (5, 5), float), jnp.linspace(0.8, 1.6, 7)
    return (Dense(w), y, sigma_y, mean, root, jnp.asarray(0.6), jnp.asarray(0.7)), jnp.ones(5, dtype)


def covariance(theta):
    """C."""
    return theta[4] @ theta[4].T + 0.5 * jnp.eye(5, dtype=theta[4].dtype)


def prior(theta):
    """The exact denoiser."""
    return gaussian(theta[3], covariance(theta))


def curvature(theta):
    """||A / sigma_y||^2."""
    return jnp.linalg.norm(theta[0].w / theta[2][:, None], 2) ** 2


def smoothed(theta):
    """C^-1 of the prior blurred by noise of level sigma, by its strength."""
    return theta[6] * jnp.linalg.inv(covariance(theta) + theta[5] ** 2 * jnp.eye(5))


def value(theta, precision, x):
    """|(A x - y) / sigma_y|^2 / 2 + (x - m)^H P (x - m) / 2."""
    A, y, sigma_y, mean, *_ = theta
    return (jnp.sum(jnp.abs((A(x) - y) / sigma_y) ** 2) + jnp.real(jnp.vdot(x - mean, precision @ (x - mean)))) / 2


def minimiser(theta, precision):
    """Its minimum, by numpy."""
    w, y, sigma_y, mean = (np.asarray(a) for a in (theta[0].w, *theta[1:4]))
    precision = np.asarray(precision)
    back = w.conj().T / sigma_y**2
    return np.linalg.solve(back @ w + precision, back @ y + precision @ mean)


def exact_map(theta, _):
    """m + C A^H (A C A^H + S)^-1 (y - A m), S the covariance of the noise by the strength."""
    w, y, sigma_y, mean = (np.asarray(a) for a in (theta[0].w, *theta[1:4]))
    spread = np.asarray(covariance(theta)) @ w.conj().T
    return mean + spread @ np.linalg.solve(w @ spread + np.diag(float(theta[6]) * sigma_y**2), y - w @ mean)


def _pgm(theta, stretch):
    A, y, sigma_y, *_, strength = theta
    return pnp_pgm(A, y, sigma_y, prior(theta), step_size=stretch * 1.98 / curvature(theta), strength=strength)


def _pgm_contracts(theta, x0, best):
    """D (1 - tau H) with D = C / (C + sigma^2): the distance falls by the largest of either."""
    steep = jnp.linalg.eigvalsh(jnp.conj(theta[0].w / theta[2][:, None]).T @ (theta[0].w / theta[2][:, None]))
    step, wide = 1.98 / curvature(theta), jnp.linalg.norm(covariance(theta), 2)
    rate = wide / (wide + theta[6] * step) * jnp.max(jnp.abs(1 - step * steep))
    return lambda state: jnp.linalg.norm(state.x - best), lambda k: rate**k * jnp.linalg.norm(x0 - best)


def _apgm(theta, stretch):
    A, y, sigma_y, *_, strength = theta
    return pnp_pgm(A, y, sigma_y, prior(theta), step_size=stretch / curvature(theta), accelerate=True, strength=strength)


def _admm(theta):
    A, y, sigma_y, _, _, sigma, strength = theta
    return pnp_admm(A, y, sigma_y, prior(theta), sigma, strength, tolerance=TIGHT)


def _admm_falls(theta, x0, best):
    """Boyd et al. (2011), appendix A: the distance of the second iterate and of the multiplier together."""
    A, y, sigma_y, *_, sigma, strength = theta
    u = -(sigma**2) / strength * A.adjoint((A(best) - y) / sigma_y**2)
    return lambda state: jnp.sum(jnp.abs(state.x - best) ** 2) + jnp.sum(jnp.abs(state.u - u) ** 2)


def _dpir(theta):
    A, y, sigma_y, _, _, sigma, strength = theta
    return dpir(A, y, sigma_y, prior(theta), 4 * sigma, sigma, 6, strength, tolerance=TIGHT)


def _red(theta):
    A, y, sigma_y, _, _, sigma, strength = theta
    return red(A, y, sigma_y, prior(theta), sigma, strength, tolerance=TIGHT)


def _red_gradient(theta, stretch):
    A, y, sigma_y, _, _, sigma, strength = theta
    step = stretch * 1.98 / (curvature(theta) + strength / sigma**2)
    return red(A, y, sigma_y, prior(theta), sigma, strength, method="gradient", step_size=step)


def _gradient_step(theta):
    """From a step 16 times too long for g."""
    A, y, sigma_y, _, _, sigma, strength = theta
    return pnp_gradient_step(A, y, sigma_y, prior(theta), sigma, strength, step_size=16 * sigma**2 / strength, shrink=0.5, tolerance=TIGHT)


def removed(theta):
    """Of the potential |x - D|^2 / 2, with x - D = sigma^2 (C + sigma^2)^-1 (x - m), by strength / sigma^2."""
    return theta[5] ** 2 / theta[6] * smoothed(theta) @ smoothed(theta)


def _denoised(theta, _):
    """x of dpir is the denoised minimiser."""
    return np.asarray(prior(theta)(jnp.asarray(minimiser(theta, smoothed(theta))), theta[5]))


SOLVERS = {
    "pnp_pgm": SolverRow(_pgm, problem, exact_map, 400, step_bound=True, limit=_pgm_contracts, complex=True),
    "pnp_pgm_accelerated": SolverRow(
        _apgm,
        problem,
        exact_map,
        150,
        step_bound=True,
        backward=("unroll",),
    ),
    "pnp_admm": SolverRow(_admm, problem, exact_map, 100, falls=_admm_falls, complex=True),
    "dpir": SolverRow(_dpir, problem, _denoised, 100, complex=True),
    "red_fixed_point": SolverRow(
        _red,
        problem,
        lambda theta, _: minimiser(theta, smoothed(theta)),
        100,
        falls=lambda theta, x0, best: lambda state: value(theta, smoothed(theta), state.x),
        complex=True,
    ),
    "red_gradient": SolverRow(
        _red_gradient,
        problem,
        lambda theta, _: minimiser(theta, smoothed(theta)),
        400,
        step_bound=True,
        falls=lambda theta, x0, best: lambda state: value(theta, smoothed(theta), state.x),
        complex=True,
    ),
    "pnp_gradient_step": SolverRow(
        _gradient_step,
        problem,
        lambda theta, _: minimiser(theta, removed(theta)),
        100,
        falls=lambda theta, x0, best: lambda state: value(theta, removed(theta), state.x),
        complex=True,
    ),
}
