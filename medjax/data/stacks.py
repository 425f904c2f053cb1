"""Stacks of images in NumPy's `.npz` or in zarr: what most people have once they have made their data ready."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

from medjax.data.arrays import load_arrays
from medjax.data.files import PARTS, Files, Stored, disjoint, parted
from medjax.data.scan import SMALLEST, InputError, checked_numbers, reason

_BESIDE = ("label", "subject", "data")
_METADATA = ("zarr.json", ".zarray", ".zattrs")


@dataclasses.dataclass(frozen=True)
class ZarrArray:
    """An array of a zarr group, of which only what is asked for is read; what cannot be is told as an `InputError`.

    path: of the group.
    name: of the array.
    stored: the array as zarr has it, which has no length.
    """

    path: Path
    name: str
    stored: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """As of NumPy's arrays."""
        return self.stored.shape

    @property
    def dtype(self) -> np.dtype:
        """As of NumPy's arrays."""
        return self.stored.dtype

    def __len__(self):
        """How many entries the first axis has."""
        return self.shape[0]

    def __getitem__(self, index) -> np.ndarray:
        """Entries, as of NumPy's arrays."""
        try:
            return np.asarray(self.stored[index])
        except Exception as error:  # each codec has its own
            what = self.name if index is ... else f"entry {index} of {self.name}"
            raise InputError(self.path, f"{what} cannot be read, a chunk of it is damaged ({reason(error)})") from None

    def __array__(self, dtype=None, copy=None):
        """The whole array."""
        return np.asarray(self[...], dtype)


def files(
    folder: str, paths: tuple[str, ...], lowest: float | None = None, validation: float = 0.1, scale: float = 1.0, separate: bool = False
) -> Files:
    """Examples of arrays `train_image`, `validation_image` and `test_image` `[n, h, w]` or `[n, h, w, c]`, as far as the files hold them.

    Beside each may stand `PART_label` `[n]`, whole numbers from 0, `PART_subject` `[n]` and `PART_data` `[n, ...]`, measured data. Where no file has
    a validation part, all examples of the last subjects by name are that. A subject of one name in two files is one, and in one part.

    Args:
      folder: of the files.
      paths: names of `.npz` files or `.zarr` folders; `NAME:ARRAY` takes all images of that array, of one subject, for training.
      lowest: images are clipped to this from below; -1000 for CT in HU, whose fields of view are padded with less.
      validation: share of the subjects of training that are for validation, where the files do not tell.
      scale: images are divided by this: 255 to have those of eight bits in [0, 1].
      separate: the files number their subjects each for itself, so that one name in two of them is two subjects; nothing can tell whether it is so.

    Returns:
      `Files`; `.npz` files are held in memory, zarr is read as it is asked for.

    Raises:
      InputError: for files that are missing, damaged or hold no such arrays, and for a subject that is both trained on and tested on.
      ValueError: for a share that leaves nothing to train on.
    """
    if isinstance(paths, str) or not paths:
        raise InputError(folder, f"paths is {paths!r}; a tuple of at least one file is needed")
    if not 0 < scale < np.inf:
        raise InputError(folder, f"scale is {scale}; a number above 0 is needed")
    found = {part: [] for part in PARTS}
    for name in paths:
        for part, stack in _stacks(Path(folder), name).items():
            found[part].append(stack)
    if not found["train"]:
        raise InputError(folder, f"{', '.join(paths)} hold no train_image; images to train on are needed")
    places = {part: [(stack, i) for stack in stacks for i in range(len(stack["image"]))] for part, stacks in found.items()}

    def whom(stack, i):
        return f"{stack['path'].name if separate else ''} {stack['subject'][i]}"

    subjects = {part: {whom(*place) for place in each if "subject" in place[0]} for part, each in places.items()}
    disjoint(folder, subjects, "" if separate or len(paths) < 2 else "; `separate` says that each file numbers its own")
    train = places["train"]
    told = [n for n, (stack, _) in enumerate(train) if "subject" in stack]
    if told and validation and not places["validation"]:
        held = {told[k] for k in parted([whom(*train[n]) for n in told], validation, 0)["validation"]}
        places |= {"train": [each for n, each in enumerate(train) if n not in held], "validation": [train[n] for n in sorted(held)]}

    def read(part, index):
        stack, i = places[part][index]
        image = np.asarray(stack["image"][i])
        image = image.astype(np.complex64 if image.dtype.kind == "c" else np.float32)
        if not np.isfinite(image).all():
            raise InputError(stack["path"], f"image {i} of {stack['name']} holds NaN or infinite values; all must be finite")
        image = (image if lowest is None else np.maximum(image, np.float32(lowest))) / np.float32(scale)
        label = np.int32(stack["label"][i]) if "label" in stack else None
        data = checked_numbers(stack["path"], f"the data of image {i} of {stack['name']}", stack["data"][i]) if "data" in stack else None
        return Stored(image, data, label)

    return Files({part: len(each) for part, each in places.items()}, read)


