"""The mains as tests call them."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu"}


def share_programs(folder):
    """Let the mains share what they compile: one after the other they would compile the same programs for minutes."""
    # level 3: programs read back from disk warn that they were compiled for a processor with preferences, too
    ENVIRONMENT.update(JAX_COMPILATION_CACHE_DIR=str(folder), TF_CPP_MIN_LOG_LEVEL="3")
    ENVIRONMENT.update(JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0.1", JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1")


def python(main, *arguments, cwd=ROOT):
    """Finished process of a main, by default called at the repository root."""
    words = [sys.executable, str(ROOT / main), *map(str, arguments)]
    return subprocess.run(words, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=280)


WORKER = """
import contextlib, io, json, os, sys
import sample, evaluate, generate, train
from medjax.experiment.command_line import run
replies = sys.stdout
for line in sys.stdin:
    name, *arguments = json.loads(line)
    sys.argv, out, err = [name, *arguments], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run({"sample.py": sample, "evaluate.py": evaluate, "generate.py": generate, "train.py": train}[name].main)
    print(json.dumps([status, out.getvalue(), err.getvalue()]), file=replies, flush=True)
"""


@contextmanager
def working():
    """As `python`, but all in one process, which starts, imports and compiles small things once: each main runs elsewhere as its own."""
    words = [sys.executable, "-c", WORKER]
    with subprocess.Popen(words, cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def call(main, *arguments):
            process.stdin.write(json.dumps([main, *map(str, arguments)]) + "\n")
            process.stdin.flush()
            return subprocess.CompletedProcess([main, *arguments], *json.loads(process.stdout.readline() or '[1, "", "the worker died"]'))

        yield call
