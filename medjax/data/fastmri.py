"""Slices of the fastMRI data sets: raw k-space of knees and brains.

A file is one volume: `kspace` `[slices, coils, h, w]` ("multicoil") or `[slices, h, w]` ("singlecoil", emulated) complex64, `ismrmrd_header` (XML),
and, but for test sets, `reconstruction_rss` or `reconstruction_esc` `[slices, 320, 320]` float32; test sets hold the `mask` `[w]` of the columns that
were kept. Attributes are `acquisition`, `patient_id`, and `max` and `norm` of the reconstruction.
"""

import bisect
import itertools
import xml.etree.ElementTree
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medjax.data.files import Files, Stored, disjoint
from medjax.data.hdf5_slices import hdf5_slices, num_slices, open_hdf5
from medjax.data.scan import InputError, checked_numbers, reason, single

_TARGETS = ("reconstruction_rss", "reconstruction_esc")
_VALIDATION = 20
_SPACE = {"i": "http://www.ismrm.org/ISMRMRD"}


class FastmriSlice(NamedTuple):
    """One slice.

    kspace: `[coils, h, w]`, or `[h, w]` of a single coil, complex64, the zero frequency at `[h // 2, w // 2]`, as `sense` has it.
    mask: `[h, w]` float32, 1 in the columns (phase encodings) that were measured.
    target: `[320, 320]` float32, the reconstruction of all data in the middle of the field of view (root of the sum of squares over coils, or the
        emulated single coil), None where the file has none.
    recon_size: (h, w) of the middle that a reconstruction is cropped to.
    attributes: those of the file, `acquisition`, `patient_id`, `max`, `norm`, as far as it has them.
    """

    kspace: np.ndarray
    mask: np.ndarray
    target: np.ndarray | None
    recon_size: tuple[int, int]
    attributes: dict


def fastmri(path, index: int) -> FastmriSlice:
    """One slice of a volume.

    Args:
      path: the `.h5` file.
      index: of the slice, from 0.

    Returns:
      A `FastmriSlice`; columns outside the encoding limits of the header, which the scanner filled with zeros, are not in its mask.

    Raises:
      InputError: for a file that is missing or damaged, or has no such slice, in one line.

    Reference:
      Zbontar et al. (2018), fastMRI: an open dataset and benchmarks for accelerated MRI, section 4, https://arxiv.org/abs/1811.08839; the header
      is read as by `fastmri/data/mri_data.py` of its authors.
    """
    volumes = {4: "[slices, coils, h, w]", 3: "[slices, h, w]"}
    targets = dict.fromkeys(_TARGETS, {3: "[slices, h, w]"})
    found, attributes = hdf5_slices(path, index, {"kspace": volumes}, targets, ("ismrmrd_header", "mask"))
    kspace = found["kspace"]
    if kspace.dtype.kind != "c":
        raise InputError(path, f"kspace has dtype {kspace.dtype}; complex numbers are needed")
    width = kspace.shape[-1]
    if "ismrmrd_header" not in found:
        raise InputError(path, "holds no ismrmrd_header, which tells the sizes; it is needed")
    recon_size, first, last = _header(path, found["ismrmrd_header"], width)
    columns = ((np.arange(width) >= first) & (np.arange(width) < last)).astype(np.float32)
    if "mask" in found:
        mask = checked_numbers(path, "mask", found["mask"], "biuf")
        if mask.shape != (width,):
            raise InputError(path, f"mask has shape {list(mask.shape)}; one number a column, [{width}], is needed")
        columns *= mask != 0
    target = next((single(path, name, checked_numbers(path, name, found[name], "iuf")) for name in _TARGETS if name in found), None)
    return FastmriSlice(single(path, "kspace", kspace), np.tile(columns, (kspace.shape[-2], 1)), target, recon_size, attributes)


def singlecoil_files(folder: str) -> Files:
    """Complex images of `folder/singlecoil_train` and `folder/singlecoil_val`, over the largest magnitude of their volume; data are to be simulated.

    The volumes of the challenge's test set have no truth, so `singlecoil_val` is for validation and for tests, as `volume_files` has it. An
    image is the inverse transform of all data, cropped to the size of its reconstruction.

    Raises:
      InputError: where a folder is missing or holds no volume.
    """
    return volume_files(folder, "singlecoil", lambda path, index: Stored(cropped_images(path, fastmri(path, index))))


