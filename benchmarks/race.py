"""Timing of contenders in one interleaved run, and the tables that the benchmarks print."""

import argparse
import functools
import importlib
import json
import math
import os
import platform
import subprocess
import time
from pathlib import Path

import jax
import numpy as np


def race(contenders, turns=15, seconds=20.0, turn=0.05):
    """Times of contenders that take turns, AAA BBB AAA BBB ..., after one call each to compile.

    A reconstruction calls its operator over and over, so in each turn a contender runs several times in a row: three times, or as often as fill
    `turn`, so that what its neighbour left in the caches is a small part; one that takes longer than half a second, once.

    Args:
      contenders: name -> function without arguments, which returns when its answer is there (JAX arrays are waited for here).
      turns: the most.
      seconds: after which no new turn begins, but for the third.
      turn: the least that a turn lasts [s], for those faster than half a second.

    Returns:
      name -> `[turns]` seconds, the medians of the turns; name -> result.
    """
    results, in_a_row = {}, {}
    for name, fn in contenders.items():
        results[name] = jax.block_until_ready(fn())
        clock = time.perf_counter()
        jax.block_until_ready(fn())
        took = time.perf_counter() - clock
        in_a_row[name] = 1 if took > 0.5 else max(3, math.ceil(turn / took))
    times, begin = {name: [] for name in contenders}, time.perf_counter()
    for i in range(turns):
        if i >= 3 and time.perf_counter() - begin > seconds:
            break
        for name, fn in contenders.items():
            row = []
            for _ in range(in_a_row[name]):
                clock = time.perf_counter()
                jax.block_until_ready(fn())
                row.append(time.perf_counter() - clock)
            times[name].append(np.median(row))
    return {name: np.array(t) for name, t in times.items()}, results


@functools.cache
def torch_for_deepinv():
    """torch, after which deepinv can be imported: that imports torchvision, whose operators fit one build of torch only, and needs none here."""
    torch = importlib.import_module("torch")
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        torch_for_deepinv.library = torch.library.Library("torchvision", "FRAGMENT")  # kept, for its definitions go with it
        torch_for_deepinv.library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return torch


def milliseconds(times):
    """Median."""
    return 1e3 * float(np.median(times))


def faster(ours, theirs):
    """How many times: the median of the ratios of neighbours, which a slow moment of the machine moves little."""
    return float(np.median(theirs / ours))


def gap(a, b):
    """||a - b|| / ||b||."""
    a, b = np.asarray(a), np.asarray(b)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def temporaries(fn, *args):
    """What XLA says that the compiled `fn` allocates beside its arguments and result [MB]."""
    return jax.jit(fn).lower(*args).compile().memory_analysis().temp_size_in_bytes / 1e6


def main(doc, tables):
    """Run the tables, `name -> function -> rows`, that --only names; print each, and write all as JSON where --json says."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows there, too")
    parser.add_argument("--only", default="", help=f"run the tables whose name contains this: {', '.join(tables)}")
    options = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()) + "\n")
    done = {}
    chosen = [options.only] if options.only in tables else [name for name in tables if options.only in name]
    if not chosen:
        parser.error(f"no table's name contains {options.only!r}: {', '.join(tables)}")
    for name in chosen:
        done[name] = tables[name]()
        show(done[name])
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), **done}, indent=1))


def show(rows, width=100):
    """Print rows (dicts of one set of keys) as a table, in parts where it is wider than the terminal; floats with four figures, NaN as a dash."""

    def cell(value):
        return ("-" if np.isnan(value) else f"{value:.4g}") if isinstance(value, float) else str(value)

    label, *columns = [[key, *(cell(row[key]) for row in rows)] for key in rows[0]]
    label = [text.ljust(max(map(len, label))) for text in label]
    lines = label
    for column in columns:
        size = max(map(len, column))
        if lines is not label and len(lines[0]) + 2 + size > width:
            print("\n".join(lines) + "\n")
            lines = label
        lines = [f"{line}  {text.rjust(size)}" for line, text in zip(lines, column, strict=True)]
    print("\n".join(lines) + "\n", flush=True)


def machine():
    """What the figures were measured on."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    cpu = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    return {"commit": commit or "unknown", "cores": os.cpu_count(), "cpu": cpu, "python": platform.python_version(), "jax": jax.__version__}


def _cpuinfo():
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
