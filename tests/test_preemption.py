"""A training that is killed again and again ends as one that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from mains import ENVIRONMENT, ROOT, share_programs
from safetensors.numpy import load_file

from medjax.training import log

RATES = {"time", "images_per_second", "teraflops", "input_share"}
WORDS = ["--train.log-every", 4, "--train.checkpoint-every", 6, "--train.sheet-every", 30, "--train.num-validation", 4]


def start(output, num_steps):
    """The training in a process of its own."""
    options = ["--output", output, "--train.num-steps", num_steps, *WORDS]
    words = [sys.executable, str(ROOT / "train.py"), "configs/debug.py", *map(str, options)]
    return subprocess.Popen(words, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def records(output):
    """Lines of the log that are of a step, without what is measured by a clock."""
    lines = (output / "log.jsonl").read_text().splitlines()
    found = [{k: v for k, v in json.loads(line).items() if k not in RATES} for line in lines]
    return [record for record in found if "step" in record]


def steps_of(output):
    """The last step in the log, 0 before the first."""
    try:
        return max((json.loads(line).get("step", 0) for line in (output / "log.jsonl").read_text().splitlines()), default=0)
    except (OSError, json.JSONDecodeError):
        return 0


def killed(output, kills, seed, num_steps):
    """Run to the end through `kills`, one in each of as many stretches of the run: after a random step of it, or in the start where that is done.

    Each meets a living process, or the test fails.
    """
    draw, told = random.Random(seed), []
    for i in range(kills):
        goal, number = (i + draw.random()) * 5 / 6 * num_steps / kills, signal.SIGKILL if i % 2 == 0 else signal.SIGTERM
        begun, delay = steps_of(output), draw.uniform(0, 0.3)
        delay = draw.uniform(0, 8) if begun >= goal else delay  # importing, reading what is saved, compiling, the first steps
        process, began = start(output, num_steps), time.monotonic()
        while process.poll() is None and steps_of(output) < goal and time.monotonic() - began < 200:
            time.sleep(0.01)
        time.sleep(delay)
        assert process.poll() is None, (told, goal, process.communicate())
        process.send_signal(number)
        _, error = process.communicate(timeout=200)
        assert process.returncode in (-number, 128 + number), (process.returncode, error[-2000:])
        told.append((number.name, process.returncode, begun, round(goal), steps_of(output)))
    process = start(output, num_steps)
    out, error = process.communicate(timeout=280)
    assert process.returncode == 0, error[-2000:]
    assert "cannot be read" not in out, out
    assert len(told) == kills and steps_of(output) == num_steps
    return told


def compare(tmp_path, kills, seed, num_steps):
    """Weights, checkpoints and log of a killed run and of one that was not."""
    share_programs(tmp_path / "programs")
    process = start(tmp_path / "whole", num_steps)
    _, error = process.communicate(timeout=280)
    assert process.returncode == 0, error[-2000:]
    told = killed(tmp_path / "killed", kills, seed, num_steps)
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one), told
    assert records(tmp_path / "killed") == records(tmp_path / "whole"), told
    assert [r["step"] for r in records(tmp_path / "whole") if "loss" in r] == list(range(4, num_steps + 1, 4))
    assert not [path.name for path in (tmp_path / "killed").rglob("*damaged*")]
    losses = log.values(tmp_path / "killed/log.jsonl", "validation_loss")
    best = min(losses, key=lambda step: (losses[step], -step))
    assert all((tmp_path / name / "checkpoints" / str(best)).is_dir() for name in ("whole", "killed")), told
    return told


@pytest.mark.timeout(600)
def test_three_kills_leave_no_trace(tmp_path):
    """SIGKILL, SIGTERM, SIGKILL: bit-identical weights, the same log."""
    told = compare(tmp_path, 3, 0, 60)
    assert told[1][1] in (143, -signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.skipif("MEDJAX_SLOW" not in os.environ, reason="takes 10 minutes; MEDJAX_SLOW=1 runs it")
@pytest.mark.timeout(3600)
def test_twenty_kills_leave_no_trace(tmp_path):
    """The same with twenty, over so many steps that none comes too late."""
    for row in compare(tmp_path, 20, 1, 240):
        print(*row)


def test_a_log_is_rewound(tmp_path):
    """Later lines and a line that was cut go; starts and earlier lines stay; a log with nothing to take is not touched."""
    path = tmp_path / "log.jsonl"
    for record in ({"event": "start"}, {"step": 4}, {"step": 6, "validation_loss": 1.0}, {"event": "start"}, {"step": 8}):
        log.append(path, **record)
    with path.open("a") as file:
        file.write('[8]\n{"time": 1, "ste')
    assert [record.get("step") for record in log.whole(path)] == [None, 4, 6, None, 8]
    log.rewind(path, 6)
    assert [json.loads(line).get("step") for line in path.read_text().splitlines()] == [None, 4, 6, None]
    before = path.stat()
    log.rewind(path, 6)
    assert path.stat().st_ino == before.st_ino
    log.append(path, step=6, loss=2.0)
    log.rewind(path, 6, owed=True)  # a run that paid what was owed at 6, and was killed before it saved that, pays again
    assert [record for record in log.whole(path) if "validation_loss" in record] == [] and log.whole(path)[-1]["loss"] == 2.0
    log.rewind(tmp_path / "none.jsonl", 0)
    assert log.whole(tmp_path / "none.jsonl") == [] and not (tmp_path / "none.jsonl").exists()
