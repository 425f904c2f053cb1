"""Phantoms a second at 128 px, compiled, eight at a time under `lax.map`: python benchmarks/phantoms.py [--only torso] [--json FILE]."""

import sys
from pathlib import Path

import jax

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from race import main, milliseconds, race  # noqa: E402

from medjax.phantoms.brain import brain  # noqa: E402
from medjax.phantoms.ellipses import ellipses  # noqa: E402
from medjax.phantoms.torso import torso  # noqa: E402


def phantom_rows(batch=128):
    """One row a phantom."""
    keys = jax.random.split(jax.random.key(0), batch)
    draws = {fn.__name__: jax.jit(lambda keys, fn=fn: jax.lax.map(lambda key: fn(key).image, keys, batch_size=8)) for fn in (torso, brain, ellipses)}
    times, _ = race({name: (lambda draw=draw: draw(keys)) for name, draw in draws.items()})
    return [{"phantom": name, f"{batch} images [ms]": milliseconds(t), "images/s": 1e3 * batch / milliseconds(t)} for name, t in times.items()]


if __name__ == "__main__":
    main(__doc__, {"phantoms": phantom_rows})
