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
_BREAK = re.compile(r"[-_.]")


def files(
    folder: str, size: int = 256, axis: int = 2, modality: str = "", pattern: str = "*", validation: float = 0.1, test: float = 0.1,
    subject: str = "", lowest: float | None = None,
) -> Files:  # fmt: skip
    """The slices of all `.nii` and `.nii.gz` volumes in a folder and those below it, split by subject; a slice is read when it is asked for.

    A slice is turned as a radiologist sees it, by the affine of its file, its pixels are made square, and it is `fit` to the size. CT is in HU, -1000
    around the image; an MR image is over the 99.5th percentile of the magnitude of its volume's middle slice. Whom a volume is of is
    told by its place, as `subject_of` has it. A slice of a `.nii.gz` takes unpacking all before it: unpack such files to train on them.

    Args:
      folder: with the volumes; those that cannot be read, or of four axes, are left out, which is logged.
      size: pixels a side.
      axis: 0, 1 or 2 for sagittal, coronal or axial slices.
      modality: "ct" or "mri"; where empty, a volume is CT if the middle slice has values below -200.
      pattern: of the names of files, as a shell has it, such as "*_T1w.nii.gz"; masks lie beside many images.
      validation: share of the subjects.
      test: share of the subjects.
      subject: a regular expression that finds the subject in a file's path below the folder, such as "(IXI[0-9]+)-" or "^[^/]+/[^/]+".
      lowest: CT is clipped to this from below [HU], such as -1000 where the field of view is padded with less; None leaves it.

    Raises:
      InputError: where the folder holds no such volume, a path in which `subject` finds nothing, or only one subject and some are to be held out,
        and on reading where voxels cannot be read.
      ValueError: for another axis or modality, an expression that is none, or shares that leave nothing to train on.

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
    whom = subjects_of(folder, paths, subject, validation + test > 0)
    parts = parted([whom[v] for v, _ in places], validation, test)

    def read(part, index):
        v, i = places[parts[part][index]]
        image, sizes = _image(paths[v], i, axis)
        unit = _unit(paths[v], volumes[paths[v]][axis] // 2, axis, modality, paths[v].stat().st_mtime_ns)
        image = image / unit if unit is not None else image if lowest is None else np.maximum(image, np.float32(lowest))
        image, _ = square_pixels(image, sizes)
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


def subjects_of(folder, paths, subject: str = "", several: bool = False) -> list[str]:
    """`subject_of` of each file.

    Args:
      folder: that all files are below.
      paths: of the files.
      subject: as for `subject_of`.
      several: whether there must be several, for some are to be held out.

    Raises:
      InputError: as `subject_of`; and where `several` are needed but all files are of one, or what they are told apart by looks like contrasts: the
        same names lie in each of a few folders, as in T1/ANN.nii and T2/ANN.nii.
    """
    found = [subject_of(folder, path, subject) for path in paths]
    if several and not subject and len(found) > 1:
        told = f"holds {len(found)} volumes, taken to be of {len(set(found))} subject{'s' * (len(set(found)) > 1)} by their places, "
        needed = "; `subject`, an expression that finds the subject in a path, or shares of 0, which hold nothing out, are needed"
        if len(set(found)) == 1:
            raise InputError(folder, f"{told}of whom none can be held out{needed}")
        if _crossed([_places(path.relative_to(folder)) for path in paths if not _labelled(path.relative_to(folder))]):
            raise InputError(folder, f"{told}in most of which the same, more numerous names lie: people of several contrasts?{needed}")
    return found


def subject_of(folder, path: Path, subject: str = "") -> str:
    """Whom a file is of: what `subject` finds in its path, else the first `sub-LABEL` of BIDS on the way to it, else what its path begins with.

    That is the first folder below `folder`, such as PATIENT of PATIENT/STUDY/T1.nii.gz; of a file in `folder` itself what its name has before the
    first "-", "_" or ".", such as IXI002 of IXI002-Guys-0828-T1.nii.gz, for the rest of a name tells contrasts and sessions apart. This joins too
    many where it is a hospital or a word that all names begin with: so people lie together in one part, but nobody is in two.

    Args:
      folder: that all files are below.
      path: of the file.
      subject: a regular expression, searched in the path below the folder, "/" between its parts: its group, or where it has none all that it finds.

    Raises:
      InputError: where it finds nothing.
      ValueError: where it is no expression, or has several groups.
    """
    inside = path.relative_to(folder)
    if not subject:
        return _labelled(inside) or _places(inside)[0]
    try:
        expression = re.compile(subject)
    except re.error as error:
        raise ValueError(f"subject is {subject!r} ({error}); a regular expression is needed") from None
    if expression.groups > 1:
        raise ValueError(f"subject is {subject!r}, of {expression.groups} groups; one, or none, is needed")
    found = expression.search(inside.as_posix())
    if not found or not found.group(expression.groups):
        raise InputError(path, f"has a place in which {subject!r} finds no subject; an expression that finds one in all is needed")
    return found.group(expression.groups)


def _labelled(inside) -> str:
    """The first label of BIDS on the way to a file, empty where there is none."""
    labels = (_SUBJECT.match(part) for part in (inside.name, *inside.parts))
    return next((label.group() for label in labels if label), "")


def _places(inside) -> list[str]:
    """The folders on the way to a file, and the pieces of its name."""
    return [*inside.parts[:-1], *_BREAK.split(inside.name)]


def _crossed(places) -> bool:
    """Whether, behind the first places, there are more names than first places, and most of them lie behind several of these."""
    for k in range(1, max(map(len, places), default=0)):
        behind: dict[str, set[str]] = {}
        for place in places:
            behind.setdefault(place[min(k, len(place) - 1)], set()).add(place[0])
        if len(behind) > len({place[0] for place in places}) and 2 * sum(len(first) > 1 for first in behind.values()) > len(behind):
            return True
    return False
