"""One training on many devices and in many processes: the same losses, and arrays where they are asked for."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from mains import ENVIRONMENT, ROOT
from safetensors.numpy import load_file

from medjax.training import cluster, mesh

PROGRAM = """
import dataclasses, json, sys
import jax, jax.numpy as jnp, numpy as np
from medjax.training import cluster
cluster.join()
from medjax.config import load
from medjax.override import override
from medjax.experiment.task import task
from medjax.training import mesh, traffic
from medjax.training.state import initial_state, make_optimizer, train_step

shards, shown, output = int(sys.argv[1]), sys.argv[2] == "shown", sys.argv[3]
config = load("configs/debug.py")
for field, value in {"prior.network.width": 32, "prior.network.multipliers": (1,), "prior.network.attention_levels": ()}.items():
    config = override(config, field, str(value))
config = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=8, num_steps=4, num_shards=shards))
work = task(config, "")
optimizer = make_optimizer(1e-3, 1, 4, 1.0)
grid = mesh.device_mesh(shards, 8)
everywhere, over = mesh.replicated(grid), mesh.batch_sharding(grid)
key, source = mesh.spread(jax.random.key(0), everywhere), mesh.spread(work.source, everywhere)
make = lambda key: initial_state(work.initialise(key), optimizer)
shardings = mesh.state_sharding(grid, jax.eval_shape(make, key))
state = jax.jit(make, out_shardings=shardings)(key)
split = [leaf for leaf in jax.tree.leaves(state) if not leaf.sharding.is_fully_replicated]
assert bool(split) == (shards > 1) and all(leaf.addressable_shards[0].data.size * shards == leaf.size for leaf in split)
step = jax.jit(train_step(work.loss_fn, optimizer, 0.9, batched=work.batched), donate_argnums=1, out_shardings=(shardings, everywhere))
losses, stream = [], work.stream(source, key, 0, over)
for _ in range(4):
    batch, _ = next(stream)
    if not losses:
        step = step.lower(key, state, batch).compile()
    assert len(batch.sharding.device_set) == jax.device_count() and batch.addressable_shards[0].data.shape[0] * jax.device_count() == 8
    state, metrics = step(key, state, batch)
    losses.append([float(metrics["loss"]), float(metrics["grad_norm"])])
found = {"losses": losses, "weights": np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(mesh.whole(state.params))])}
sent = traffic.sent(step.as_text())
sent = {kind: size / found["weights"].nbytes for kind, size in sent.items()}
gradients, activations = sent.pop("all-reduce", 0), sum(sent.values())
if shards == 1:
    assert abs(gradients - (jax.device_count() > 1)) < 0.01 and activations < 0.01, (gradients, sent)
else:
    assert 0.9 < gradients < 1.5, gradients  # in two steps over both axes of the mesh
if shown:
    found["images"] = mesh.whole(work.show(state.ema, source)[0])
if cluster.first():
    np.savez(output, **found)
"""


def environment(devices, **more):
    """Of a process with as many devices, in double precision: what differs is then the order of sums alone."""
    found = ENVIRONMENT | {"PYTHONPATH": str(ROOT), "JAX_ENABLE_X64": "1", "NPROC": "64", **more}
    return found | {"XLA_FLAGS": os.environ["XLA_FLAGS"] + f" --xla_force_host_platform_device_count={devices}"}


def process(devices, shards, output, shown="", **more):
    words = [sys.executable, "-c", PROGRAM, str(shards), shown, str(output)]
    return subprocess.Popen(words, cwd=ROOT, env=environment(devices, **more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(path, *running):
    """What processes that run together wrote."""
    for each in running:
        _, error = each.communicate(timeout=280)
        assert each.returncode == 0, error[-3000:]
    with np.load(path) as found:
        return dict(found)


def equal(one, other):
    """To 1e-6; most of it are 1e-12, of sums in another order in double precision."""
    for name in other:
        assert abs(one[name] - other[name]).max() < 1e-6 * max(1, abs(one[name]).max()), name


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Four steps of the prior on one device."""
    path = tmp_path_factory.mktemp("alone") / "found.npz"
    return result(path, process(1, 1, path, "shown"))


@pytest.mark.parametrize("devices, shards", [(2, 1), (4, 2), (8, 1), (8, 8)])
def test_devices_share_a_training(alone, tmp_path, devices, shards):
    """Data parallel, sharded, both: losses, norms of gradients and weights of one device.

    Where weights are whole, gradients are sent, each once, and no activations.
    """
    path = tmp_path / "found.npz"
    equal(alone, result(path, process(devices, shards, path)))