def volume_files(folder, kind: str, read_slice) -> Files:
    """Slices of `folder/KIND_train` and `folder/KIND_val`; the first 20 volumes by name of the latter are for validation, the rest for tests.

    All volumes of a patient, by the attribute `patient_id`, are where the first of them is; a volume without the attribute is of a patient of its
    own. So validation may have a few more than 20.

    Args:
      folder: of the two folders.
      kind: "singlecoil" or "multicoil".
      read_slice: `(path of a volume, slice) -> Stored`.

    Raises:
      InputError: where a folder is missing or holds no volume, a volume is damaged, or a patient of one folder is in the other, too.
    """
    val, train = (_volumes(Path(folder) / f"{kind}_{part}") for part in ("val", "train"))
    patients = {path: _patient(path) for path in (*train, *val)}
    first = {patients[path] for path in val[:_VALIDATION]}
    held = {"validation": [path for path in val if patients[path] in first], "test": [path for path in val if patients[path] not in first]}
    volumes = {"train": train} | held
    disjoint(folder, {part: {patients[path] for path in paths} for part, paths in volumes.items()})
    ends = {part: list(itertools.accumulate(num_slices(path, "kspace") for path in paths)) for part, paths in volumes.items()}

    def read(part, index):
        place = bisect.bisect_right(ends[part], index)
        return read_slice(volumes[part][place], index - (ends[part][place - 1] if place else 0))

    return Files({part: counts[-1] if counts else 0 for part, counts in ends.items()}, read)


def cropped_images(path, found: FastmriSlice, several: bool = False) -> np.ndarray:
    """The inverse transform of all data, cropped to the size of the reconstruction, over the largest magnitude of the volume.

    Args:
      path: of the volume, for messages.
      found: its slice.
      several: whether it is to be of several coils.

    Returns:
      `[h, w]`, or `[coils, h, w]` of several, complex64.

    Raises:
      InputError: where it is of one coil instead of several, or the other way round, the file tells no largest magnitude, or k-space is smaller than
        the reconstruction.
    """
    if found.kspace.ndim != 2 + several:
        needed = "several coils" if several else "a single coil"
        raise InputError(path, f"kspace has slices of shape {list(found.kspace.shape)}; those of {needed} are needed")
    most = np.asarray(found.attributes.get("max", 0))
    if most.shape or most.dtype.kind not in "iuf" or not (np.isfinite(most) and most > 0):
        raise InputError(path, f"has the attribute max {str(most)[:20]}; the largest magnitude of its volume is needed")
    full, size = found.kspace.shape[-2:], found.recon_size
    if size[0] > full[0] or size[1] > full[1]:
        raise InputError(path, f"kspace has slices of {list(full)}, its reconstructions are {list(size)}; none larger is needed")
    axes = (-2, -1)
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(found.kspace, axes), norm="ortho"), axes)
    top, left = ((n - m) // 2 for n, m in zip(full, size, strict=True))
    with np.errstate(over="ignore", invalid="ignore"):
        images = (images[..., top : top + size[0], left : left + size[1]] / most).astype(np.complex64)
    return checked_numbers(path, "its image over the attribute max", images)


def _volumes(folder):
    """The volumes of a folder by name, without hidden files such as the `._NAME.h5` of macOS."""
    found = sorted(path for path in folder.glob("*.h5") if not path.name.startswith(".")) if folder.is_dir() else []
    if not found:
        raise InputError(folder, "holds no .h5 files; the volumes of this part are needed")
    return found


def _patient(path) -> str:
    """Whom a volume is of; where it does not tell, its place."""
    with open_hdf5(path) as file:
        told = file.attrs.get("patient_id")
    return f"of its own {path}" if told is None or not str(told).strip() else f"patient {told}"


def _header(path, text, width):
    """The size of reconstructions, and the columns `first <= k < last` that were measured, which lie around the centre of k-space."""

    def number(*names):
        found = root.findtext("./i:encoding/" + "/".join(f"i:{name}" for name in names), None, _SPACE)
        if found is None:
            raise InputError(path, f"ismrmrd_header tells no {'/'.join(names)}; it is needed")
        return int(found)

    try:
        root = xml.etree.ElementTree.fromstring(text)
        size = number("reconSpace", "matrixSize", "x"), number("reconSpace", "matrixSize", "y")
        if not all(1 <= side < 2**16 for side in size):
            raise InputError(path, "ismrmrd_header tells reconstructions without a size; 1 to 65535 pixels a side are needed")
        first = width // 2 - number("encodingLimits", "kspace_encoding_step_1", "center")
        return size, first, first + number("encodingLimits", "kspace_encoding_step_1", "maximum") + 1
    except (xml.etree.ElementTree.ParseError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, f"ismrmrd_header is damaged ({reason(error)})") from None
