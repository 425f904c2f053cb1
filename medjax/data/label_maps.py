"""Slices of anatomical label volumes as images of random contrasts: examples of which no scan was ever taken."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medjax.data.files import PARTS, Files, Stored, disjoint, parted
from medjax.data.nifti import nifti_volume
from medjax.data.nifti_volumes import subjects_of, volumes_of
from medjax.data.random_contrast import random_contrast
from medjax.data.scan import SMALLEST, InputError
from medjax.data.stacks import check_chunks, open_arrays

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
_MOST = 2**16 - 1
_NEIGHBOURS = 1


class _Volume(NamedTuple):
    """Labels `[x, y, z]` towards right, anterior and superior, sides of voxels `[3]` [mm], and the edge of voxels `[3]` in the head's centre."""

    labels: np.ndarray
    spacing: np.ndarray
    centre: np.ndarray
    subject: str


def files(
    folder: str, paths: tuple[str, ...] = (), size: int = 128, planes: tuple[str, ...] = ("axial",), pixel_size: float | None = None,
    contrasts: int = 1, least: float = 0.1, brain: tuple[int, int] = (1, 499), image: Callable = random_contrast, pattern: str = "*", seed: int = 0,
    validation: float = 0.1, test: float = 0.1, values: tuple[int, ...] = (), separate: bool = False, subject: str = "",
) -> Files:  # fmt: skip
    """Images `[size, size]` of the slices of label volumes, `contrasts` of each, drawn from the part and the index alone.

    Volumes are the arrays `train_label`, `validation_label` and `test_label` `[n, x, y, z]` of `.npz` or `.zarr`, axes towards the patient's right,
    anterior and superior, voxels cubes, beside which `PART_subject` `[n]` may stand (else each is of a subject of its own); or all NIfTI volumes of
    a folder and those below it, by their affines. They are held in memory. A slice shows the patient's right on the left and anterior (of a coronal
    or sagittal one: superior) at the top, about the middle of the labels of its volume that are not 0. Images of one slice are neighbours.

    Args:
      folder: of the files.
      paths: names of `.npz` files or `.zarr` folders; where empty, NIfTI volumes are read.
      size: pixels a side; volumes are cropped to them or padded with 0.
      planes: some of "axial", "coronal" and "sagittal".
      pixel_size: of the images [mm], of arrays [voxels]; by default the least side of a voxel. Larger pixels are means over the labels in them.
      contrasts: images of a slice.
      least: share of the image that brain must cover, or the slice is left out.
      brain: least and largest label that is brain; 1 to 499 in the numbers of FreeSurfer as SynthSeg has them.
      image: `(rng, labels [3, h, w], fine, gap) -> [size, size]`, as `random_contrast`: from a slice between its neighbours.
      pattern: of the names of NIfTI files.
      seed: of the contrasts.
      validation: share of the subjects of training, where no file has a validation part; of all subjects for NIfTI.
      test: share of the subjects, for NIfTI.
      values: labels that the numbers of arrays are indices of; where empty, they are labels.
      separate: the files of arrays number their subjects each for itself, so that one name in two of them is two subjects.
      subject: for NIfTI, a regular expression that finds the subject in a path, as `nifti_volumes.subject_of` takes it.

    Returns:
      `Files` without labels.

    Raises:
      InputError: for files that are missing, damaged or hold no such volumes, volumes without brain, and a subject in two parts.
      ValueError: for other planes and numbers out of range, or shares that leave nothing to train on.
    """
    if isinstance(planes, str) or not planes or not set(planes) <= set(PLANES):
        raise ValueError(f"planes is {planes!r}; a tuple of some of {', '.join(PLANES)} is needed")
    if size < SMALLEST or contrasts < 1 or not 0 <= least < 1 or not (pixel_size is None or 0 < pixel_size < np.inf):
        found = f"size {size}, contrasts {contrasts}, least {least} and pixel_size {pixel_size}"
        raise ValueError(f"got {found}; at least {SMALLEST}, at least 1, a share from 0 below 1 and a positive length are needed")
    if isinstance(paths, str):
        raise InputError(folder, f"paths is {paths!r}; a tuple of names is needed")
    if paths:
        volumes = _arrays(folder, paths, np.array(values, int), brain, validation, separate)
    else:
        volumes = _nifti(folder, pattern, brain, validation, test, subject)
    places = {
        part: [place for volume in found for place in _places(volume, planes, brain, least * size**2, pixel_size)] for part, found in volumes.items()
    }
    for part, found in volumes.items():
        if found and not places[part]:
            shown = f"none of the {', '.join(planes)} slices of {part} is {least:g} of {size} x {size} pixels brain"
            raise InputError(folder, f"{shown}; a lower `least` or other `planes` are needed")

    def read(part, index):
        volume, axis, i = places[part][index // contrasts]
        rng = np.random.Generator(np.random.Philox([seed, PARTS.index(part), index]))
        return Stored(image(rng, *_slab(volume, axis, i, size, pixel_size)))

    return Files({part: contrasts * len(each) for part, each in places.items()}, read)


def _arrays(folder, paths, values, brain, validation, separate):
    """part -> its volumes, of arrays."""
    found = {part: [] for part in PARTS}
    for name in paths:
        path = Path(folder) / name
        arrays = open_arrays(path)
        if not any(f"{part}_label" in arrays for part in PARTS):
            raise InputError(path, f"holds {', '.join(sorted(arrays)) or 'nothing'}; train_label, validation_label or test_label is needed")
        for part in PARTS:
            labels, subjects = arrays.get(f"{part}_label"), arrays.get(f"{part}_subject")
            if labels is None:
                continue
            if len(labels.shape) != 4 or labels.dtype.kind not in "iu" or 0 in labels.shape:
                raise InputError(path, f"{part}_label has shape {list(labels.shape)} of {labels.dtype}; whole numbers [n, x, y, z] are needed")
            if subjects is not None and subjects.shape != labels.shape[:1]:
                raise InputError(path, f"{part}_subject has shape {list(subjects.shape)}; one entry for each of {labels.shape[0]} volumes is needed")
            check_chunks(labels)
            check_chunks(subjects)
            own = [f"{name} of its own {part} {i}" for i in range(labels.shape[0])]
            whom = own if subjects is None else [f"{name if separate else ''} {one}" for one in np.asarray(subjects).astype(str)]
            for i, one in enumerate(whom):
                volume = np.asarray(labels[i])
                low, high = volume.min(), volume.max()
                if len(values) and not 0 <= low <= high < len(values):
                    raise InputError(path, f"{part}_label {i} has indices from {low} to {high}; those of {len(values)} `values` are needed")
                volume = values[volume] if len(values) else volume
                found[part].append(_volume(path, f"{part}_label {i}", volume, np.ones(3), one, brain))
    if not found["train"]:
        raise InputError(folder, f"{', '.join(paths)} hold no train_label; volumes to train on are needed")
    advice = "" if separate or len(paths) < 2 else "; `separate` says that each file numbers its own"
    disjoint(folder, {part: {volume.subject for volume in each} for part, each in found.items()}, advice)
    if not found["validation"] and validation:
        split = parted([volume.subject for volume in found["train"]], validation, 0)
        found |= {part: [found["train"][i] for i in split[part]] for part in ("train", "validation")}
    return found


def _nifti(folder, pattern, brain, validation, test, subject):
    """part -> its volumes, of NIfTI files."""
    paths, skipped = volumes_of(folder, pattern)
    if not paths:
        raise InputError(folder, f"holds no NIfTI volumes {pattern} ({skipped[0] if skipped else 'no .nii or .nii.gz of that name'})")
    whom = subjects_of(folder, paths, subject, validation + test > 0)
    parts = parted(whom, validation, test)
    volumes = [_volume(path, "volume", *nifti_volume(path), one, brain) for path, one in zip(paths, whom, strict=True)]
    return {part: [volumes[i] for i in indices] for part, indices in parts.items()}


def _volume(path, name, labels, spacing, subject, brain) -> _Volume:
    """Labels of the least dtype that holds them, checked."""
    if labels.min() < 0 or labels.max() > _MOST or (labels.dtype.kind == "f" and np.any(labels % 1)):
        raise InputError(path, f"{name} has values from {labels.min():g} to {labels.max():g}; whole numbers from 0 to {_MOST} are needed")
    labels = labels.astype(np.min_scalar_type(int(labels.max())))
    if not _is_brain(labels, brain).any():
        raise InputError(
            path, f"{name} has labels up to {labels.max()}, none of them brain; some from {brain[0]} to {brain[1]}, as `brain` says, are needed"
        )
    inside = [np.flatnonzero(labels.any(tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    return _Volume(labels, np.asarray(spacing, float), np.array([(int(i[0]) + int(i[-1]) + 1) // 2 for i in inside]), subject)


def _is_brain(labels, brain):
    """Where labels are brain."""
    return (labels >= brain[0]) & (labels <= brain[1])


def _places(volume: _Volume, planes, brain, least, pixel_size):
    """(volume, axis, slice) of the slices whose brain covers `least` pixels."""
    pixel, inside = pixel_size or volume.spacing.min(), _is_brain(volume.labels, brain)
    for axis in (PLANES[plane] for plane in planes):
        others = tuple(other for other in range(3) if other != axis)
        areas = inside.sum(others) * volume.spacing[list(others)].prod() / pixel**2
        yield from ((volume, axis, int(i)) for i in np.flatnonzero(areas >= least))


def _slab(volume: _Volume, axis: int, index: int, size: int, pixel_size):
    """Labels `[3, fine size, fine size]` of a slice and its neighbours on a grid about the head, `fine`, and the distance of neighbours [pixels].

    The grid has as many points along a pixel as voxels are finer; each takes the label of the voxel that it lies in.
    """
    pixel = pixel_size or volume.spacing.min()
    fine = max(1, round(pixel / volume.spacing.min()))
    ahead = ((size * fine - 1) / 2 - np.arange(size * fine)) * pixel / fine  # of the centre, from the top or the left on [mm]
    right, up = (other for other in range(3) if other != axis)
    columns, rows = (np.floor(volume.centre[d] + ahead / volume.spacing[d]).astype(int) for d in (right, up))
    kept_rows, kept_columns = ((i >= 0) & (i < volume.labels.shape[d]) for i, d in ((rows, up), (columns, right)))
    stack, here = np.moveaxis(volume.labels, axis, 0), np.ix_(kept_rows, kept_columns)
    slab = np.zeros((2 * _NEIGHBOURS + 1, size * fine, size * fine), volume.labels.dtype)
    for k, i in enumerate(range(index - _NEIGHBOURS, index + _NEIGHBOURS + 1)):
        if 0 <= i < len(stack):
            slab[k][here] = stack[i].T[np.ix_(rows[kept_rows], columns[kept_columns])]
    return slab, fine, float(volume.spacing[axis] / pixel)
