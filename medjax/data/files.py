"""Examples on disk."""

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


def split_subjects(subjects, share: float) -> np.ndarray:
    """Which examples are for validation, `[n]` bool: all of the last `share` of the subjects, at least one where there are two.

    Args:
      subjects: `[n]`, whom each example is of; who is chosen depends on their order by name alone.
      share: of the subjects, from 0 to 1.
    """
    names = np.unique(np.asarray(subjects))
    num = 0 if share == 0 or len(names) < 2 else max(1, round(share * len(names)))
    return np.isin(subjects, names[len(names) - num :])
