"""Averages by powers of time, and those chosen afterwards."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import quad

from medjax.training.power_average import averaged, combination, exponent, main, products, save_snapshots
from medjax.training.state import initial_state, train_step
from medjax.training.weights import load_tree, save_weights


def profile(t, end, gamma):
    """p of the paper."""
    return (gamma + 1) / end ** (gamma + 1) * t**gamma * (t <= end)


@pytest.mark.parametrize("width, gamma", [(0.05, 16.97), (0.10, 6.94)])
def test_exponents_are_those_of_the_paper(width, gamma):
    """Karras et al. name both pairs; the width is the standard deviation of the profile."""
    found = exponent(width)
    assert np.isclose(found, gamma, atol=5e-3)
    mean, square = (quad(lambda t, k=k: t**k * profile(t, 1, found), 0, 1)[0] for k in (1, 2))
    assert np.isclose(np.sqrt(square - mean**2), width, rtol=1e-9)


@pytest.mark.parametrize("width", [0.0, 0.3, -1.0])
def test_widths_out_of_range(width):
    with pytest.raises(ValueError, match="above 0 and below 0.289"):
        exponent(width)


@pytest.mark.parametrize("a, b", [((10.0, 3.0), (7.0, 9.0)), ((5.0, 16.97), (5.0, 6.94)), ((3.0, 2.0), (8.0, 1.0))])
def test_products_of_profiles(a, b):
    wanted = quad(lambda t: profile(t, *a) * profile(t, *b), 0, min(a[0], b[0]), epsabs=0)[0]
    assert np.isclose(products(*a, *b), wanted, rtol=1e-9)


def test_a_snapshot_is_made_of_itself():
    """The combination that is asked for what was kept is that snapshot alone."""
    steps, gammas = [100, 100, 200, 200], [16.97, 6.94, 16.97, 6.94]
    assert np.allclose(combination(steps, gammas, 200, 6.94), [0, 0, 0, 1], atol=1e-6)


@pytest.mark.parametrize("num", [1, 3, 8])
@pytest.mark.parametrize("width", [0.03, 0.075, 0.25])
def test_weights_that_never_moved_are_kept(tmp_path, num, width):
    """However few the snapshots and however far the width from those that were kept: shares of least squares alone add up to 0.48 and more."""
    for step in range(1, num + 1):
        save_snapshots(tmp_path / "snapshots", step, [{"w": np.full(2, 3.0)}] * 2, (0.05, 0.10))
    assert np.allclose(averaged(tmp_path, width)[0]["w"], 3, rtol=1e-6)


def walk(num):
    """A training whose weights wander: each step adds the batch."""
    return np.cumsum(np.random.default_rng(0).normal(size=(num, 3)), 0)


def test_steps_keep_the_averages_of_their_formula():
    path, gammas = walk(30), (16.97, 6.94)
    optimizer = optax.sgd(1.0)
    state = initial_state({"w": jnp.zeros(3)}, optimizer, 2)
    step = jax.jit(train_step(lambda p, key, batch: (-jnp.sum(p["w"] * batch), {}), optimizer, 0.9, gammas=gammas))
    wanted = [np.zeros(3)] * 2
    for t, (before, now) in enumerate(zip(np.vstack([np.zeros(3), path]), path), 1):  # noqa: B905
        state, _ = step(jax.random.key(0), state, jnp.asarray(now - before))
        betas = [(1 - 1 / t) ** (gamma + 1) for gamma in gammas]
        wanted = [beta * one + (1 - beta) * now for beta, one in zip(betas, wanted, strict=True)]
    assert all(np.allclose(track["w"], one, rtol=1e-10) for track, one in zip(state.tracks, wanted, strict=True))


def tracked(path, gamma):
    """The average at each step, as the formula says."""
    found, averages = np.zeros(3), []
    for t, now in enumerate(path, 1):
        beta = (1 - 1 / t) ** (gamma + 1)
        found = beta * found + (1 - beta) * now
        averages.append(found)
    return np.array(averages)


@pytest.mark.parametrize("width", [0.06, 0.08, 0.15])
def test_widths_between_are_recovered(tmp_path, width):
    """Of snapshots of two widths every 50 of 1,600 steps; within 1 % of how far apart the two kept averages lie, profiles being continuous there."""
    path, widths = walk(1600), (0.05, 0.10)
    kept = [tracked(path, exponent(each)) for each in widths]
    for step in range(50, 1601, 50):
        save_snapshots(tmp_path / "snapshots", step, [{"a": {"w": each[step - 1]}} for each in kept], widths)
    for step, end in ((0, 1600), (1200, 1200)):
        weights, found = averaged(tmp_path, width, step)
        wanted, apart = tracked(path, exponent(width))[end - 1], np.linalg.norm(kept[0][end - 1] - kept[1][end - 1])
        assert found == end and np.linalg.norm(weights["a"]["w"] - wanted) < 0.01 * apart


def test_the_command(tmp_path, capsys):
    """It writes weights with the training's record; what is missing is one line and status 2."""
    assert main([str(tmp_path), "--width", "0.08"]) == 2
    assert (
        capsys.readouterr().err
        == f"power_average: {tmp_path}: no snapshots of step 1; a training with ema_widths, and one of its snapshots' steps, are needed\n"
    )
    save_weights(tmp_path / "weights.safetensors", {"w": np.ones(2, np.float32)}, {"config": "{}"})
    save_snapshots(tmp_path / "snapshots", 10, [{"w": np.ones(2, np.float32)}] * 2, (0.05, 0.1))
    assert main([str(tmp_path), "--width", "0.05"]) == 0
    assert np.allclose(load_tree(tmp_path / "weights-0.05.safetensors")["w"], 1)
    assert main([str(tmp_path), "--width", "0.05", "--step", "7"]) == 2 and "no snapshots of step 7" in capsys.readouterr().err