def _stacks(folder, name):
    """part -> arrays of a file, by what they are: `image`, `label`, `subject`, `data`."""
    file, _, array = name.partition(":")
    path = folder / file
    arrays = open_arrays(path)
    if array:
        if array not in arrays:
            raise InputError(path, f"holds {', '.join(sorted(arrays)) or 'nothing'}; an array {array!r} is needed")
        return {"train": _checked(path, array, {"image": arrays[array]})}
    found = {}
    for part in PARTS:
        if f"{part}_image" in arrays:
            beside = {what: arrays[f"{part}_{what}"] for what in _BESIDE if f"{part}_{what}" in arrays}
            found[part] = _checked(path, f"{part}_image", {"image": arrays[f"{part}_image"], **beside})
    if not found:
        raise InputError(path, f"holds {', '.join(sorted(arrays)) or 'nothing'}; train_image, validation_image or test_image is needed")
    return found


def open_arrays(path):
    """All arrays of a `.npz` or `.zarr` by name; those of zarr are not read yet.

    Raises:
      InputError: where it is missing, damaged or neither.
    """
    if path.suffix != ".zarr":
        if not path.is_file():
            raise InputError(path, "no such file; a .npz file or a .zarr folder is needed")
        arrays = load_arrays(path)
        if isinstance(arrays, np.ndarray):
            raise InputError(path, "is a single array; a .npz with arrays of names is needed")
        return arrays
    try:
        import zarr
    except ImportError:
        raise InputError(path, "is zarr, which needs the package zarr: pip install zarr") from None
    try:
        return {name: ZarrArray(path, name, array) for name, array in zarr.open_group(path, mode="r").arrays()}
    except Exception as error:  # a parser of damaged bytes raises anything
        raise InputError(path, f"is no whole zarr group ({reason(error)})") from None


def check_chunks(array) -> None:
    """See that an array of zarr has all of its chunks, for zarr reads a missing one as if it held the fill value; one of NumPy has no chunks.

    zarr does not write chunks of nothing but the fill value unless it is told to, so that one of these and one that was lost look alike. What is
    missing inside a shard is not seen.

    Raises:
      InputError: where one is missing.
    """
    if not isinstance(array, ZarrArray):
        return
    stored, folder = array.stored, array.path / array.stored.path
    grid = [-(-length // side) for length, side in zip(stored.shape, stored.shards or stored.chunks, strict=True)]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name not in _METADATA and path.is_file()}
    found, num = len(there), math.prod(grid)
    if num <= found:
        found = sum(stored.metadata.encode_chunk_key(index) in there for index in itertools.product(*map(range, grid)))
    if found < num:
        lost = f"{array.name} has {found} of its {num} chunks, the others are lost or empty, and either is read as {stored.fill_value}"
        raise InputError(array.path, f"{lost}; all are needed, those of zarr's fill value, too (write_empty_chunks=True)")


def _checked(path, name, arrays):
    """The arrays of a part, each of one entry an image."""
    image = arrays["image"]
    if len(image.shape) not in (3, 4) or image.dtype.kind not in "iufc" or 0 in image.shape or min(image.shape[1:3]) < SMALLEST:
        found = f"{name} has shape {list(image.shape)} of {image.dtype}"
        raise InputError(path, f"{found}; numbers [n, h, w] or [n, h, w, c] of at least {SMALLEST} x {SMALLEST} pixels are needed")
    for what, array in arrays.items():
        check_chunks(array)
        if not array.shape or len(array) != len(image):
            raise InputError(path, f"{name} has {len(image)} images and their {what} shape {list(array.shape)}; one entry an image is needed")
    if "label" in arrays:
        labels = np.asarray(arrays["label"])
        if labels.ndim != 1 or labels.dtype.kind not in "iub" or labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
            raise InputError(path, f"the labels of {name} are {labels.dtype} {list(labels.shape)}; whole numbers from 0 to 2^31 - 1, [n], are needed")
    if "subject" in arrays and len(arrays["subject"].shape) != 1:
        raise InputError(path, f"the subjects of {name} are {list(arrays['subject'].shape)}; one name an image, [n], is needed")
    whom = {"subject": np.asarray(arrays["subject"]).astype(str)} if "subject" in arrays else {}
    return arrays | whom | {"path": path, "name": name}
