"""Checkpoints: which are kept, what is done about a damaged one, other devices, a disk that is full."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mains import ENVIRONMENT, ROOT

from medjax.training import checkpoint
from medjax.training.state import initial_state

STATE = initial_state({"kernel": jnp.arange(600.0).reshape(20, 30), "bias": jnp.ones(3)}, optax.adam(1e-3))


def at(step):
    """A state whose arrays tell its step."""
    return STATE._replace(step=jnp.int32(step), params=jax.tree.map(lambda leaf: leaf + step, STATE.params))


def saved(folder, losses, **options):
    """Checkpoints of steps 1, 2, ..., each with its validation loss."""
    with checkpoint.open_checkpoints(folder, **options, loss=lambda step: losses[step - 1]) as manager:
        for step in range(1, len(losses) + 1):
            checkpoint.save(manager, at(step), {"losses": [step]})
        checkpoint.finish(manager)
        return sorted(manager.all_steps())


@pytest.mark.parametrize(
    "options, kept",
    [
        ({"keep": 2}, [5, 6]),
        ({"keep": 2, "keep_best": 1}, [2, 5, 6]),
        ({"keep": 1, "keep_best": 2}, [2, 4, 6]),
        ({"keep": 1, "keep_best": 4}, [1, 2, 3, 4, 6]),
    ],
)
def test_the_latest_and_the_best_are_kept_apart(tmp_path, options, kept):
    """The latest is never dropped for a better one; those without a loss (saved in a hurry) are among the latest alone."""
    assert saved(tmp_path / "run", [3.0, 1.0, 2.5, 2.0, None, 9.0], **options) == kept


def test_a_loss_that_is_no_number_is_not_the_best(tmp_path):
    assert saved(tmp_path / "run", [float("nan"), 2.0, float("nan"), float("-inf"), 3.0], keep=1, keep_best=1) == [2, 5]


def test_the_best_stay_known_to_a_run_that_goes_on(tmp_path):
    """A loss that came after its checkpoint was written, or before the run was stopped, counts as any other."""
    losses = {1: 2.0}
    for steps in ((1, 2), (3, 4), (5, 6)):  # three runs, the first of which stops before step 2 is looked at
        with checkpoint.open_checkpoints(tmp_path / "run", 1, 1, losses.get) as manager:
            for step in steps:
                checkpoint.save(manager, at(step), {})
            checkpoint.finish(manager)
            kept = sorted(manager.all_steps())
        losses |= {2: 1.0} if steps == (1, 2) else {3: 4.0, 4: 5.0}
    assert kept == [2, 6]


def test_host_state_comes_back(tmp_path):
    saved(tmp_path / "run", [None] * 3)
    with checkpoint.open_checkpoints(tmp_path / "run") as manager:
        state, host, skipped = checkpoint.restore(manager, STATE)
        older, host_older, _ = checkpoint.restore(manager, STATE, 2)
    assert int(state.step) == 3 and host == {"losses": [3]} and skipped == () and np.array_equal(state.params["bias"], np.full(3, 4.0))
    assert int(older.step) == 2 and host_older == {"losses": [2]}


def truncate(folder):
    """Every file of any size to its first third."""
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > 200:
            os.truncate(path, path.stat().st_size // 3)


def remove(folder):
    """The arrays gone."""
    for path in sorted((folder / "state").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


@pytest.mark.parametrize("damage", [truncate, remove])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path, damage):
    """It is set aside, so that the run can save at its step again."""
    saved(tmp_path / "run", [None] * 3)
    damage(tmp_path / "run" / "3")
    with checkpoint.open_checkpoints(tmp_path / "run") as manager:
        state, host, skipped = checkpoint.restore(manager, STATE)
        assert int(state.step) == 2 and host == {"losses": [2]} and (tmp_path / "run" / "damaged-3").is_dir()
        assert len(skipped) == 1 and "run/3 cannot be read (" in skipped[0] and "\n" not in skipped[0]
        checkpoint.save(manager, at(3), {})
        checkpoint.finish(manager)
        assert sorted(manager.all_steps()) == [2, 3]
        assert int(checkpoint.restore(manager, STATE)[0].step) == 3


def test_nothing_is_set_aside_where_none_can_be_read(tmp_path):
    saved(tmp_path / "run", [None] * 2)
    for step in "12":
        truncate(tmp_path / "run" / step)
    with checkpoint.open_checkpoints(tmp_path / "run") as manager, pytest.raises(ValueError, match="step 2 does not fit .* or is damaged"):
        checkpoint.restore(manager, STATE)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["1", "2"]


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from test_checkpoints import at, STATE
from medjax.training import checkpoint
with checkpoint.open_checkpoints(sys.argv[1]) as manager:
    checkpoint.save(manager, at(1), {})
    checkpoint.finish(manager)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
try:
    with checkpoint.open_checkpoints(sys.argv[1]) as manager:
        checkpoint.save(manager, at(2), {})
        checkpoint.finish(manager)
except OSError as error:
    print(error)
"""


def test_a_full_disk_loses_nothing_earlier(tmp_path):
    """Files of 300 bytes at most stand for it: one line, and the checkpoint before is whole."""
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "JAX_ENABLE_X64": "1"}
    words = [sys.executable, "-c", FULL, str(tmp_path / "run")]
    result = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200)
    assert "a checkpoint could not be written" in result.stdout and "the latest whole one is of step 1" in result.stdout, result
    assert result.stdout.count("\n") == 1
    with checkpoint.open_checkpoints(tmp_path / "run") as manager:
        state, _, skipped = checkpoint.restore(manager, STATE)
    assert int(state.step) == 1 and skipped == () and np.array_equal(state.params["bias"], np.full(3, 2.0))


def test_restored_on_other_devices(tmp_path):
    """Saved from 8 devices in 4 shards, read on 4 in 2 and on 1: equal, and spread as asked for."""
    program = """
import sys, jax, jax.numpy as jnp, numpy as np
from test_checkpoints import STATE, at
from medjax.training import checkpoint, mesh
state = at(1)._replace(params={"kernel": jnp.arange(40000.0).reshape(200, 200), "bias": jnp.ones(3)})
shards, write, folder = int(sys.argv[1]), sys.argv[2] == "write", sys.argv[3]
placed = mesh.spread(state, mesh.state_sharding(mesh.device_mesh(shards), state))
assert len(placed.params["kernel"].sharding.device_set) == jax.device_count()
assert placed.params["kernel"].addressable_shards[0].data.size == 40000 // shards
with checkpoint.open_checkpoints(folder) as manager:
    if write:
        checkpoint.save(manager, placed, {})
        checkpoint.finish(manager)
    else:
        empty = jax.tree.map(lambda leaf: jax.device_put(jnp.zeros_like(leaf), leaf.sharding), placed)
        found, _, skipped = checkpoint.restore(manager, empty)
        assert not skipped and all(np.array_equal(a, b) and a.sharding == b.sharding for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(placed)))
print("ok")
"""
    for devices, shards, what in ((8, 4, "write"), (4, 2, "read"), (1, 1, "read")):
        environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "JAX_ENABLE_X64": "1", "NPROC": "64"}
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
        words = [sys.executable, "-c", program, str(shards), what, str(tmp_path / "run")]
        result = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200)
        assert result.stdout.endswith("ok\n"), result.stderr[-2000:]
