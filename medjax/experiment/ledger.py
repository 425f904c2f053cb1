"""The record of an evaluation on its way: one line a case, written once as it is done, so that a stop loses nothing but what was being computed.

In the output folder lies `cases.jsonl`, or `cases.P.jsonl` of each of several processes. The first line of each is the header, which decides whether
cases may stand together; then follow `{"time", "name", "seconds", "found"}`, and `{"event"}` once it has ended.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from medjax.experiment.command_line import versions
from medjax.experiment.record import to_json
from medjax.training import cluster, log


class Ledger(NamedTuple):
    """path: of the file of this process. header: what decides whether cases may stand together."""

    path: Path
    header: dict[str, Any]


def header(config, options: dict[str, Any], weights) -> dict[str, Any]:
    """What decides whether results may stand together: config, options but the output folder, versions, and digests of weights and input file."""
    found = {"config": json.loads(to_json(config)), "options": {name: value for name, value in options.items() if name != "output"}}
    found |= {"versions": versions(), "weights": _digest(weights), "input": ""}
    if options.get("input") and Path(options["input"]).is_file():
        with open(options["input"], "rb") as file:
            found["input"] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def difference(old, new, path: str = "") -> str:
    """The first field, dotted, by which two headers differ; empty where they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = dict.fromkeys((*old, *new))
        return next((found for name in names if (found := difference(old.get(name), new.get(name), f"{path}.{name}" if path else name))), "")
    return path if json.dumps(old) != json.dumps(new) else ""


def begin(folder, header: dict[str, Any]) -> tuple[Ledger, dict[str, Any]]:
    """The ledger in an existing `folder`, and its lines by name, the same in all processes, which meet here.

    Lines of another header are taken away where their evaluation has ended, and those of the same one where it was finished: it starts anew. A last
    line that a kill cut short is dropped.

    Raises:
      ValueError: where the folder holds an unfinished evaluation of another header.
    """
    folder, num = Path(folder), jax.process_count()
    texts = {path: _lines(path) for path in _files(folder)}
    events = {line["event"] for lines in texts.values() for line in lines if "event" in line}
    other = next(filter(None, (difference(lines[0]["header"], header) for lines in texts.values() if lines)), "")
    if other and not events:
        raise ValueError(f"{folder} holds an unfinished evaluation with another {other}; another --output is needed")
    anew = bool(other) or "finished" in events
    cluster.agreed(0)  # all have read
    if cluster.first():
        for path in sorted(texts, key=lambda path: any("event" in line for line in texts[path])):  # what says that it ended goes last
            path.unlink() if anew or not texts[path] else log.rewind(path, 0)
    lines = {line["name"]: line for each in texts.values() for line in each if "name" in line}
    known = gathered(lines if cluster.first() and not anew else {})
    return Ledger(folder / (f"cases.{jax.process_index()}.jsonl" if num > 1 else "cases.jsonl"), header), known


def add(ledger: Ledger, **line) -> dict[str, Any]:
    """Append a line, after the header where the file is new; returns it as it reads back."""
    if not ledger.path.is_file():
        log.append(ledger.path, header=ledger.header)
    log.append(ledger.path, **line)
    return json.loads(json.dumps(line))


def close(ledger: Ledger, event: str) -> None:
    """Say that the results are written, `finished`, or that there is nothing to go on with, `failed`; nothing where no case was done."""
    if cluster.first() and _files(ledger.path.parent):
        add(ledger, event=event)


def gathered(found: dict) -> dict[str, Any]:
    """What the processes know by name, in all of them: the union; names come as strings."""
    if jax.process_count() == 1:
        return found
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(found).encode(), np.uint8)
    rows = multihost_utils.process_allgather(np.pad(text, (0, cluster.agreed(len(text)) - len(text)), constant_values=ord(" ")))
    return {name: value for row in rows for name, value in json.loads(np.asarray(row).tobytes()).items()}


def _files(folder):
    """The files of all processes, also of a run by another number of them."""
    return sorted(path for path in folder.glob("cases*.jsonl") if re.fullmatch(r"cases(\.\d+)?\.jsonl", path.name))


def _lines(path) -> list[dict[str, Any]]:
    """The whole lines of a file, none where the first is no header."""
    found = log.whole(path)
    return found if found and "header" in found[0] else []


def _digest(weights) -> str:
    """Of all arrays of a tree, with their names."""
    found = hashlib.sha256()
    for keys, leaf in jax.tree_util.tree_leaves_with_path(weights):
        array = np.asarray(leaf)
        found.update(f"{jax.tree_util.keystr(keys)} {array.dtype} {array.shape} ".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
