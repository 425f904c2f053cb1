"""Volumes and slices of a folder of DICOM files, as scanners and archives write them: shuffled, incomplete, with scouts and reports among them.

Slices belong together by SeriesInstanceUID (0020,000E), orientation, shape and pixel spacing, and lie where ImagePositionPatient (0020,0032) and
ImageOrientationPatient (0020,0037) say (DICOM PS3.3, C.7.6.2.1.1); neither names of files, InstanceNumber nor SliceThickness count. Nothing that is
returned tells who the patient is, beyond the names that the user gave to files.
"""

import functools
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medjax.data.dicom import check_grey, dataset_of, grey_values
from medjax.data.dicom_headers import APART, PIXELS, Header, frames, headers, reading, relative
from medjax.data.files import Files, Stored, parted
from medjax.data.fit import fit, square_pixels
from medjax.data.scan import InputError, checked_numbers

AIR = {"ct": -1000.0, "mri": 0.0}
"""What is beyond an image [HU or a.u.]."""
_SAME, _TILTED = 1e-3, np.deg2rad(0.5)  # [mm], [rad]


class Series(NamedTuple):
    """Slices that make a volume, of which only the headers have been read.

    modality: "ct" or "mri".
    slices: (file, frame) of each, along the normal of the slices, the direction of rows times that of columns: of axial ones from inferior to
      superior, or of images that show the patient mirrored, such as [1, 0, 0, 0, -1, 0], from superior to inferior, so that (slice, row, column)
      is of the same handedness always.
    shape: (slices, h, w).
    spacing: (z, y, x) [mm]: the median distance of neighbours along the normal, None of a single slice; height and width of a pixel.
    positions: `[slices]` [mm] along the normal.
    tilt: [rad], between the normal and the direction in which the slices move, as a tilted gantry has it.
    nominal_tilt: GantryDetectorTilt [degrees], None where it is not told.
    affine: `[4, 4]`, of (slice, row, column, 1) to the patient's left, posterior, superior [mm]; exact where no slice is missing.
    patient: from 0, the same for all series of a patient in this folder.
    remarks: what is odd about it, a line each.
    """

    modality: str
    slices: tuple[tuple[Path, int], ...]
    shape: tuple[int, int, int]
    spacing: tuple[float | None, float, float]
    positions: np.ndarray
    tilt: float
    nominal_tilt: float | None
    affine: np.ndarray
    patient: int
    remarks: tuple[str, ...]


class Listing(NamedTuple):
    """The series of a folder, by the names of their files, and a line for each file or frame that is none of them."""

    series: tuple[Series, ...]
    skipped: tuple[str, ...]


class Volume(NamedTuple):
    """A series with its pixels.

    image: `[slices, h, w]` float32 [HU] for CT, [a.u.] for MRI.
    series: what is known about it, of the slices that could be read.
    skipped: a line for each file or frame of the folder that is not in the image.
    """

    image: np.ndarray
    series: Series
    skipped: tuple[str, ...]


def dicom_series(folder, number: int | None = None) -> Volume:
    """The volume of a series.

    Args:
      folder: with files of any names, in folders below it, too.
      number: of the series in `listed(folder).series`; may be None where there is only one.

    Returns:
      A `Volume`; slices whose pixels cannot be decoded are left out and named.

    Raises:
      InputError: where the folder holds no series, or several and none is chosen.
    """
    found = listed(folder)
    if not found.series:
        raise InputError(folder, f"holds no series of CT or MR images ({found.skipped[0] if found.skipped else 'it is empty'})")
    names = ", ".join(f"{i}: {one.modality} {' x '.join(map(str, one.shape))}" for i, one in enumerate(found.series))
    if number is None and len(found.series) > 1:
        raise InputError(folder, f"holds {len(found.series)} series ({names}); the number of one is needed")
    if not 0 <= (number or 0) < len(found.series):
        raise InputError(folder, f"has no series {number}; one of {names} is needed")
    return _volume(folder, found, number or 0)


def listed(folder) -> Listing:
    """The series of a folder, or of a single file; only headers are read.

    Localizers, reports, colour images and everything else that is no cross-section of CT or MR is left out and named, as are damaged files, and
    all but the first of several slices in one place. A series of several echoes, times, b-values or acquisitions is several volumes.

    Raises:
      InputError: where there is no such folder.
    """
    found, skipped = headers(folder)
    patients = sorted({one.who[1] for one in found})
    groups: dict = {}
    for one in found:
        groups.setdefault((one.who, one.modality), []).append(one)
    series = []
    for group in groups.values():
        for stack in _stacks(group):
            kept, doubled = _ordered(stack)
            skipped += [f"{_named(folder, one)}: lies in the place of another slice of its series" for one in doubled]
            series.append(_series(kept, patients.index(kept[0].who[1]), len(doubled)))
    return Listing(tuple(sorted(series, key=lambda one: min(one.slices))), tuple(skipped))


