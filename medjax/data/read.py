"""A user's file as one slice, whatever its format."""

from pathlib import Path

import numpy as np

from medjax.data.arrays import load_arrays, read_npy, read_npz
from medjax.data.dicom import read_dicom
from medjax.data.nifti import read_nifti
from medjax.data.scan import MODALITIES, SMALLEST, InputError, Scan, checked_numbers, single

_SUFFIXES = ".npy, .npz, .dcm, .nii or .nii.gz"


def read(path, slice_index: int | None = None, modality: str | None = None) -> Scan:
    """Read an image or measured data.

    Args:
      path: `.npy`, `.npz`, `.nii`, `.nii.gz`, or a DICOM file of any name.
      slice_index: slice of a NIfTI volume (from inferior to superior) or frame of a DICOM file; by default the middle one.
      modality: "ct", "mri" or "image", where the file does not tell or is wrong.

    Returns:
      A `Scan`.

    Raises:
      InputError: where the file cannot be used, in one line.
    """
    if modality not in (None, *MODALITIES):
        raise ValueError(f"got modality {modality!r}, one of {', '.join(MODALITIES)} is needed")
    path = Path(path)
    kind = kind_of(path)
    if kind == "dicom":
        return read_dicom(path, slice_index, modality)
    if kind == "nifti":
        return read_nifti(path, slice_index, modality)
    return read_npy(path, modality) if kind == "npy" else read_npz(path, modality)


def read_stack(path, name: str = "") -> tuple[str, np.ndarray]:
    """Many images of a `.npz` file.

    Args:
      path: the file.
      name: of the array; may be empty where only one has rank 3.

    Returns:
      The name and the images `[n, h, w]`, float32 or complex64.

    Raises:
      InputError: where the file cannot be used, in one line.
    """
    kind_of(path)
    found = load_arrays(path)
    stacks = {} if isinstance(found, np.ndarray) else {key: array for key, array in found.items() if array.ndim == 3}
    name = name or (next(iter(stacks)) if len(stacks) == 1 else "")
    if name not in stacks:
        wanted = f"an array [n, h, w] in a .npz{f' named {name}' if name else ''} is needed"
        raise InputError(path, f"{wanted}; it holds {', '.join(stacks) or 'none'}; name one with --array")
    images = stacks[name]
    if not len(images) or min(images.shape[1:]) < SMALLEST:
        raise InputError(path, f"{name} has shape {list(images.shape)}; at least one image of {SMALLEST} x {SMALLEST} pixels is needed")
    return name, single(path, name, checked_numbers(path, name, images))


def kind_of(path) -> str:
    """The format of an existing file: "npy", "npz", "dicom" or "nifti", by its name or by the mark of DICOM."""
    path = Path(path)
    if path.is_dir():
        raise InputError(path, f"is a folder; one file is needed, {_SUFFIXES}")
    if not path.is_file():
        raise InputError(path, f"no such file; {_SUFFIXES} is needed")
    if path.stat().st_size == 0:
        raise InputError(path, f"is empty; {_SUFFIXES} is needed")
    name = path.name.lower()
    for suffix, kind in {".npy": "npy", ".npz": "npz", ".nii": "nifti", ".nii.gz": "nifti", ".dcm": "dicom"}.items():
        if name.endswith(suffix):
            return kind
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from None
    if start[128:] == b"DICM":
        return "dicom"
    raise InputError(path, f"unknown format {''.join(path.suffixes[-2:]) or 'without a suffix'}; {_SUFFIXES} is needed")
