"""Timing of contenders in one interleaved run, and the table that the benchmarks print: AAA BBB AAA BBB ..., medians."""

import argparse
import json
import os
import platform
import time

import jax
import numpy as np


def race(contenders, rounds=15, seconds=20.0, calls=3):
    """Median time of each contender [s].

    A reconstruction calls its operator over and over, so in each turn a contender runs `calls` times in a row, and every call counts.

    Args:
      contenders: name -> function without arguments, which returns when its answer is there (JAX arrays are waited for here).
      rounds: how often each is called, in turn, after one call to warm up.
      seconds: after which no new round begins, but for the third.
      calls: how often in a row.

    Returns:
      name -> seconds.
    """
    times = {name: [] for name in contenders}
    for fn in contenders.values():
        jax.block_until_ready(fn())
    begin = time.perf_counter()
    for i in range(rounds):
        if i >= 3 and time.perf_counter() - begin > seconds:
            break
        for name, fn in contenders.items():
            for _ in range(calls):
                clock = time.perf_counter()
                jax.block_until_ready(fn())
                times[name].append(time.perf_counter() - clock)
    return {name: float(np.median(t)) for name, t in times.items()}


def temporaries(fn, *args):
    """What XLA says that the compiled `fn` allocates beside its arguments and result [MB]."""
    return jax.jit(fn).lower(*args).compile().memory_analysis().temp_size_in_bytes / 1e6


def arguments(doc):
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--json", metavar="FILE", help="write the rows there, too")
    parser.add_argument("--only", default="", help="run only the cases whose name contains this")
    return parser.parse_args()


def show(rows):
    """Print rows (dicts of one set of keys) as a table; floats with four figures."""
    text = [[key for key in rows[0]], *([f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in text) for i in range(len(text[0]))]
    for line in text:
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))))
    print(flush=True)


def machine():
    """What the figures were measured on."""
    return {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version(), "jax": jax.__version__}


def write(path, tables):
    """All tables as JSON, where a path was asked for."""
    if path:
        with open(path, "w") as file:
            json.dump({"machine": machine(), **tables}, file, indent=1)