def series_of(paths) -> tuple[Series, tuple[str, ...]]:
    """The one series that files make together, and the SOPInstanceUID of each of its slices, never to be shown; only headers are read.

    Nothing is left out, as `listed` does, but all of several slices in one place after the first.

    Raises:
      InputError: where a file is damaged or no cross-section of CT or MR, or of another series, orientation, shape or pixel spacing than the first.
    """
    found = [one for path in paths for one in frames(path)]
    for one in found:
        if one.who != found[0].who or one.modality != found[0].modality or not _alike(one, found[0]):
            raise InputError(one.source[0], f"is of another series or grid than {found[0].source[0].name} beside it; slices of one volume are needed")
    kept, doubled = _ordered(found)
    return _series(kept, 0, len(doubled)), tuple(one.uid for one in kept)


def files(folder: str, size: int = 256, modality: str = "ct", validation: float = 0.1, test: float = 0.1, lowest: float | None = AIR["ct"]) -> Files:
    """The slices of all series of a modality, split by patient; a slice is read when it is asked for.

    Pixels are made square, then `fit` to the size. CT is in HU, -1000 around the image; an MR image is over the 99.5th percentile of the middle
    slice of its series. Who is in which part depends on a hash of PatientID, whoever issued it, or of StudyInstanceUID where
    that is empty.

    Args:
      folder: as for `dicom_series`.
      size: pixels a side.
      modality: "ct" or "mri".
      validation: share of the patients.
      test: share of the patients.
      lowest: CT is clipped to this from below [HU]; None leaves it. Scanners pad the field of view with -2000 and less, which not all files mark.

    Raises:
      InputError: where the folder holds no such series, and on reading where pixels cannot be decoded.
      ValueError: for shares that leave nothing to train on.
    """
    found = listed(folder)
    series = [one for one in found.series if one.modality == modality]
    if not series:
        raise InputError(folder, f"holds no series of modality {modality!r} ({found.skipped[0] if found.skipped else 'it has other ones or none'})")
    if found.skipped:
        first = f"{len(found.skipped)} files or frames are left out, {found.skipped[0]}"
        logging.getLogger(__name__).warning("%s: %s; python -m medjax.data.inspect names all", folder, first)
    places = [(s, i) for s, one in enumerate(series) for i in range(one.shape[0])]
    parts = parted([series[s].patient for s, _ in places], validation, test)

    def read(part, index):
        s, i = places[parts[part][index]]
        image = series_slice(series[s], i)
        image = image if lowest is None or modality != "ct" else np.maximum(image, np.float32(lowest))
        image, _ = square_pixels(image, series[s].spacing[1:])
        if modality == "mri":
            path, frame = series[s].slices[series[s].shape[0] // 2]
            image = image / _unit(path, frame, series[s].shape[1:], path.stat().st_mtime_ns)
        return Stored(fit(image, size, AIR[modality])[0].astype(np.float32))

    return Files({part: len(each) for part, each in parts.items()}, read)


def _volume(folder, found, number) -> Volume:
    """The volume of a listed series, of all slices that can be read."""
    series, images, skipped = found.series[number], [], list(found.skipped)
    for i, source in enumerate(series.slices):
        try:
            images.append((source, series_slice(series, i)))
        except InputError as error:
            skipped.append(relative(folder, str(error)))
    if not images:
        raise InputError(folder, f"has a series {number} of which no slice can be read ({skipped[-1]})")
    if len(images) < len(series.slices):
        sources = {source for source, _ in images}
        kept = [one for one in headers(folder)[0] if one.source in sources]
        series = _series(_ordered(kept)[0], series.patient, 0)
    return Volume(np.stack([image for _, image in images]), series, tuple(skipped))


def series_slice(series: Series, i: int) -> np.ndarray:
    """The values `[h, w]` float32 of a slice; nothing but its pixels is read, and nothing is shared between calls.

    Raises:
      InputError: where they cannot be decoded or are not finite.
    """
    return _grey(*series.slices[i], series.modality, series.shape[1:])


def _grey(path, frame, modality, shape) -> np.ndarray:
    """The values of a frame, checked."""
    with reading(path):
        dataset = dataset_of(path, PIXELS)
        check_grey(path, dataset)
        image = grey_values(path, dataset, frame, modality)
    if image.shape != shape:
        raise InputError(path, f"has pixels {list(image.shape)}; {list(shape)}, as its header says, are needed")
    return checked_numbers(path, "image", image).astype(np.float32)


@functools.cache
def _unit(path, frame, shape, changed) -> np.float32:
    """What the slices of a series of MRI are divided by, of its middle one; `changed`, the time of its file, tells another of its name apart."""
    return np.float32(np.percentile(_grey(path, frame, "mri", shape), 99.5) or 1)


def _stacks(group) -> list[list[Header]]:
    """The slices of a series by orientation, shape and pixel spacing, and where several lie in one place by what tells them apart."""
    stacks: list[list[Header]] = []
    for one in group:
        stack = next((stack for stack in stacks if _alike(stack[0], one)), None)
        if stack is None:
            stacks.append([one])
        else:
            stack.append(one)
    return [part for stack in stacks for part in _apart(stack)]


def _alike(one, other) -> bool:
    """Whether slices have the same orientation, shape and pixel spacing."""
    turned = np.allclose(one.orientation, other.orientation, rtol=0, atol=1e-3)
    return one.shape == other.shape and turned and np.allclose(one.pixel, other.pixel, rtol=1e-3, atol=0)


def _apart(stack):
    """A stack, or those of it that have no two slices in one place."""
    if not _ordered(stack)[1]:
        return [stack]
    for i in range(len(APART)):
        parts: dict = {}
        for one in stack:
            parts.setdefault(one.apart[i], []).append(one)
        if len(parts) > 1 and not any(_ordered(part)[1] for part in parts.values()):
            return list(parts.values())
    return [stack]


def _along(stack):
    """Positions along the normal [mm]."""
    row, column = stack[0].orientation.reshape(2, 3)
    normal = np.cross(row, column)
    return np.array([one.position for one in stack]) @ normal


def _ordered(stack):
    """Slices along the normal, and those in the place of another, of which the first by InstanceNumber stays."""
    stack = sorted(stack, key=lambda one: (one.number, one.source))
    along = _along(stack)
    order = np.argsort(along, kind="stable")
    kept, doubled, last = [], [], -np.inf
    for i in order:
        (doubled if along[i] - last < _SAME else kept).append(stack[i])
        last = last if along[i] - last < _SAME else along[i]
    return kept, doubled


def _series(stack, patient, num_doubled) -> Series:
    """What the headers of ordered slices tell together."""
    first, along = stack[0], _along(stack)
    row, column = first.orientation.reshape(2, 3)
    normal = np.cross(row, column)
    gaps = np.diff(along)
    step = float(np.median(gaps)) if len(gaps) else None
    move = stack[-1].position - first.position
    direction = move / (move @ normal) if step else normal
    sideways = float(np.linalg.norm(direction - (direction @ normal) * normal))
    tilt = float(np.arctan(sideways))
    affine = np.eye(4)
    affine[:3] = np.stack([(step or 1.0) * direction, column * first.pixel[0], row * first.pixel[1], first.position], axis=1)
    remarks = [*_gap_remarks(gaps, step), *[f"{num_doubled} in the place of another slice left out"] * bool(num_doubled)]
    told = "is not told" if first.nominal_tilt is None else f"is {first.nominal_tilt:g} degrees"
    if tilt > _TILTED:
        remarks.append(f"slices move {np.rad2deg(tilt):.1f} degrees off their normal (GantryDetectorTilt {told}): the volume is sheared")
    elif first.nominal_tilt and np.deg2rad(abs(first.nominal_tilt)) > _TILTED and len(stack) > 1:
        remarks.append(f"GantryDetectorTilt {told}, but slices move along their normal: the volume is not sheared")
    sources, shape, spacing = tuple(one.source for one in stack), (len(stack), *first.shape), (step, *first.pixel)
    return Series(first.modality, sources, shape, spacing, along, tilt, first.nominal_tilt, affine, patient, tuple(remarks))


def _gap_remarks(gaps, step):
    """A line for each gap of whole steps, where slices are missing, and one for distances that are uneven otherwise."""
    remarks, uneven = [], []
    for i, gap in enumerate(gaps):
        steps = round(gap / step)
        if abs(gap - step) <= 0.02 * step:
            continue
        if steps > 1 and abs(gap - steps * step) <= 0.05 * step:
            remarks.append(f"slices {i} and {i + 1} lie {gap:.4g} mm apart instead of {step:.4g}: {steps - 1} missing")
        else:
            uneven.append(gap)
    if uneven:
        remarks.append(f"slices lie at uneven distances, {min(gaps):.4g} to {max(gaps):.4g} mm, most at {step:.4g}")
    return remarks


def _named(folder, one) -> str:
    """A file, and its frame where it is not the first, for a line."""
    return relative(folder, str(one.source[0])) + (f" frame {one.source[1]}" if one.source[1] else "")
