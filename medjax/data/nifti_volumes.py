"""Slices of the NIfTI volumes of a folder."""

import functools
import logging
import re
from pathlib import Path

import numpy as np

from medjax.data.declared import checked_pixels
from medjax.data.files import Files, Stored, parted
from medjax.data.fit import fit, square_pixels
from medjax.data.nifti import nifti_shape, nifti_slice
from medjax.data.scan import MODALITIES, InputError, checked_slice

_SUBJECT = re.compile(r"sub-[0-9a-zA-Z+]+")


def files(folder: str, size: int = 256, axis: int = 2, modality: str = "", pattern: str = "*", validation: float = 0.1, test: float = 0.1) -> Files:
    """The slices of all `.nii` and `.nii.gz` volumes in a folder and those below it, split by subject; a slice is read when it is asked for.

    A slice is turned as a radiologist sees it, by the affine of its file, its pixels are made square, and it is `fit` to the size. CT is in HU, -1000
    around the image; an MR image is over the 99.5th percentile of the magnitude of its volume's middle slice. A subject is the `sub-LABEL` that a
    file or folder begins with, else the name of the file. A slice of a `.nii.gz` takes unpacking all before it: unpack such files to train on them.

    Args:
      folder: with the volumes; those that cannot be read, or of four axes, are left out, which is logged.
      size: pixels a side.
      axis: 0, 1 or 2 for sagittal, coronal or axial slices.
      modality: "ct" or "mri"; where empty, a volume is CT if the middle slice has values below -200.
      pattern: of the names of files, as a shell has it, such as "*_T1w.nii.gz"; masks lie beside many images.
      validation: share of the subjects.
      test: share of the subjects.

    Raises:
      InputError: where the folder holds no such volume, and on reading where voxels cannot be read.
      ValueError: for another axis or modality, or shares that leave nothing to train on.

    Reference:
      Gorgolewski et al. (2016), The brain imaging data structure, https://doi.org/10.1038/sdata.2016.44, for the names of subjects.
    """
    if axis not in (0, 1, 2) or modality not in ("", *MODALITIES):
        raise ValueError(f"got axis {axis} and modality {modality!r}; 0, 1 or 2 and 'ct', 'mri' or nothing are needed")
    volumes, skipped = volumes_of(folder, pattern)
    if not volumes:
        raise InputError(folder, f"holds no NIfTI volumes {pattern} ({skipped[0] if skipped else 'no .nii or .nii.gz of that name'})")
    if skipped:
        logging.getLogger(__name__).warning("%d volumes are left out, %s", len(skipped), skipped[0])
    paths = list(volumes)
    places = [(v, i) for v, path in enumerate(paths) for i in range(volumes[path][axis])]
    parts = parted([subject_of(folder, paths[v]) for v, _ in places], validation, test)

    def read(part, index):
        v, i = places[parts[part][index]]
        image, sizes = _image(paths[v], i, axis)
        unit = _unit(paths[v], volumes[paths[v]][axis] // 2, axis, modality, paths[v].stat().st_mtime_ns)
        image, _ = square_pixels(image if unit is None else image / unit, sizes)
        fitted, _ = fit(image, size, -1000 if unit is None else 0)
        return Stored(fitted.astype(np.complex64 if fitted.dtype.kind == "c" else np.float32))

    return Files({part: len(each) for part, each in parts.items()}, read)


def volumes_of(folder, pattern: str = "*") -> tuple[dict[Path, tuple[int, int, int]], tuple[str, ...]]:
    """The volumes below a folder by name, with their voxels along the patient's axes, and a line for each that cannot be used; only headers are read.

    Raises:
      InputError: where there is no such folder.
    """
    if not Path(folder).is_dir():
        raise InputError(folder, "is no folder; one of .nii or .nii.gz files is needed")
    found, skipped = {}, []
    for path in sorted(path for path in Path(folder).rglob(pattern) if path.name.lower().endswith((".nii", ".nii.gz")) and path.is_file()):
        try:
            found[path] = nifti_shape(path)
        except InputError as error:
            skipped.append(str(error))
    return found, tuple(skipped)


def _image(path, index, axis):
    """A slice and (h, w) of its pixels [mm], both checked."""
    image, sizes = nifti_slice(path, index, axis)
    checked_pixels(path, image.shape, sizes)
    return checked_slice(path, "image", image), sizes


@functools.cache
def _unit(path, middle, axis, modality, changed):
    """What the slices of a volume are divided by, None for CT; `changed`, the time of the file, tells another one of its name apart."""
    image, _ = _image(path, middle, axis)
    if (modality or ("ct" if image.dtype.kind == "f" and image.min() < -200 else "mri")) == "ct":
        return None
    return np.float32(np.percentile(np.abs(image), 99.5) or 1)


def subject_of(folder, path: Path) -> str:
    """Whom a file below a folder is of: the first label of BIDS on the way to it, else its name."""
    labels = (_SUBJECT.match(part) for part in (path.name, *path.relative_to(folder).parts))
    return next((label.group() for label in labels if label), re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE))
