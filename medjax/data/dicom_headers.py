"""What the headers of DICOM files tell of the place of their frames; pixels are left on disk."""

import contextlib
import hashlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medjax.data.declared import LONGEST, checked_pixels
from medjax.data.dicom import DEFLATED, check_grey, dataset_of, modality_of, tag
from medjax.data.scan import SMALLEST, InputError

PIXELS = (
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("RescaleSlope", "RescaleIntercept", "PixelPaddingValue", "PixelPaddingRangeLimit", "SOPClassUID", "Modality", "PixelSpacing"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
"""What the values of a frame depend on."""
_WHO = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_WHAT = ("ImageType", "SeriesDescription", "ProtocolName", "ImagePositionPatient", "ImageOrientationPatient", "GantryDetectorTilt", "InstanceNumber")
APART = ("EchoTime", "TemporalPositionIdentifier", "DiffusionBValue", "AcquisitionNumber")
"""What tells images of one place apart, the first that does."""
_SCOUT = re.compile(r"scout|locali[sz]er|topogram|scanogram|surview|survey", re.IGNORECASE)
_SHORTEST = 64  # bytes of a compressed frame: those of the header that RLE, the shortest, has
_DEFLATED = 1032  # how many bytes one deflated byte can stand for
_LONG = 4096  # bytes of an element that a header is read without


class Header(NamedTuple):
    """What a header tells of a frame.

    source: file and frame.
    who: series and patient, the second one as a hash; never to be shown.
    uid: SOPInstanceUID, by which annotations name a file; never to be shown.
    modality: "ct" or "mri".
    shape: (h, w).
    pixel: (h, w) of a pixel [mm].
    position: `[3]` [mm], of the centre of the first pixel.
    orientation: `[6]`, directions along a row and along a column.
    nominal_tilt: GantryDetectorTilt [degrees].
    number: InstanceNumber.
    apart: values of `APART`.
    """

    source: tuple[Path, int]
    who: tuple[str, str]
    uid: str
    modality: str
    shape: tuple[int, int]
    pixel: tuple[float, float]
    position: np.ndarray
    orientation: np.ndarray
    nominal_tilt: float | None
    number: int
    apart: tuple[str, ...]


def headers(folder) -> tuple[list[Header], list[str]]:
    """The headers of all frames of a file or below a folder, and a line for each file that has none to use.

    Only what is needed is read: nothing private, no name or date.

    Raises:
      InputError: where there is neither.
    """
    if not Path(folder).exists():
        raise InputError(folder, "no such file or folder; DICOM files are needed")
    paths = [Path(folder)] if Path(folder).is_file() else sorted(path for path in Path(folder).rglob("*") if path.is_file())
    found, skipped = [], []
    for path in paths:
        try:
            found += frames(path)
        except InputError as error:
            skipped.append(relative(folder, str(error)))
    return found, skipped


@contextlib.contextmanager
def reading(path) -> Iterator[None]:
    """While values of a DICOM file are taken, for pydicom converts them late: whatever those of a damaged one raise is told as an `InputError`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every oddity of a file that it nevertheless reads
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # whose words may quote the header, and who the patient is
            raise InputError(path, f"its header is damaged ({type(error).__name__})") from None


def texts(path, keywords: tuple[str, ...]) -> tuple[str, ...]:
    """What the header of any DICOM file tells of keywords, empty where it tells nothing.

    Raises:
      InputError: where the file is damaged or not DICOM.
    """
    with reading(path):
        dataset = dataset_of(path, keywords, _LONG)
        return tuple(str(dataset.get(keyword) or "").strip() for keyword in keywords)


def frames(path) -> list[Header]:
    """The headers of the frames of a file, of which nothing else is read.

    Raises:
      InputError: where the file is damaged or no cross-section of CT or MR.
    """
    with reading(path):
        dataset = dataset_of(path, (*PIXELS, *_WHO, *_WHAT, *APART), _LONG)
        check_grey(path, dataset)
        modality = modality_of(path, dataset)
        words = [str(word).upper() for word in dataset.get("ImageType") or []]
        if "LOCALIZER" in words[2:3] or _SCOUT.search(f"{dataset.get('SeriesDescription', '')} {dataset.get('ProtocolName', '')}"):
            raise InputError(path, "is a localizer; cross-sections are needed")
        num = int(dataset.get("NumberOfFrames") or 1)
        _check_length(path, dataset, num)
        # Without its issuer, which some series of a patient lack: two people of one number in one part do no harm, one person in two does.
        patient = next((told for name in _WHO[:2] if (told := str(dataset.get(name) or "").strip())), str(path.parent))
        hashed = hashlib.sha256(patient.encode()).hexdigest()
        who = str(dataset.get("SeriesInstanceUID") or path.parent), hashed
        return [_frame(path, dataset, i, who, modality) for i in range(num)]


def _check_length(path, dataset, num):
    """See that the pixels of `num` frames are all there, without reading them; compressed ones end with a mark that pydicom has looked for."""
    stored = next(dataset.get_item(name, keep_deferred=True) for name in PIXELS[:3] if name in dataset)
    size, length = path.stat().st_size, getattr(stored, "length", None) or 0
    deflated, compressed = dataset.file_meta.get("TransferSyntaxUID") == DEFLATED, length == 0xFFFFFFFF
    if not deflated and not compressed and getattr(stored, "value_tell", 0) + length > size:
        raise InputError(path, "its pixels are truncated")
    each = _SHORTEST if compressed else max(1, int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8)
    room = size if compressed else min(length, _DEFLATED * size) if deflated else length
    if not 1 <= num <= max(1, room // each):
        raise InputError(path, f"tells {num} frames, more or less than its pixels make; one at least, and all of them, are needed")


def _frame(path, dataset, index, who, modality) -> Header:
    """One frame of a header, checked."""

    def numbers(keyword, count):
        found = tag(dataset, index, keyword)
        found = np.zeros(0) if found is None else np.atleast_1d(np.asarray(found, float))
        if found.shape != (count,) or not (np.abs(found) < LONGEST).all():
            raise InputError(path, f"tells {len(found)} numbers of {keyword}; {count} finite ones below {LONGEST:g} are needed")
        return found

    shape, pixel = (int(dataset.Rows), int(dataset.Columns)), numbers("PixelSpacing", 2)
    if min(shape) < SMALLEST:
        raise InputError(path, f"has {list(shape)} pixels; at least {SMALLEST} x {SMALLEST} are needed")
    checked_pixels(path, shape, pixel)
    orientation = numbers("ImageOrientationPatient", 6)
    axes = orientation.reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > 0.01:
        raise InputError(path, "has an ImageOrientationPatient whose directions are not orthogonal, of length 1; such are needed")
    tilt, number = tag(dataset, index, "GantryDetectorTilt"), tag(dataset, index, "InstanceNumber")
    apart = tuple(str(tag(dataset, index, keyword)) for keyword in APART)
    position = numbers("ImagePositionPatient", 3)
    tilt = None if tilt is None else float(tilt)
    uid = str(dataset.get("SOPInstanceUID") or "")
    return Header((path, index), who, uid, modality, shape, (pixel[0], pixel[1]), position, orientation, tilt, int(number or 0), apart)


def relative(folder, line: str) -> str:
    """A line without the folder that it begins with."""
    return line.removeprefix(f"{' '.join(str(folder).split())}/")
