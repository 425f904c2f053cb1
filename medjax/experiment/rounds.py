"""Many cases, spread over all devices of all processes."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from medjax.experiment.case import checked_case
from medjax.experiment.ledger import Ledger, add, gathered
from medjax.training import cluster

_FAILED = 1000
"""What a process says of a failure where the others say the number of a signal."""


class Done(NamedTuple):
    """What `evaluated` gives.

    lines: name -> line of the ledger, of the cases that are done, in the order of the jobs.
    stopped: number of the signal that ended it, 0 without one.
    failed: what is said of the first case that is not finite, empty where all are.
    """

    lines: dict[str, Any]
    stopped: int
    failed: str


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """The list that SIGTERM and SIGINT are written to, instead of ending the program."""
    found = []
    before = {each: signal.signal(each, lambda number, frame: found.append(number)) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield found
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def on_each_device(program: Callable) -> Callable:
    """`(weights, A, block) -> list of found`, of a jitted `(weights, A, key, x, y) -> found` and a block of `(key, x, y)`, one for each local device.

    Each device runs the program of one case on its own case, without `vmap`; a block that is too short is filled up with its last one.
    """
    devices = jax.local_devices()
    if len(devices) == 1:
        return lambda weights, A, block: [program(weights, A, *block[0])]
    grid, everywhere, over = _grid(devices), PartitionSpec(), PartitionSpec("case")

    def one(weights, A, rows):
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], program(weights, A, *jax.tree.map(lambda leaf: leaf[0], rows)))

    spread = jax.jit(jax.shard_map(one, mesh=grid, in_specs=(everywhere, everywhere, over), out_specs=over, check_vma=False))

    def run(weights, A, block):
        filled = [*block, *[block[-1]] * (len(devices) - len(block))]
        rows = jax.tree.map(lambda *leaves: jnp.stack(leaves), *filled)
        found = jax.device_get(spread(weights, A, jax.device_put(rows, NamedSharding(grid, over))))
        return [jax.tree.map(lambda leaf, i=i: leaf[i], found) for i in range(len(block))]

    return run


def on_all_devices(tree):
    """The arrays of `tree` on each local device, where there are several."""
    if len(devices := jax.local_devices()) == 1:
        return tree
    everywhere = NamedSharding(_grid(devices), PartitionSpec())
    return jax.tree.map(lambda leaf: jax.device_put(leaf, everywhere) if isinstance(leaf, (jax.Array, np.ndarray)) else leaf, tree)


def _grid(devices):
    """The devices of this process in a row."""
    return jax.make_mesh((len(devices),), ("case",), devices=devices, axis_types=(jax.sharding.AxisType.Auto,))


def evaluated(
    ledger: Ledger, known: dict[str, Any], jobs: dict[str, Callable], answer: Callable, explain: Callable | None, told: list[int], advance
) -> Done:
    """Cases by name: those of `known`, and the others computed, block by block, between which the processes meet.

    Args:
      ledger: where each case is written as it is done.
      known: its lines by name, as `ledger.begin` gives them.
      jobs: name -> function without arguments that gives `(key, x, y)`.
      answer: `block -> list of found`, of as many cases as there are local devices.
      explain: `(key, x, y) -> line` on samples that are not finite, None for a method without samples.
      told: of `signals`; a signal to one process ends all after the block they are in.
      advance: called with the number of cases that were done since.
    """
    found, failed, size = {name: known[name] for name in jobs if name in known}, {}, jax.local_device_count()
    missing = [name for name in jobs if name not in known]
    mine = missing[jax.process_index() :: jax.process_count()]
    advance(len(found))
    stop = cluster.agreed(told[-1] if told else 0)
    for start in range(0, 0 if stop else size * cluster.agreed(-(-len(mine) // size)), size):
        clock, names = time.perf_counter(), mine[start : start + size]
        block = [jobs[name]() for name in names]
        rows = jax.block_until_ready(answer(block)) if block else []
        share = (time.perf_counter() - clock) / jax.process_count() / max(len(block), 1)  # so that all of them add up to the time that it took
        for name, given, row in zip(names, block, rows, strict=True):
            try:
                case = checked_case(name, row, explain and (lambda given=given: explain(*given)))
            except ValueError as error:
                failed[name] = str(error)
                break
            found[name] = add(ledger, name=name, seconds=round(share, 3), found=case)
        advance(min(size, len(mine) - start) * jax.process_count())
        stop = cluster.agreed(_FAILED if failed else told[-1] if told else 0)
        if stop:
            break
    found, failed = gathered(found), gathered(failed)
    lines = {name: found[name] for name in jobs if name in found}
    return Done(lines, 0 if failed else stop, next((failed[name] for name in jobs if name in failed), ""))
