"""Examples on disk."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from medjax.data.scan import InputError

PARTS = ("train", "validation", "test")


class Stored(NamedTuple):
    """One example, NumPy.

    image: as `Units.encode` takes it.
    data: as the operator gives them, None where they are to be simulated.
    label: class, int32 scalar from 0, None where there are none.
    """

    image: Any
    data: Any = None
    label: Any = None


class Files(NamedTuple):
    """Examples on disk by part, one of `PARTS`; whatever the format, this is what training and evaluation read.

    num: part -> how many there are.
    read: `(part, index) -> Stored`; it may be called by several threads at once.
    """

    num: dict[str, int]
    read: Callable[[str, int], Stored]


def batch(files: Files, part: str, indices) -> Stored:
    """The examples at `indices` of a part as one `Stored` of arrays `[n, ...]`."""
    return stacked([files.read(part, int(index)) for index in indices])


def stacked(examples) -> Stored:
    """Examples as one `Stored` of arrays `[n, ...]`."""
    return Stored(*(None if column[0] is None else np.stack(column) for column in zip(*examples, strict=True)))


def spread(files: Files, part: str, num: int) -> np.ndarray:
    """`num` indices at equal distances over a part, for neighbours show the same anatomy.

    Raises:
      InputError: where the part has fewer.
    """
    if files.num[part] < num:
        raise InputError(part, f"has {files.num[part]} examples; {num} are asked for")
    return np.linspace(0, files.num[part] - 1, num).round().astype(int)


def parted(subjects, validation: float, test: float) -> dict[str, np.ndarray]:
    """part -> indices of its examples: all of the last subjects by name are for tests, all of those before them for validation.

    Each of both parts gets one subject at least, as long as one is left to train on; of one subject nothing is held out, which is logged. Who is
    chosen depends on the order of names alone.

    Args:
      subjects: `[n]`, whom each example is of.
      validation: share of the subjects.
      test: share of the subjects.

    Raises:
      ValueError: for shares that are not from 0, or leave nothing to train on.
    """
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise ValueError(f"validation is {validation} and test {test}; shares from 0, below 1 together, are needed")
    names, which = np.unique(np.asarray(subjects), return_inverse=True)
    tests = len(names) - _num(len(names), test)
    trains = tests - _num(tests, validation / (1 - test))
    if len(names) == 1 and validation + test > 0:
        logging.getLogger(__name__).warning("all examples are of one subject: nothing is held out")
    if not trains:
        raise ValueError(f"{len(names)} subjects, {validation:g} of them for validation and {test:g} for tests, leave none to train on")
    bounds = zip(PARTS, (0, trains, tests), (trains, tests, len(names)), strict=True)
    return {part: np.flatnonzero((which >= first) & (which < last)) for part, first, last in bounds}


def disjoint(path, subjects: dict[str, set[str]], advice: str = "") -> None:
    """See that no subject is in two parts.

    Args:
      path: the files, for the message, which tells no name of a subject: it may be that of a person.
      subjects: part -> those in it.
      advice: what may help, for the message.

    Raises:
      InputError: where one is.
    """
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        both = subjects[one] & subjects[other]
        if both:
            raise InputError(path, f"{len(both)} subjects are in both {one} and {other}; parts without a common one are needed{advice}")


def _num(total: int, share: float) -> int:
    """How many of the subjects a share is, one at least where there are two."""
    return 0 if share == 0 or total < 2 else max(1, round(share * total))
