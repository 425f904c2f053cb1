"""What reading a file gives, and the checks that every format shares."""

import copyreg
from typing import NamedTuple

import numpy as np

MODALITIES = ("ct", "mri", "image")
SMALLEST = 16
"""Pixels a side that an image needs."""


class InputError(ValueError):
    """A user's file that cannot be used; the message is one line: the file, what was found, what is needed."""

    def __init__(self, path, message: str):
        super().__init__(" ".join(f"{path}: {message}".split()))

    def __reduce__(self):
        """Its line as it is, for a process that reads ahead hands on what it was refused."""
        return copyreg.__newobj__, (type(self), str(self))  # pyright: ignore[reportAttributeAccessIssue]


class Scan(NamedTuple):
    """One slice of a user's file: an image or the data that a scanner measured, not both.

    modality: "ct", "mri" or "image".
    image: `[h, w]` float32 [HU] for CT, float32 or complex64 [a.u.] for others; row 0 at the top; None for measured data.
    pixel_size: [mm], None where the file does not tell.
    measurement: None, or `[views, detectors]` float32 line integrals (-log of transmission, without unit), or `[h, w]` complex64 k-space
      with the zero frequency in the centre, at `[h // 2, w // 2]`.
    geometry: of a sinogram `angles` `[views]` [rad], `detector_spacing` [mm], and where told `pixel_size` [mm], `image_size`, `num_photons`,
      `detector_offset` [mm]; of k-space `mask` `[h, w]` float32, 1 where measured, and where told `sigma`, as `kspace`.
    source: (path, kind), with kind "npy", "npz", "dicom" or "nifti".
    """

    modality: str
    image: np.ndarray | None
    pixel_size: float | None
    measurement: np.ndarray | None
    geometry: dict
    source: tuple[str, str]


def reason(error: Exception) -> str:
    """The first line of an exception, short enough for a message."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:150]


def checked_numbers(path, what: str, array, kinds: str = "iufc") -> np.ndarray:
    """`array`, of one of the numpy `kinds` and finite throughout."""
    array = np.asarray(array)
    if array.dtype.kind not in kinds:
        needed = "real numbers are" if "c" not in kinds else "numbers are"
        raise InputError(path, f"{what} has dtype {array.dtype}; {needed} needed")
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise InputError(path, f"{what} holds {bad} NaN or infinite of {array.size} values; all must be finite")
    return array


def checked_slice(path, what: str, array, kinds: str = "iufc") -> np.ndarray:
    """`array` as float32 or complex64, of rank 2 and at least `SMALLEST` pixels a side."""
    array = np.asarray(array)
    if array.ndim != 2:
        raise InputError(path, f"{what} has shape {list(array.shape)}; one slice [h, w] is needed")
    if min(array.shape) < SMALLEST:
        raise InputError(path, f"{what} has shape {list(array.shape)}; at least {SMALLEST} x {SMALLEST} pixels are needed")
    return single(path, what, checked_numbers(path, what, array, kinds))


def single(path, what: str, array) -> np.ndarray:
    """Numbers as float32 or complex64, that are finite still."""
    with np.errstate(over="ignore"):
        return checked_numbers(path, f"{what} in float32", array.astype(np.complex64 if array.dtype.kind == "c" else np.float32))


def checked_index(path, slice_index: int | None, num_slices: int) -> int:
    """`slice_index`, or the middle slice."""
    if slice_index is None:
        return num_slices // 2
    if not 0 <= slice_index < num_slices:
        raise InputError(path, f"has {num_slices} slices; slice {slice_index} is not one of 0 to {num_slices - 1}")
    return slice_index


def isotropic(path, spacings) -> float:
    """The pixel size [mm] of `spacings` along rows and columns, equal within 1 %."""
    spacings = np.atleast_1d(np.asarray(spacings, float))
    if not np.all((spacings > 1e-6) & (spacings < 1e6)):
        raise InputError(path, f"pixel spacing is {spacings.tolist()} mm; positive numbers are needed")
    if np.ptp(spacings) > 0.01 * spacings.min():
        raise InputError(path, f"pixels are {' x '.join(f'{s:.4g}' for s in spacings)} mm; square ones are needed, resample the image first")
    return float(spacings.mean())


def image_scan(path, kind: str, image, pixel_size: float | None, modality: str | None = None) -> Scan:
    """The `Scan` of an image whose modality, where None, is CT if any value is below -200 (air in HU), else MRI."""
    image = checked_slice(path, "image", image)
    if modality is None:
        modality = "ct" if image.dtype.kind == "f" and image.min() < -200 else "mri"
    if modality == "ct" and image.dtype.kind == "c":
        raise InputError(path, "image is complex; CT needs real HU")
    return Scan(modality, image, pixel_size, None, {}, (str(path), kind))
