"""The record of a run: one JSON object a line, none lost and none doubled by a stop."""

import json
import time
from pathlib import Path

from medjax.report.atomic import write_atomically


def append(path, **record) -> None:
    """Append `record` with the time [s since 1970] to the JSON-lines file `path`, in one write."""
    with Path(path).open("a") as file:
        file.write(json.dumps({"time": round(time.time(), 3), **record}) + "\n")


def whole(path) -> list[dict]:
    """The records of `path` in their order, none where there is no file; a line that a kill cut short, or that is no object, is left out."""
    if not Path(path).is_file():
        return []
    found = []
    for line in Path(path).read_text(errors="replace").splitlines(keepends=True):
        try:
            found.append(json.loads(line) if line.endswith("\n") else None)
        except json.JSONDecodeError:
            continue
    return [record for record in found if isinstance(record, dict)]


def values(path, name: str) -> dict[int, float]:
    """step -> what the records of `path` that have a `name` say of it."""
    return {record["step"]: record[name] for record in whole(path) if name in record and "step" in record}


def rewind(path, step: int, owed: bool = False) -> None:
    """Take from `path` what a run that goes on from `step` writes again: lines of later steps, and one that a kill cut short.

    Where the checkpoint says that what there was to see at its step is still owed, lines of it without a loss are of a run that paid and was killed
    before it could save that: they come again, too. Lines without a step (starts) stay. The file is replaced whole, or not touched.
    """

    def stays(record):
        at = record.get("step", -1)
        return at < step or (at == step and not (owed and "loss" not in record))

    kept = "".join(f"{json.dumps(record)}\n" for record in whole(path) if stays(record))
    if Path(path).is_file() and kept != Path(path).read_text(errors="replace"):
        with write_atomically(path) as temporary:
            temporary.write_text(kept)
