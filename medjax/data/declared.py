"""What files declare of their sizes, believed only as far as the bytes that they have make it likely."""

import io
import os
from pathlib import Path

import numpy as np

from medjax.data.scan import InputError

LARGEST, RATIO = 2**26, 200
"""What a file declares may take that many bytes in memory, or as many for each of its own; images and data that are compressed stay far below."""
LONGEST = 1e6
"""[mm], of lengths and places."""
_LARGEST_RATIO = 50  # of the sides of a pixel
_PIECE = 2**20


class Bounded(io.BufferedReader):
    """A file that makes no room for more bytes than are left in it, whatever number is asked for."""

    def read(self, size=-1):
        """Up to `size` bytes."""
        if size is not None and size > _PIECE:
            size = max(0, min(size, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


def opened(path) -> Bounded:
    """The file, open to read its bytes."""
    return Bounded(io.FileIO(str(path)))


def checked_size(path, what: str, num_bytes: int) -> None:
    """See that something is not out of all proportion to its file.

    Args:
      path: the file; what a folder holds is not checked.
      what: it is, for the message.
      num_bytes: that it takes in memory.

    Raises:
      InputError: where it takes more than 64 MB and than 200 times the file.
    """
    if not Path(path).is_file():
        return
    length = Path(path).stat().st_size
    if num_bytes > max(LARGEST, RATIO * length):
        found = f"{what} would take {min(num_bytes >> 20, 10**15)} MB but the file {length / 2**20:.3g}"
        raise InputError(path, f"{found}; at most {LARGEST >> 20} MB or {RATIO} times the file are needed")


def checked_pixels(path, shape, sizes) -> None:
    """See that pixels (h, w) of `sizes` [mm] can be made square.

    Raises:
      InputError: where the sizes are none, too different, or make an image of `shape` (h, w) too large.
    """
    if not (min(sizes) > 1 / LONGEST and max(sizes) < LONGEST and max(sizes) <= _LARGEST_RATIO * min(sizes)):  # NaN is none of these
        raise InputError(path, f"has pixels of {' x '.join(f'{size:.4g}' for size in sizes)} mm; positive sides of the same order are needed")
    side = max(length * size / min(sizes) for length, size in zip(shape, sizes, strict=True))
    checked_size(path, f"an image of {side:.0f} square pixels a side", np.dtype(float).itemsize * int(side) ** 2)
