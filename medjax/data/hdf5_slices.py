"""One slice of the data sets in an HDF5 file.

HDF5 itself never ends on a heap of entries of variable length that leads back into itself. The heaps that a data set read whole points to are looked
at before; not those of attributes, of strings in compounds, or of data sets that are compressed or have several axes of chunks, for h5py does not
tell where these are. A reader of files that someone may have made to do harm belongs into a process with a limit of time.
"""

import contextlib
import math
import mmap
import struct
from pathlib import Path

import numpy as np

from medjax.data.declared import checked_size
from medjax.data.scan import InputError, checked_numbers, reason


def hdf5_slices(path, index: int, needed: dict[str, dict[int, str]], optional=None, whole: tuple[str, ...] = ()) -> tuple[dict, dict]:
    """The entries at `index` of the first axis of data sets; nothing else of them is read.

    Args:
      path: the file.
      index: from 0.
      needed: name of a data set at the root of the file -> its possible numbers of axes and what they are, for the message.
      optional: the same of data sets that may be missing.
      whole: names of data sets to be read whole, where they are there.

    Returns:
      `(found, attributes)`: name -> array as it is stored, and the attributes of the file.

    Raises:
      InputError: where h5py, the file, a data set or the entry is missing, or the file is damaged or holds numbers that are not finite, in one line.
    """
    with open_hdf5(path) as file:
        wanted = needed | {name: shapes for name, shapes in (optional or {}).items() if name in file}
        found = {name: _entry(path, file, name, index, shapes) for name, shapes in wanted.items()}
        texts = {}
        for name in whole:
            if (stored := _data_set(file, name)) is not None:
                check_data_set(path, stored, stored.shape)
                _check_pointed_to(path, stored)
                texts[name] = stored[()]
        return found | texts, dict(file.attrs)


def num_slices(path, name: str) -> int:
    """The length of the first axis of a data set.

    Raises:
      InputError: as `hdf5_slices`.
    """
    with open_hdf5(path) as file:
        stored = _data_set(file, name)
        if stored is None or not stored.shape:
            raise InputError(path, f"holds {', '.join(sorted(file)) or 'nothing'}; a data set {name!r} of slices is needed")
        return len(stored)


@contextlib.contextmanager
def open_hdf5(path):
    """The file, open to read, as h5py has it; whatever is raised while it is open is told as an `InputError`."""
    try:
        import h5py
    except ImportError:
        raise InputError(path, "is HDF5, which needs the package h5py: pip install h5py") from None
    if not Path(path).is_file():
        raise InputError(path, "no such file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # a parser of damaged bytes raises anything
        raise InputError(path, f"is truncated or not an HDF5 file ({reason(error)})") from None


def check_data_set(path, stored, shape) -> None:
    """See that a piece of a data set, and each of the chunks that it is stored in, can come out of the file.

    Args:
      path: the file.
      stored: the data set.
      shape: of the piece.

    Raises:
      InputError: where it is larger than its file makes likely.
    """
    for each, what in ((shape, "a piece of"), (stored.chunks or (), "a chunk of")):
        checked_size(path, f"{what} the data set {stored.name} of shape {list(each)}", stored.dtype.itemsize * math.prod(each))


def _check_pointed_to(path, stored) -> None:
    """See that the entries of variable length of a data set, of which HDF5 makes room for any number that it is told, are likely and can be found.

    Each is stored as its number of elements (4 bytes), the place of its heap (8) and its index there (4): HDF5 File Format Specification, III.E,
    Global Heap.
    """
    import h5py

    kind = stored.id.get_type()
    if kind.get_class() == h5py.h5t.STRING and kind.is_variable_str():
        width, places = 16, [(0, 1)]  # in memory it is a pointer of 8 bytes
    else:
        compound = isinstance(kind, h5py.h5t.TypeCompoundID)
        members = [(kind.get_member_offset(i), kind.get_member_type(i)) for i in range(kind.get_nmembers())] if compound else [(0, kind)]
        width, places = kind.get_size(), [(offset, each.get_super().get_size()) for offset, each in members if each.get_class() == h5py.h5t.VLEN]
    if not places:
        return
    entries = _raw(path, stored, width)
    cut = [(size, np.ascontiguousarray(entries[:, i : i + 12])) for i, size in places]
    num_bytes = sum(size * int(each[:, :4].copy().view("<u4").sum(dtype=np.uint64)) for size, each in cut)
    checked_size(path, f"what the data set {stored.name} points to", num_bytes)
    _check_heaps(path, stored.file.userblock_size, {heap for _, each in cut for heap in each[:, 4:].copy().view("<u8").ravel().tolist()})


def _raw(path, stored, size) -> np.ndarray:
    """The bytes `[n, size]` of a data set as they lie in the file; none where they are compressed or in chunks along several axes."""
    blocks = []
    if not stored.size or stored.compression or (stored.chunks and stored.ndim > 1):
        pass
    elif stored.chunks:
        blocks = [stored.id.read_direct_chunk((i,))[1] for i in range(0, len(stored), stored.chunks[0])]
    elif (start := stored.id.get_offset()) is not None:
        with Path(path).open("rb") as raw:
            raw.seek(start)
            blocks = [raw.read(size * stored.size)]
    found = np.frombuffer(b"".join(blocks), np.uint8)
    return found[: found.size // size * size].reshape(-1, size)


def _check_heaps(path, base: int, heaps) -> None:
    """See that HDF5, which goes from entry to entry of a heap by their lengths, comes to its end; what is no heap it refuses itself."""
    with Path(path).open("rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as stored:
        for start in (base + heap for heap in heaps):
            if stored[start : start + 4] != b"GCOL" or start + 16 > len(stored):
                continue
            end = start + struct.unpack_from("<Q", stored, start + 8)[0]
            place = start + 16
            while place + 16 <= min(end, len(stored)):
                index, length = struct.unpack_from("<H6xQ", stored, place)
                step = 16 + -(-length // 8) * 8 if index else length  # entry 0 is what is free, its own head included
                if not 0 < step <= end - place:
                    raise InputError(path, f"is damaged: an entry of a heap is told to have {length} bytes where {end - place} are left")
                place += step


def _data_set(file, name):
    """The data set of that name, None where there is none."""
    import h5py

    stored = file.get(name)
    return stored if isinstance(stored, h5py.Dataset) else None


def _entry(path, file, name, index, shapes) -> np.ndarray:
    """One entry of a data set, checked."""
    stored = _data_set(file, name)
    if stored is None:
        raise InputError(path, f"holds {', '.join(sorted(file)) or 'nothing'}; a data set {name!r} is needed")
    if len(stored.shape) not in shapes:
        raise InputError(path, f"{name} has shape {list(stored.shape)}; {' or '.join(shapes.values())} is needed")
    if not 0 <= index < len(stored):
        raise InputError(path, f"{name} has {len(stored)} slices; slice {index} is not one of 0 to {len(stored) - 1}")
    if 0 in stored.shape:
        raise InputError(path, f"{name} has shape {list(stored.shape)}; slices that are not empty are needed")
    check_data_set(path, stored, stored.shape[1:])
    return checked_numbers(path, name, stored[index])