def test_two_processes_are_one(alone, tmp_path):
    """They meet by our variables, hold two devices each, and end as one device alone."""
    path = tmp_path / "found.npz"
    equal(alone, result(path, *(process(2, 2, path, "shown", **told) for told in pair())))


def pair():
    """What the environment tells each of two processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    return [{"MEDJAX_COORDINATOR": address, "MEDJAX_NUM_PROCESSES": "2", "MEDJAX_PROCESS_ID": str(i)} for i in range(2)]


STEPS = {"num-steps": 4, "log-every": 2, "checkpoint-every": 2, "sheet-every": 4, "num-validation": 4}
SMALL = {"prior.data.name": "random_ellipses", "prior.data.size": 32, "prior.network.multipliers": "(1,)"}
SMALL |= {f"train.{name}": value for name, value in STEPS.items()}


def trained(output, *environments):
    """The lines, log and files of a training by `train.py` in as many processes."""
    words = [sys.executable, "train.py", "configs/debug.py", "--output", str(output), *(f"--{name}={value}" for name, value in SMALL.items())]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(words, cwd=ROOT, env=each, **pipes) for each in environments]
    told = [each.communicate(timeout=280) for each in running]
    assert not any(each.returncode for each in running), [error[-3000:] for _, error in told]
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [out for out, _ in told], log, sorted(str(path.relative_to(output)) for path in output.rglob("*") if "checkpoints" not in path.parts)


@pytest.mark.timeout(600)
def test_train_in_two_processes(tmp_path):
    """One log, one set of files, and the losses and weights of one process; one of the two is silent."""
    _, alone, files = trained(tmp_path / "one", environment(1))
    told, log, files_of_two = trained(tmp_path / "two", *(environment(1, **each) for each in pair()))
    assert "on 2 devices" in told[0] and "weights: " in told[0]
    assert not [line for line in told[1].splitlines() if not line.startswith("[Gloo]")]
    assert files_of_two == files and {"config.json", "log.jsonl", "weights.safetensors", "sheets/0000004.png"} <= set(files)
    assert [sorted(path.name for path in (tmp_path / name / "checkpoints").iterdir()) for name in ("one", "two")] == [["2", "4"]] * 2
    assert (alone[0]["devices"], log[0]["devices"]) == (1, 2) and len(log) == len(alone)
    for one, other in zip(alone[1:], log[1:], strict=True):
        assert one.keys() == other.keys() and one["step"] == other["step"]
        names = [name for name in one if "loss" in name or name == "grad_norm"]
        assert names
        equal({name: np.asarray(one[name]) for name in names}, {name: np.asarray(other[name]) for name in names})
    weights = [load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    equal(*weights)


@pytest.mark.parametrize(
    "told, found",
    [
        ({"MEDJAX_COORDINATOR": "here:1"}, "MEDJAX_COORDINATOR set, MEDJAX_NUM_PROCESSES, MEDJAX_PROCESS_ID not"),
        ({"MEDJAX_COORDINATOR": "here:1", "MEDJAX_NUM_PROCESSES": "2", "MEDJAX_PROCESS_ID": "2"}, "process 2 of 2 is asked for"),
        ({"MEDJAX_COORDINATOR": "here:1", "MEDJAX_NUM_PROCESSES": "two", "MEDJAX_PROCESS_ID": "0"}, "process 0 of two is asked for"),
    ],
)
def test_processes_that_are_told_nonsense(monkeypatch, told, found):
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=found):
        cluster.join()


@pytest.mark.parametrize(
    "variables, found",
    [
        ({}, False),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "n1"}, False),
        ({"SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "n[1-2]"}, True),
        ({"SLURM_NTASKS": "2"}, False),  # inside an allocation, but not started by srun
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
    ],
)
def test_clusters_are_known_by_their_variables(monkeypatch, variables, found):
    """One process of one does not wait for others."""
    joined = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *words: joined.append(words))
    for name in ("SLURM_NTASKS", "SLURM_STEP_NODELIST", "TPU_WORKER_HOSTNAMES", "KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    cluster.join()
    assert joined == [()] * found


def test_meshes_that_do_not_fit():
    with pytest.raises(ValueError, match="1 devices cannot hold weights in 2 shards"):
        mesh.device_mesh(2)


def test_a_batch_that_does_not_fit(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    with pytest.raises(ValueError, match="a batch of 6 cannot be spread over 4 devices"):
        mesh.device_mesh(1, 6)
