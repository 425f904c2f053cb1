"""The order in which examples on disk are trained on, and reading them ahead of the device."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import numpy as np

from medjax.data.files import Files, Stored, stacked

_AHEAD = 4
"""Batches that are read ahead."""


@functools.lru_cache(maxsize=4)
def _order(num: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of `num`, that of no other epoch or seed."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num)


def chosen(num: int, seed: int, position: int) -> int:
    """Index of the example at a position of an endless order: each of `num` once an epoch, every epoch in an order of its own."""
    epoch, place = divmod(position, num)
    return int(_order(num, seed, epoch)[place])


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of a training by step, from which any process may take any rows: a source as Grain has them.

    files, num: the first `num` examples of the training part.
    seed, batch_size: of the order.
    rows: of each batch, that are read.
    first: step of batch 0.
    """

    files: Files
    num: int
    seed: int
    batch_size: int
    rows: tuple[int, ...]
    first: int = 0

    def __len__(self):
        """More than anyone takes."""
        return 2**40

    def __getitem__(self, index) -> Stored:
        """The rows of the batch of step `first + index`."""
        start = (self.first + int(index)) * self.batch_size
        return stacked([self.files.read("train", chosen(self.num, self.seed, start + row)) for row in self.rows])


def pipeline(batches: Batches, num_workers: int = 0) -> Iterator[Stored]:
    """The batches one after the other, read ahead in threads, or by `num_workers` processes where reading takes processors of its own.

    What comes depends on the step alone, so a run that goes on, on other hosts, too, is given what it would have been given. Without Grain
    (`pip install grain`) the same batches are read when they are asked for.
    """
    try:
        import grain
    except ImportError:
        return (batches[index] for index in itertools.count())
    ahead = grain.ReadOptions(num_threads=_AHEAD, prefetch_buffer_size=_AHEAD)
    read = grain.MapDataset.source(batches).to_iter_dataset(ahead)
    if num_workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():  # Grain's processes ask for flags of its own, which no one here sets
            flags.FLAGS.mark_as_parsed()
        read = read.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers))
    return iter(read)
