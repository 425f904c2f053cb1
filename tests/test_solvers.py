"""Contract of every solver. A new solver adds one row to SOLVERS of rows_solvers, or to the table of its family."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rows_least_squares
import rows_plug_and_play
import rows_reconstructions
import rows_solvers
import rows_tomography
from jax.extend.core import jaxprs_in_params

from medjax import implicit
from medjax.iterate import iterate, iterate_until

SOLVERS = {
    **rows_solvers.SOLVERS,
    **rows_least_squares.SOLVERS,
    **rows_tomography.SOLVERS,
    **rows_reconstructions.SOLVERS,
    **rows_plug_and_play.SOLVERS,
}
# options of code that another row covers: held to their optimum, theorem and step bound only, for the sake of time
VARIANTS = {
    *("landweber_nonnegative", "gradient_descent", "proximal_gradient_backtracking", "fista_restart", "fista_backtracking", "pdhg_accelerated"),
    *("pnp_pgm_accelerated", "red_gradient"),
}
KINDS = [name for name in SOLVERS if name not in VARIANTS]
# of scope "module", so that all tests of a row follow each other and find its program compiled already
rows = pytest.mark.parametrize("name", SOLVERS, scope="module")
kinds = pytest.mark.parametrize("name", KINDS, scope="module")


def _make(row, theta, stretch):
    return row.make(theta, stretch) if row.step_bound else row.make(theta)


def _stack(*trees):
    return jax.tree.map(lambda *a: jnp.asarray(np.stack([np.asarray(each) for each in a])), *trees)


@functools.cache
def _case(name, dtype):
    """theta, x0, x* of two problems, stacked; and the program that all tests of a row share, with the list of its traces."""
    row, traces = SOLVERS[name], []
    problems = [row.problem(jax.random.key(seed), jnp.dtype(dtype)) for seed in (1, 2)]
    both = _stack(*[(theta, x0, np.asarray(row.optimum(theta, x0))) for theta, x0 in problems])

    def run(theta, x0, best, tolerance, stretch):
        traces.append(1)
        limit = row.limit(theta, x0, best)[0] if row.limit else lambda state: 0.0
        falls = row.falls(theta, x0, best) if row.falls else lambda state: 0.0

        def record(state, info):
            return {"x": state.x, "change": info.change, "limit": limit(state), "falls": falls(state)}

        return iterate_until(_make(row, theta, stretch), x0, tolerance, 3 * row.num_steps, record)

    return row, both, jax.jit(jax.vmap(run, (0, 0, 0, None, None))), traces


def _pick(tree, index):
    """One of a batch; by numpy, which compiles nothing."""
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a)[index]), tree)


def _run(name, tolerance=-1.0, stretch=1.0, dtype="float64"):
    _, (theta, x0, best), run, _ = _case(name, dtype)
    return jax.tree.map(np.asarray, run(theta, x0, best, tolerance, stretch))


def _error(x, best):
    return np.linalg.norm((x - best).reshape(len(best), -1), axis=1) / np.linalg.norm(best.reshape(len(best), -1), axis=1)


FIELDS = [(name, "float64") for name in SOLVERS] + [(name, "complex128") for name in KINDS if SOLVERS[name].complex]


@pytest.mark.parametrize("name, dtype", FIELDS, ids=[f"{name}-{dtype}" for name, dtype in FIELDS], scope="module")
def test_reaches_its_optimum_and_stays(name, dtype):
    """Also three times as many steps: past convergence nothing becomes NaN, nothing creeps away, and no step size is called too long."""
    row, (_, _, best), _, _ = _case(name, dtype)
    _, outcome = _run(name, dtype=dtype)
    assert not np.any(outcome.diverged) and np.all(outcome.num_steps == 3 * row.num_steps)
    assert np.all(outcome.step_ratio <= 1 + 1e-6)
    for step in (row.num_steps - 1, -1):
        assert np.all(_error(outcome.history["x"][:, step], best) <= row.tolerance)


@rows
def test_keeps_its_theorem(name):
    row, (theta, x0, best), _, _ = _case(name, "float64")
    if row.limit is None and row.falls is None:
        pytest.skip("no theorem in the row")
    _, outcome = _run(name)
    bounds = jax.jit(lambda problem, k: row.limit(*problem)[1](k))
    for i, seen in enumerate(zip(outcome.history["limit"], outcome.history["falls"], strict=True)):
        limit, falls = seen
        if row.limit:
            bound = np.asarray(bounds(_pick((theta, x0, best), i), np.arange(1, len(limit) + 1)))
            assert np.all(limit <= bound * (1 + 1e-9) + 1e-11 * max(1, abs(limit[0])))
        if row.falls:
            assert np.all(np.diff(falls) <= 1e-11 * max(1, abs(falls[0]))) and falls[-1] < falls[0]


@kinds
def test_jit_and_vmap_change_nothing(name):
    if name in ("lbfgs", "admm_analysis", "tv_reconstruction"):
        pytest.skip("inner loops take seconds to run eagerly")
    row, (theta, x0, _), _, _ = _case(name, "float64")
    _, outcome = _run(name)
    for i in range(2):
        one, start = _pick((theta, x0), i)
        solver = _make(row, one, 1.0)
        state = solver.init(start)
        for k in range(3):
            state, info = solver.step(state)
            assert np.allclose(state.x, outcome.history["x"][i, k], rtol=1e-10, atol=1e-11)
            assert np.allclose(info.change, outcome.history["change"][i, k], rtol=1e-8, atol=1e-10)


@rows
def test_stops_by_tolerance(name):
    """Each problem of a batch by itself, by one program for all data, tolerances and step sizes."""
    row, (theta, x0, best), run, traces = _case(name, "float64")
    _, all_steps = _run(name)
    seen = len(traces)
    state, outcome = run(theta, x0, best, 1e-6, 1.0)
    state, outcome = jax.tree.map(np.asarray, (state, outcome))
    assert np.all(outcome.converged) and np.all(outcome.change <= 1e-6) and np.all(outcome.num_steps < 3 * row.num_steps)
    for i, num in enumerate(outcome.num_steps):
        assert np.allclose(state.x[i], all_steps.history["x"][i, num - 1], rtol=1e-10, atol=1e-11)
        assert np.all(all_steps.history["change"][i, : num - 1] > 1e-6)
    assert len(traces) == seen


@rows
def test_a_step_too_long_is_seen(name):
    row = SOLVERS[name]
    if not row.step_bound:
        pytest.skip("no step bound")
    _, outcome = _run(name, stretch=3.0)
    assert np.all((outcome.step_ratio > 1.05) | outcome.diverged)


@rows
def test_data_that_are_no_numbers_are_no_answer(name):
    """NaN in the data of one problem, infinity in those of the other."""
    _, (theta, x0, best), run, _ = _case(name, "float64")
    y = np.array(theta[1])
    y.reshape(2, -1)[:, 0] = np.nan, np.inf
    outcome = run((theta[0], y, *theta[2:]), x0, best, 1e-6, 1.0)[1]
    assert np.all(outcome.diverged) and not np.any(outcome.converged)


@kinds
def test_single_precision_and_one_program(name):
    """float32 in, float32 kept, no NaN past convergence; new data and another number of steps compile nothing; memory does not grow with steps."""
    row, (theta, x0, best), _, _ = _case(name, "float64")
    theta, x0 = jax.tree.map(lambda a: np.asarray(a, "float32"), (theta, x0))
    traces = []

    def run(theta, x0, num_steps):
        traces.append(1)
        return iterate(_make(row, theta, 1.0), x0, num_steps)

    compiled = jax.jit(run)
    for i, num_steps in enumerate((row.num_steps, 3 * row.num_steps)):
        state = jax.tree.map(np.asarray, compiled(*_pick((theta, x0), i), num_steps))
        assert {a.dtype.name for a in jax.tree.leaves(state) if a.size >= state.x.size} == {"float32"}  # optax has wider scalars
        assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves(state))
        assert np.linalg.norm(state.x - best[i]) <= max(1e-3, row.tolerance) * np.linalg.norm(best[i])  # sqrt(eps) of float32, and some room
    assert len(traces) == 1
    few, many = (_bytes(jax.make_jaxpr(lambda t, n=n: iterate(_make(row, t, 1.0), jnp.asarray(x0[0]), n))(_pick(theta, 0)).jaxpr) for n in (10, 1000))
    assert few == many


def _bytes(jaxpr):
    """Of all values that a program names, in its loops too."""
    inner = (sub for eqn in jaxpr.eqns for sub in jaxprs_in_params(eqn.params))
    return sum(v.aval.size * v.aval.dtype.itemsize for eqn in jaxpr.eqns for v in eqn.outvars) + sum(_bytes(sub) for sub in inner)


def _loss(x):
    return (abs(x - 0.5) ** 2).sum() / 2


@kinds
def test_gradients_are_true(name):
    """For each leaf of theta: data, strengths, the operator."""
    row, (theta, x0, best), run, _ = _case(name, "float64")
    theta, x0 = _pick((theta, x0), 0)

    def answer(theta, backward):
        return implicit.solution(lambda t: _make(row, t, 1.0), theta, x0, tolerance=1e-13, max_steps=row.num_steps, backward=backward).x

    grads = [jax.jit(jax.grad(lambda t, way=way: _loss(answer(t, way))))(theta) for way in row.backward]
    leaves, tree = jax.tree.flatten(theta)
    for i, leaf in enumerate(leaves):
        direction = np.asarray(rows_solvers.normal(jax.random.key(i), leaf.shape, leaf.dtype))
        moved = [jax.tree.unflatten(tree, [*leaves[:i], np.asarray(leaf) + e * direction, *leaves[i + 1 :]]) for e in (1e-4, -1e-4)]
        pair = np.asarray(run(_stack(*moved), _stack(x0, x0), best, -1.0, 1.0)[0].x)
        wanted = (_loss(pair[0]) - _loss(pair[1])) / 2e-4
        for grad in grads:
            found = np.real(np.sum(np.asarray(jax.tree.leaves(grad)[i]) * direction))
            assert abs(found - wanted) <= 1e-5 * max(abs(wanted), 0.1)  # what central differences give
