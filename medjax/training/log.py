"""The record of a run: one JSON object a line."""

import json
import time
from pathlib import Path


def append(path, **record) -> None:
    """Append `record` with the time [s since 1970] to the JSON-lines file `path`."""
    with Path(path).open("a") as file:
        file.write(json.dumps({"time": round(time.time(), 3), **record}) + "\n")
