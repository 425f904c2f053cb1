"""An evaluation on many devices, in many processes and through kills, and folders of inputs: the same numbers, each case once, nothing by halves."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from mains import ENVIRONMENT, ROOT, share_programs, working

from medjax.config import load
from medjax.experiment.ledger import begin, header
from medjax.experiment.prior import initialise
from medjax.training.weights import save_weights

NUM = 11
SCORES = ("methods", "outcomes", "coverage", "rms_error", "posterior_std")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A command line of `evaluate.py` without its output, with weights that nobody trained; what it compiles is shared."""
    share_programs(tmp_path_factory.mktemp("programs"))
    weights = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_weights(weights, initialise(load(ROOT / "configs/debug.py").prior, jax.random.key(0)), {})
    settings = ["--prior.checkpoint", weights, "--methods.tv.tolerance", "0", "--methods.tv.num_steps", "200"]
    return [ROOT / "evaluate.py", "configs/debug.py", "--method", "dds", "--num-images", NUM, *settings]


def start(words, devices=1, **more):
    """The main in a process of its own, in double precision: what differs is then the order of sums alone."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    environment = ENVIRONMENT | {"XLA_FLAGS": flags, "NPROC": "64", "JAX_ENABLE_X64": "1", **more}
    return subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(*running):
    """Standard outputs of processes that run together and end well."""
    told = [each.communicate(timeout=280) for each in running]
    assert all(each.returncode == 0 for each in running), told
    return [out for out, _ in told]


def lines(output):
    """All whole lines of the cases of a folder."""
    found = [line for path in sorted(output.glob("cases*.jsonl")) for line in path.read_text().splitlines(True)]
    return [json.loads(line) for line in found if line.endswith("\n")]


def names(output):
    """Of the cases that are done."""
    return [line["name"] for line in lines(output) if "name" in line]


def cases(output):
    """Of the report."""
    return json.loads((output / "evaluation.json").read_text())["cases"]


def close(one, other):
    """To 1e-6; most of it are 1e-14, of sums in another order in double precision."""
    one, other = (jax.tree.leaves([{name: case[name] for name in SCORES} for case in each]) for each in (one, other))
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def alone(words, tmp_path_factory):
    """Output of one device that nobody disturbs."""
    output = tmp_path_factory.mktemp("alone")
    finished(start([*words, "--output", output]))
    return output


def test_kills_leave_no_trace(words, alone, tmp_path):
    """SIGKILL, a line that is cut, SIGTERM: each case once, the same numbers bit for bit, and what was done is not done again."""
    command, before = [*words, "--output", tmp_path], []
    for number, wait in ((signal.SIGKILL, 2), (signal.SIGTERM, 5)):
        process, began = start(command), time.monotonic()
        while process.poll() is None and len(names(tmp_path)) < wait and time.monotonic() - began < 200:
            time.sleep(0.002)
        process.send_signal(number)
        out, error = process.communicate(timeout=200)
        assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), error
        assert names(tmp_path)[: len(before)] == before and wait <= len(names(tmp_path)) < NUM
        before = names(tmp_path)
        with (tmp_path / "cases.jsonl").open("a") as file:
            file.write('{"time": 1.0, "name": "image 10", "sec')
    assert f"stopped by signal 15 after {len(before)} of {NUM} images; the same command goes on from there" in out
    assert not (tmp_path / "evaluation.json").exists()
    finished(start(command))
    assert names(tmp_path) == names(alone) == [f"image {i}" for i in range(NUM)] and names(tmp_path)[: len(before)] == before
    assert cases(tmp_path) == cases(alone) and len({case["rms_error"] for case in cases(alone)}) == NUM
    assert json.loads((tmp_path / "evaluation.json").read_text())["methods"] == json.loads((alone / "evaluation.json").read_text())["methods"]


def test_eight_devices(words, alone, tmp_path):
    """The last block is not full."""
    finished(start([*words, "--output", tmp_path], 8))
    assert sorted(names(tmp_path)) == sorted(names(alone))
    close(cases(tmp_path), cases(alone))


def test_two_processes_with_two_devices(words, alone, tmp_path):
    """They share what two kills left: each case in one file, one report."""
    for path, taken in (("cases.jsonl", slice(0, 3)), ("cases.7.jsonl", slice(5, 6))):
        held = [line for line in lines(alone) if "name" in line][taken]
        (tmp_path / path).write_text("".join(json.dumps(line) + "\n" for line in (lines(alone)[0], *held)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    told = {"MEDJAX_COORDINATOR": address, "MEDJAX_NUM_PROCESSES": "2"}
    command = [*words, "--output", tmp_path]
    out = finished(*(start(command, 2, MEDJAX_PROCESS_ID=str(i), **told) for i in range(2)))
    assert sorted(names(tmp_path)) == sorted(names(alone))
    assert ["evaluation.md" in text for text in out] == [True, False]
    held = [[json.loads(line) for line in (tmp_path / f"cases.{i}.jsonl").read_text().splitlines()] for i in range(2)]
    assert [sum("name" in line for line in each) for each in held] == [4, 3]
    close(cases(tmp_path), cases(alone))


def test_what_stands_together(tmp_path):
    """An unfinished evaluation goes on by its own command alone; a finished one is replaced; a file without a header is nobody's."""
    config, weights = load(ROOT / "configs/debug.py"), {"prior": {"kernel": np.ones(3, np.float32)}}
    options = {"input": "", "output": "a", "seed": 0}
    own = header(config, options, weights)
    assert own == header(config, {**options, "output": "b"}, weights)
    others = {
        "options.seed": header(config, {**options, "seed": 1}, weights),
        "weights": header(config, options, {"prior": {"kernel": np.array([1, 1, 2], np.float32)}}),
        "config.methods.tv.num_steps": json.loads(json.dumps(own)),
    }
    others["config.methods.tv.num_steps"]["config"]["methods"]["tv"]["num_steps"] = 1
    line = {"time": 1.0, "name": "image 0", "seconds": 1.0, "found": {"psnr": float("inf")}}

    def fill(*held):
        (tmp_path / "cases.jsonl").write_text("".join(json.dumps(each) + "\n" for each in held))
        return (tmp_path / "cases.jsonl").read_text()

    before = fill({"header": own}, line)
    for field, other in others.items():
        with pytest.raises(ValueError, match=f"holds an unfinished evaluation with another {field}; another --output is needed"):
            begin(tmp_path, other)
    assert (tmp_path / "cases.jsonl").read_text() == before and begin(tmp_path, own)[1] == {"image 0": line}
    for held, other in (
        ([{"header": own}, line, {"event": "finished"}], own),
        ([{"header": own}, line, {"event": "failed"}], others["weights"]),
        ([line], own),
    ):
        fill(*held)
        assert begin(tmp_path, other)[1] == {} and not (tmp_path / "cases.jsonl").exists()
    fill({"header": own}, line, {"event": "failed"})
    assert begin(tmp_path, own)[1] == {"image 0": line}


