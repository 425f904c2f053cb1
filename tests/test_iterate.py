"""The driver of all solvers, on recursions whose every step is known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.iterate import iterate, iterate_until
from medjax.typing import Info, Solver


class _State(NamedTuple):
    x: jax.Array
    count: jax.Array


def _halving(rate=0.5, ratio=0.25):
    """x_{k+1} = rate x_k, whose `change` is |x_{k+1}|."""

    def step(state):
        x = rate * state.x
        return _State(x, state.count + 1), Info(jnp.max(jnp.abs(x)), ratio * jnp.abs(x[0]))

    return Solver(lambda x0: _State(x0, jnp.zeros((), int)), step)


def _record(state, info):
    return {"x": state.x, "count": state.count, "change": info.change}


def test_iterate_takes_its_steps():
    assert jnp.array_equal(iterate(_halving(), jnp.full(2, 8.0), 3).x, jnp.ones(2))
    assert jnp.array_equal(iterate(_halving(), jnp.full(2, 8.0), 0).x, jnp.full(2, 8.0))
    assert int(jax.jit(lambda n: iterate(_halving(), jnp.ones(2), n).count)(17)) == 17


def test_stops_at_the_first_step_within_the_tolerance():
    state, outcome = iterate_until(_halving(), jnp.full(2, 8.0), 0.5, 10)
    assert jnp.array_equal(state.x, jnp.full(2, 0.5)) and int(outcome.num_steps) == 4
    assert float(outcome.change) == 0.5 and bool(outcome.converged) and not bool(outcome.diverged)
    assert float(outcome.step_ratio) == 1.0 and outcome.history is None  # the largest, that of the first step


def test_says_that_it_did_not_converge():
    state, outcome = iterate_until(_halving(), jnp.full(2, 8.0), 0.5, 3)
    assert int(outcome.num_steps) == 3 and not bool(outcome.converged) and not bool(outcome.diverged)
    assert float(outcome.change) == 1.0 and jnp.array_equal(state.x, jnp.ones(2))


@pytest.mark.parametrize("rate", [0.5, 0.0])
def test_a_tolerance_below_zero_takes_all_steps(rate):
    """Also where the change is exactly 0."""
    state, outcome = iterate_until(_halving(rate), jnp.ones(2), -1.0, 7)
    assert int(outcome.num_steps) == int(state.count) == 7 and not bool(outcome.converged)


def test_history_is_recorded_and_ends_in_nan():
    _, outcome = iterate_until(_halving(), jnp.full(2, 8.0), 0.5, 6, _record)
    wanted = np.array([4, 2, 1, 0.5, np.nan, np.nan])
    assert np.array_equal(outcome.history["x"], np.stack([wanted, wanted], 1), equal_nan=True)
    assert np.array_equal(outcome.history["change"], wanted, equal_nan=True)
    assert np.array_equal(outcome.history["count"], [1, 2, 3, 4, 0, 0])  # integers have no NaN


def test_divergence_keeps_the_last_finite_state():
    """3e200^2 overflows at the second step: it is not taken, and leaves no row."""

    def step(state):
        x = state.x**2
        return _State(x, state.count + 1), Info(jnp.max(jnp.abs(x)), jnp.zeros(()))

    solver = Solver(lambda x0: _State(x0, jnp.zeros((), int)), step)
    state, outcome = iterate_until(solver, jnp.full(2, 3e100), 1e-3, 10, _record)
    assert bool(outcome.diverged) and not bool(outcome.converged) and int(outcome.num_steps) == 1
    assert jnp.allclose(state.x, 9e200, rtol=1e-12) and jnp.all(jnp.isfinite(outcome.change))
    assert np.array_equal(np.isfinite(outcome.history["change"]), [True] + 9 * [False])


def test_a_record_that_is_not_finite_is_divergence():
    state, outcome = iterate_until(_halving(), jnp.full(2, 8.0), 1.0, 10, lambda s, _: jnp.where(s.count == 3, jnp.nan, 0.0))
    assert bool(outcome.diverged) and not bool(outcome.converged) and int(outcome.num_steps) == int(state.count) == 2


def test_a_start_that_is_not_finite_is_divergence():
    _, outcome = iterate_until(_halving(), jnp.array([1.0, jnp.nan]), 1e-3, 10)
    assert bool(outcome.diverged) and int(outcome.num_steps) == 0


def test_vmap_stops_each_by_itself():
    """One converges at its third step, one diverges at its first, one takes all."""
    starts = jnp.array([[4.0, 4.0], [jnp.inf, 1.0], [4e9, 1.0]])
    state, outcome = jax.jit(jax.vmap(lambda x0: iterate_until(_halving(), x0, 0.5, 6, _record)))(starts)
    assert np.array_equal(outcome.num_steps, [3, 0, 6]) and np.array_equal(state.count, [3, 0, 6])
    assert np.array_equal(outcome.converged, [True, False, False]) and np.array_equal(outcome.diverged, [False, True, False])
    assert np.array_equal(np.isfinite(outcome.history["change"]).sum(1), [3, 0, 6])


def test_dtypes_follow_the_solver():
    state, outcome = iterate_until(_halving(), jnp.ones(2, jnp.float32), 1e-3, 4, _record)
    assert {a.dtype.name for a in (state.x, outcome.change, outcome.step_ratio, outcome.history["x"])} == {"float32"}
