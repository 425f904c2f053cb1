"""Phantoms a second at 128 px, compiled, eight at a time under `lax.map`: python benchmarks/phantoms.py."""

import sys
import time
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from medjax.phantoms.brain import brain  # noqa: E402
from medjax.phantoms.ellipses import ellipses  # noqa: E402
from medjax.phantoms.torso import torso  # noqa: E402


def rate(phantom, batch=128, rounds=7):
    """Images a second, median of `rounds` batches after one to compile."""
    draw = jax.jit(lambda keys: jax.lax.map(lambda key: phantom(key).image, keys, batch_size=8))
    jax.block_until_ready(draw(jax.random.split(jax.random.key(0), batch)))
    times = []
    for i in range(rounds):
        keys = jax.random.split(jax.random.key(i + 1), batch)
        clock = time.perf_counter()
        jax.block_until_ready(draw(keys))
        times.append(time.perf_counter() - clock)
    return batch / np.median(times)


if __name__ == "__main__":
    for fn in (torso, brain, ellipses):
        print(f"{fn.__name__:10s} {rate(fn):8.0f} images/s")