def test_folders(words, tmp_path):
    """An evaluation refused in a line; a corrupt file among three is named, the others are done once, and a stack is as its images."""
    rng, scans, stack = np.random.default_rng(0), tmp_path / "scans", tmp_path / "stack.npz"
    scans.mkdir()
    images = (np.where(np.hypot(*(np.mgrid[:32, :32] - 15.5)) < 10, 0, -1000) + rng.normal(size=(2, 32, 32))).astype(np.float32)
    for name, image in zip("ac", images, strict=True):
        np.save(scans / f"{name}.npy", image)
    (scans / "b.npy").write_bytes((scans / "a.npy").read_bytes()[:500])
    np.savez(stack, test=images, other=images[0])
    main = ["sample.py", "configs/debug.py", "--method", "fista_tv"]
    folder = [*main, "--input", scans, "--output", tmp_path / "out"]
    with working() as call:
        partial = tmp_path / "out" / ".partial-c.npy"  # of a run that was killed
        partial.mkdir(parents=True)
        (partial / "report.json").write_text("cut")
        result = call(*folder)
        assert result.returncode == 3 and "2 of 3 inputs" in result.stdout and "1 skipped" in result.stdout, result.stderr
        assert result.stderr.startswith("b.npy skipped: ") and result.stderr.count("\n") == 1 and "truncated" in result.stderr
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npy", "c.npy", "header.json"]
        done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*/*")}
        assert {path.name for path in done} == {"figure.png", "report.json", "reconstruction.npz"} and len(done) == 6
        found = [np.load(tmp_path / "out" / f"{name}.npy" / "reconstruction.npz") for name in "ac"]
        assert all(np.array_equal(np.round(each["truth"], 1), np.round(np.maximum(i, -1000), 1)) for each, i in zip(found, images, strict=True))
        assert all(np.abs(each["fista_tv"] - each["truth"]).mean() < 100 for each in found)  # [HU]
        np.save(scans / "b.npy", images[0])
        result = call(*folder)
        assert result.returncode == 0 and "3 of 3 inputs" in result.stdout and not result.stderr
        assert all(path.stat().st_mtime_ns == then for path, then in done.items())
        noise = [np.load(tmp_path / "out" / f"{name}.npy" / "reconstruction.npz")["measurement"] for name in "ab"]
        assert not np.array_equal(*noise)  # of the same image

        result = call(*main, "--input", stack, "--array", "test", "--output", tmp_path / "stacked")
        assert result.returncode == 0 and sorted(path.name for path in (tmp_path / "stacked").glob("t*")) == ["test_0000", "test_0001"], result.stderr
        truth = np.load(tmp_path / "stacked" / "test_0001" / "reconstruction.npz")["truth"]
        assert np.array_equal(truth, found[1]["truth"])

        (tmp_path / "cases.jsonl").write_text(json.dumps({"header": {"weights": "others"}}) + "\n")
        refused = {
            "out holds results with another options.seed": [*folder, "--seed", "3"],
            "would lie among the inputs": [*main, "--input", scans, "--output", scans],
            "holds no files": [*main, "--input", tmp_path / "out" / ".." / "none", "--output", tmp_path / "no"],
            "--array is 'test'; an --input": [*main, "--array", "test", "--output", tmp_path / "no"],
            "holds an unfinished evaluation with another": [words[0].name, *words[1:], "--output", tmp_path],
        }
        (tmp_path / "none").mkdir()
        for line, command in refused.items():
            result = call(*command)
            assert result.returncode == 2 and result.stderr.count("\n") == 1 and line in result.stderr, result
        assert not (tmp_path / "no").exists() and not (tmp_path / "evaluation.json").exists()
