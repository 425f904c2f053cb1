"""Plug-and-play beyond its contract rows: other operators and images, schedules, denoisers that are no prox, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rows_plug_and_play as plug
from solver_row import Dense

from medjax import linalg
from medjax.diffusion.gaussian import gaussian
from medjax.iterate import iterate, iterate_until
from medjax.operators.algebra import compose, identity
from medjax.operators.blur import blur
from medjax.operators.complex_channels import complex_channels
from medjax.operators.inpaint import inpaint
from medjax.operators.masked_fourier import masked_fourier
from medjax.solvers.dpir import dpir
from medjax.solvers.gradient_step_denoiser import gradient_step_denoiser
from medjax.solvers.pnp_admm import pnp_admm
from medjax.solvers.pnp_gradient_step import pnp_gradient_step
from medjax.solvers.pnp_pgm import pnp_pgm
from medjax.solvers.red import red

THETA = plug.problem(jax.random.key(3), float)[0]
START = jnp.ones(5)


def _seen(key):
    """A blurred image of which half is known."""
    return compose(inpaint(jax.random.bernoulli(key, 0.5, (4, 5))), blur(jax.random.normal(key, (3, 3)), (4, 5))), (4, 5)


def _scanned(key):
    """Undersampled complex data of an image that networks see as two channels."""
    return compose(masked_fourier(jax.random.bernoulli(key, 0.6, (4, 4))), complex_channels()), (4, 4, 2)


@pytest.mark.parametrize("make", [_seen, _scanned])
def test_images_reach_the_exact_map(key, make):
    """A mask and a blur, and complex data of two channels: all methods against m + C A^T (A C A^T + S)^-1 (y - A m), by dense matrices."""
    A, shape = make(key)
    size, sigma_y = int(np.prod(shape)), 0.7
    mean, root = jax.random.normal(key, shape), jax.random.normal(jax.random.fold_in(key, 1), (size, size))
    covariance = root @ root.T / size + 0.3 * jnp.eye(size)
    y = 2 * A(jax.random.normal(jax.random.fold_in(key, 2), shape))

    w = np.asarray(jax.vmap(lambda x: linalg.flat(A(x.reshape(shape))))(jnp.eye(size))).T
    data, spread = np.asarray(linalg.flat(y)), sigma_y**2 * np.eye(len(w))

    def exact(C):
        return (mean.ravel() + C @ w.T @ np.linalg.solve(w @ C @ w.T + spread, data - w @ mean.ravel())).reshape(shape)

    @jax.jit
    def answers(y):
        D = gaussian(mean, covariance)
        methods = {
            "pgm": (pnp_pgm(A, y, sigma_y, D), 3000),
            "admm": (pnp_admm(A, y, sigma_y, D, 0.8), 500),
            "dpir": (dpir(A, y, sigma_y, D, 2.0, 0.5, strength=1.0), 500),
            "red": (red(A, y, sigma_y, D, 0.5), 500),
        }
        return {name: iterate(solver, jnp.zeros(shape), num_steps) for name, (solver, num_steps) in methods.items()}

    found = answers(y)
    blurred = exact(covariance + 0.25 * np.eye(size))
    for name, wanted in {"pgm": exact(covariance), "admm": exact(covariance), "red": blurred}.items():
        assert np.allclose(found[name].x, wanted, rtol=0, atol=1e-8), name
    assert np.allclose(found["dpir"].fitted, blurred, rtol=0, atol=1e-8)


def test_what_was_not_measured_has_no_part():
    """sigma_y infinite and y NaN is the same as a row less, for data step, gradient and objective."""
    A, y, sigma_y, _, _, sigma, strength = THETA

    @jax.jit
    def answers():
        solvers = [
            pnp_gradient_step(operator, data, spread, plug.prior(THETA), sigma, strength, tolerance=1e-12)
            for operator, data, spread in (
                (A, y.at[2].set(jnp.nan), sigma_y.at[2].set(jnp.inf)),
                (Dense(jnp.delete(A.w, 2, 0)), jnp.delete(y, 2), jnp.delete(sigma_y, 2)),
            )
        ]
        return [iterate(solver, START, 5) for solver in solvers]

    without, less = answers()
    assert np.allclose(without.x, less.x, rtol=1e-10) and np.allclose(without.objective, less.objective, rtol=1e-12)


def test_dpir_tends_to_the_map_as_its_noise_falls():
    """The gap goes with sigma_min^2, in one run of a schedule that falls slowly."""
    A, y, sigma_y, _, _, _, strength = THETA

    def run(sigma_min, num_steps):
        solver = dpir(A, y, sigma_y, plug.prior(THETA), 2.0, sigma_min, num_steps, strength, tolerance=1e-9)
        return iterate(solver, START, 4000).x

    found = jax.jit(jax.vmap(run))(jnp.array([0.2, 0.1, 0.05]), jnp.array([4000, 4000, 4000]))
    gaps = np.linalg.norm(found - plug.exact_map(THETA, None)[None], axis=1)
    assert np.all(np.abs(gaps[:-1] / gaps[1:] - 4) < 0.3) and gaps[-1] < 4e-3, gaps  # orders of a limit, not yet there


def test_dpir_keeps_the_schedule_of_its_paper():
    """sigma_k evenly in the logarithm, then at rest; alpha_k = lambda sigma^2 / sigma_k^2."""
    y, sigma_y = 2 * START, 0.3
    solver = dpir(identity(), y, sigma_y, lambda x, sigma: sigma * START, 0.8, 0.1, 4, tolerance=1e-12)
    step, state, previous = jax.jit(solver.step), solver.init(START), START
    for sigma in (0.8, 0.4, 0.2, 0.1, 0.1):
        state, _ = step(state)
        alpha = 0.23 * sigma_y**2 / sigma**2
        assert np.allclose(state.fitted, (y + alpha * previous) / (1 + alpha), rtol=1e-10) and np.allclose(state.x, sigma, rtol=1e-12)
        previous = state.x


def test_noise_level_and_step_are_tied():
    """sigma^2 = strength step: whichever is named; without either the step is 1 / ||A / sigma_y||^2, at most 4 % less."""
    A, y, sigma_y, *_, strength = THETA

    @jax.jit
    def first(sigma, step_size):
        named = {"sigma": sigma}, {"step_size": step_size}, {}
        solvers = [pnp_pgm(A, y, sigma_y, lambda x, sigma: x * sigma, strength=strength, **given) for given in named]
        return [solver.step(solver.init(START))[0].x for solver in solvers]

    by_sigma, by_step, by_norm = first(0.2, 0.04 / strength)
    slope = A.adjoint((A(START) - y) / sigma_y**2)
    assert np.allclose(by_sigma, 0.2 * (START - 0.04 / strength * slope), rtol=1e-12) and np.allclose(by_step, by_sigma, rtol=1e-12)
    bound = 1 / plug.curvature(THETA)
    taken = [np.sqrt(strength * step) * (START - step * slope) for step in (bound, bound / 1.02**2)]
    assert np.allclose(by_norm, taken[1], rtol=1e-9) and not np.allclose(by_norm, taken[0], rtol=1e-3)


def test_a_step_too_long_is_called_so_by_its_measure():
    """||A / sigma_y||^2 is 4: the bound is 1 / 2, with momentum 1 / 4."""
    for accelerate, wanted in ((False, 0.6 / 0.5), (True, 0.6 / 0.25)):
        solver = pnp_pgm(identity(), 2 * START, 0.5, lambda x, sigma: x, step_size=0.6, accelerate=accelerate)
        state, first = solver.step(solver.init(START))
        assert first.step_ratio == 0 and np.allclose(solver.step(state)[1].step_ratio, wanted, rtol=1e-12)


def test_momentum_pays():
    A, y, sigma_y, *_ = THETA

    def count(accelerate):
        solver = pnp_pgm(A, y, sigma_y, plug.prior(THETA), step_size=1 / plug.curvature(THETA), accelerate=accelerate, strength=0.01)
        return iterate_until(solver, START, 1e-10, 3000)[1]

    slow, fast = jax.jit(lambda: (count(False), count(True)))()
    assert slow.converged and fast.converged and 3 * fast.num_steps < slow.num_steps


def test_a_loose_data_step_does_not_move_the_limit():
    """One conjugate gradient step at a time, from where the last one ended."""
    A, y, sigma_y, _, _, sigma, strength = THETA
    prior, loose = plug.prior(THETA), {"tolerance": 0.5, "num_krylov": 1}

    @jax.jit
    def answers():
        return (
            iterate(pnp_admm(A, y, sigma_y, prior, sigma, strength, **loose), START, 400).x,
            iterate(red(A, y, sigma_y, prior, sigma, strength, **loose), START, 400).x,
            iterate(pnp_gradient_step(A, y, sigma_y, prior, sigma, strength, **loose), START, 400),
        )

    admm, fixed, descent = answers()
    assert np.allclose(admm, plug.exact_map(THETA, None), rtol=0, atol=1e-8)
    assert np.allclose(fixed, plug.minimiser(THETA, plug.smoothed(THETA)), rtol=0, atol=1e-8)
    assert np.allclose(descent.x, plug.minimiser(THETA, plug.removed(THETA)), rtol=0, atol=1e-8)
    assert np.allclose(descent.objective, plug.value(THETA, plug.removed(THETA), descent.x), rtol=1e-12)


def test_gradient_step_denoiser_is_a_gradient(key):
    """D = N + J^T (x - N) with a symmetric Jacobian, which that of N has not; of the exact potential it is the exact denoiser."""
    w, x = jax.random.normal(key, (5, 5)), jax.random.normal(jax.random.fold_in(key, 1), (5,))

    def network(x, sigma):
        return jnp.tanh(w @ x) / (1 + sigma)

    mean, covariance = w[0], w @ w.T
    precision = jnp.asarray(np.linalg.inv(covariance + 0.16 * np.eye(5)))
    pair = jnp.stack([x, 2 - x], 1)

    @jax.jit
    def told(x):
        found = gradient_step_denoiser(network)
        removed, jacobian = x - network(x, 0.4), jax.jacobian(network)(x, 0.4)
        exact = gradient_step_denoiser(lambda x, sigma: sigma**2 * (x - mean) @ precision @ (x - mean) / 2)
        as_complex = gradient_step_denoiser(lambda z, sigma: jnp.sum(jnp.abs(w @ z) ** 4))
        as_reals = gradient_step_denoiser(lambda z, sigma: jnp.sum(jnp.sum((w @ z) ** 2, 1) ** 2))
        equal = {
            "potential": (found.potential(x, 0.4), jnp.sum(removed**2) / 2),
            "denoiser": (found.denoise(x, 0.4), x - removed + jacobian.T @ removed),
            "gaussian": (exact.denoise(x, 0.4), gaussian(mean, covariance)(x, 0.4)),
            "complex": (as_complex.denoise(pair[:, 0] + 1j * pair[:, 1], 1.0), as_reals.denoise(pair, 1.0) @ jnp.array([1, 1j])),
        }
        return equal, jacobian, jax.jacobian(found.denoise)(x, 0.4)

    equal, jacobian, slope = told(x)
    for name, (ours, wanted) in equal.items():
        assert np.allclose(ours, wanted, rtol=0, atol=1e-11 * np.max(np.abs(wanted))), name
    assert np.allclose(slope, slope.T, rtol=0, atol=1e-12) and not np.allclose(jacobian, jacobian.T, rtol=0, atol=0.1)


def test_gradient_step_falls_also_where_the_potential_is_not_convex():
    """From a step far too long: steps that would not lower the objective are not taken, and the end is stationary."""
    A, y, sigma_y, _, _, sigma, strength = THETA

    def potential(x, sigma):
        return jnp.sum(jnp.cos(4 * x))

    def objective(x):
        return jnp.sum(((A(x) - y) / sigma_y) ** 2) / 2 + strength / sigma**2 * potential(x, sigma)

    solver = pnp_gradient_step(A, y, sigma_y, potential, sigma, strength, step_size=5.0, tolerance=1e-10)

    def record(state, info):
        return objective(state.x), state.step_size, info.change

    state, outcome = jax.jit(lambda: iterate_until(solver, START, 1e-12, 2000, record))()
    values, steps, changes = (np.asarray(h)[: int(outcome.num_steps)] for h in outcome.history)
    assert outcome.converged and values[-1] < objective(START)
    assert np.all(np.diff(values) <= 1e-11 * abs(values[0])) and np.allclose(state.objective, values[-1], rtol=1e-12)
    refused = np.diff(steps) < 0
    assert np.sum(refused) > 5 and np.all(np.diff(values)[refused] == 0) and np.all(changes[1:][refused] > 0)
    assert np.linalg.norm(jax.grad(objective)(state.x)) < 1e-7


def test_red_of_an_exact_denoiser_is_a_stationary_point():
    """Of f - log p_sigma, for a prior with two modes in each pixel, whose denoiser is the posterior mean and the prox of nothing convex."""
    A, y, sigma_y, *_ = THETA
    modes, variance, sigma = jnp.array([-1.0, 1.5]), 0.2, 0.5

    def blurred(x, sigma):
        return -((x[:, None] - modes[None]) ** 2) / (2 * (variance + sigma**2))

    def denoise(x, sigma):
        means = modes[None] + variance / (variance + sigma**2) * (x[:, None] - modes[None])
        return jnp.sum(jax.nn.softmax(blurred(x, sigma), 1) * means, 1)

    def objective(x):
        return jnp.sum(((A(x) - y) / sigma_y) ** 2) / 2 - jnp.sum(jax.nn.logsumexp(blurred(x, sigma), 1))

    @jax.jit
    def answers():
        solvers = [red(A, y, sigma_y, denoise, sigma, method=method) for method in ("fixed_point", "gradient")]
        return [iterate(solver, START, 2000).x for solver in solvers]

    for x in answers():
        assert np.linalg.norm(jax.grad(objective)(x)) < 1e-9


def test_bad_input_is_refused():
    """One line that says what was found and what is needed."""
    A, y, sigma_y, *_ = THETA

    def denoise(x, sigma):
        return x

    for make in (pnp_pgm, pnp_admm, red, pnp_gradient_step):
        for sigma in (0.0, -1.0, np.nan):
            with pytest.raises(ValueError, match="sigma is .*, more than 0 is needed"):
                make(A, y, sigma_y, denoise, sigma)
        with pytest.raises(ValueError, match="strength is -1, more than 0 is needed"):
            make(A, y, sigma_y, denoise, 1.0, strength=-1.0)
        with pytest.raises(ValueError, match="sigma_y is 0, more than 0 is needed"):
            make(A, y, sigma_y.at[2].set(0), denoise, 1.0)
    for sigmas, message in (
        ((1.0, 0.0), "sigma_min is 0, more"),
        ((0.1, 1.0), "sigma_min is 1 and sigma_max 0.1: a noise level that falls"),
    ):
        with pytest.raises(ValueError, match=message):
            dpir(A, y, sigma_y, denoise, *sigmas)
    with pytest.raises(ValueError, match="one of the two is needed, got both"):
        pnp_pgm(A, y, sigma_y, denoise, 1.0, 1.0)
    with pytest.raises(ValueError, match="step_size is -2, more than 0"):
        pnp_pgm(A, y, sigma_y, denoise, step_size=-2.0)
    with pytest.raises(ValueError, match="method is 'descent', one of fixed_point, gradient is needed"):
        red(A, y, sigma_y, denoise, 1.0, method="descent")
    with pytest.raises(ValueError, match="step_size is given, but the method is 'fixed_point'"):
        red(A, y, sigma_y, denoise, 1.0, step_size=1.0)
    with pytest.raises(ValueError, match="shrink is 1 and decrease 0.1, below 1 and below 1/2"):
        pnp_gradient_step(A, y, sigma_y, denoise, 1.0, shrink=1.0)
