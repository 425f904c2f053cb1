"""The record of a run: one JSON object a line, none lost and none doubled by a stop."""

import json
import time
from pathlib import Path

from medjax.report.atomic import write_atomically


def append(path, **record) -> None:
    """Append `record` with the time [s since 1970] to the JSON-lines file `path`, in one write."""
    with Path(path).open("a") as file:
        file.write(json.dumps({"time": round(time.time(), 3), **record}) + "\n")


def rewind(path, step: int) -> None:
    """Take from `path` what a run that goes on from `step` writes again: lines of later steps, and one that a kill cut short.

    Lines without a step (starts) stay. The file is replaced whole, or not touched.
    """
    path = Path(path)
    if not path.is_file():
        return
    text = path.read_text(errors="replace")
    kept = [line for line in text.splitlines(keepends=True) if _step(line) <= step]
    if "".join(kept) != text:
        with write_atomically(path) as temporary:
            temporary.write_text("".join(kept))


def _step(line) -> float:
    """The step of a line, 0 without one, infinity where it is no whole line."""
    try:
        return json.loads(line).get("step", 0) if line.endswith("\n") else float("inf")
    except (json.JSONDecodeError, AttributeError):
        return float("inf")
