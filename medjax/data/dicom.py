"""One frame of a DICOM file, and a derived image beside it in the same study; and what readers of several files share."""

import datetime
import warnings
import zlib
from pathlib import Path

import numpy as np

from medjax.data.declared import LARGEST, RATIO, checked_size, opened
from medjax.data.fit import padding_of
from medjax.data.scan import InputError, Scan, checked_index, image_scan, isotropic, reason

DEFLATED = "1.2.840.10008.1.2.1.99"
"""Transfer syntax of a data set that is deflated as a whole."""
_AIR = -1000.0
# fmt: off
_KEPT = (
    "SpecificCharacterSet", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "InstitutionName",
    "Manufacturer", "ManufacturerModelName", "PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientIDs", "PatientBirthDate", "PatientSex",
    "PatientAge", "PatientSize", "PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod", "StudyInstanceUID", "StudyID",
    "FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "BodyPartExamined", "Laterality", "KVP", "ContrastBolusAgent",
    "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "EchoTime", "RepetitionTime", "EchoTrainLength", "InversionTime",
    "FlipAngle", "MagneticFieldStrength", "AcquisitionNumber", "AcquisitionDate", "AcquisitionTime", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod", "BurnedInAnnotation",
)
"""What a derived image inherits: patient, study, frame of reference and how it was acquired; nothing private, and of the old
pixels only whether they were compressed with loss and whether names may stand in them."""
# fmt: on


def read_dicom(path, slice_index: int | None = None, modality: str | None = None) -> Scan:
    """A frame of a CT or MR image: HU by the rescale slope and intercept, air where the file marks padding.

    An MR image stored as MONOCHROME1 is inverted; CT values are HU whichever way they are shown.
    """
    with warnings.catch_warnings():
        # pydicom warns of every oddity of a file that it nevertheless reads.
        warnings.simplefilter("ignore")
        dataset = dataset_of(path)
        try:
            return _frame(path, dataset, slice_index, modality)
        except InputError:
            raise
        except Exception as error:  # pydicom converts values late, and those of a damaged file raise anything
            raise InputError(path, f"its header is damaged ({reason(error)})") from None


def write_dicom(source, image, path, pixel_size: float | None, description: str, slice_index: int | None = None):
    """Write `image` `[size, size]`, fitted from a frame of `source`, as a new derived image of the same patient, study and place.

    Stored as int16, uncompressed: HU rounded for CT; for MR the values rounded, or times a slope where they are too small or large for that.
    """
    import pydicom
    from pydicom import uid
    from pydicom.dataset import FileMetaDataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        original = dataset_of(source)
        index = checked_index(source, slice_index, int(original.get("NumberOfFrames") or 1))
        dataset = pydicom.Dataset()
        for keyword in _KEPT:
            if keyword in original:
                dataset[keyword] = original[keyword]
        ct = original.get("Modality") == "CT"
        storage = uid.CTImageStorage if ct else uid.MRImageStorage if original.get("Modality") == "MR" else uid.SecondaryCaptureImageStorage
        _identify(dataset, original, storage, description)
        _place(dataset, original, index, image.shape[0], pixel_size)
        _set_pixels(dataset, np.asarray(image, float), ct)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = storage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def dataset_of(path, tags: tuple[str, ...] | None = None, defer: int | None = None):
    """The elements of a file.

    Args:
      path: the file.
      tags: keywords of those to read; all if None.
      defer: elements of more bytes are left on disk until they are asked for.

    Raises:
      InputError: for a file that is missing, truncated in its header or not DICOM.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with opened(path) as file:
            _check_inflated(path, file)
            return pydicom.dcmread(file, specific_tags=None if tags is None else list(tags), defer_size=defer)
    except InputError:
        raise
    except InvalidDicomError:
        raise InputError(path, "is truncated or not a DICOM file (no header of DICOM)") from None
    except Exception as error:  # a parser of damaged bytes raises anything
        raise InputError(path, f"is truncated or not a DICOM file ({reason(error)})") from None


def _check_inflated(path, file):
    """See that a deflated data set is in proportion to its file, for pydicom inflates it whole; the file is left at its start."""
    from pydicom.filereader import read_dataset, read_preamble

    read_preamble(file, False)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") == DEFLATED:
        most = max(LARGEST, RATIO * Path(path).stat().st_size)
        checked_size(path, "its deflated data set", len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), most + 1)))
    file.seek(0)


def _frame(path, dataset, slice_index: int | None, modality: str | None) -> Scan:
    """What `read_dicom` returns, of a file that has been read."""
    check_grey(path, dataset)
    modality = modality or modality_of(path, dataset)
    index = checked_index(path, slice_index, int(dataset.get("NumberOfFrames") or 1))
    spacing = tag(dataset, index, "PixelSpacing")
    image = grey_values(path, dataset, index, modality)
    return image_scan(path, "dicom", image, None if spacing is None else isotropic(path, spacing), modality)


def modality_of(path, dataset) -> str:
    """ "ct" or "mri".

    Raises:
      InputError: for another modality.
    """
    modality = str(dataset.get("Modality", ""))
    if modality not in ("CT", "MR"):
        raise InputError(path, f"has DICOM modality {modality or 'unknown'!r}; CT or MR is needed")
    return "ct" if modality == "CT" else "mri"


def grey_values(path, dataset, index: int, modality: str):
    """The values `[h, w]` of a frame: HU of CT with air where the file marks padding, those of MONOCHROME1 inverted for MR.

    Raises:
      InputError: where the pixels cannot be decoded.
    """
    stored = _stored(path, dataset, index)
    slope, intercept = tag(dataset, index, "RescaleSlope"), tag(dataset, index, "RescaleIntercept")
    image = stored * float(1 if slope is None else slope) + float(0 if intercept is None else intercept)
    if modality == "ct":
        image = np.where(_padded(dataset, stored), _AIR, image)
    elif dataset.PhotometricInterpretation == "MONOCHROME1":
        image = image.max() + image.min() - image
    return image


def check_grey(path, dataset):
    """See that there is one grey value a pixel.

    Raises:
      InputError: for a file without pixels or of colours.
    """
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        name = getattr(dataset.get("SOPClassUID"), "name", "of unknown class")
        # pydicom reads a file that ends too early as far as it goes.
        cause = ", perhaps truncated" if "Image" in name else ""
        raise InputError(path, f"is a DICOM file without pixels ({name}{cause}); a CT or MR image is needed")
    samples, colour = dataset.get("SamplesPerPixel") or 1, str(dataset.get("PhotometricInterpretation", ""))
    if samples != 1 or not colour.startswith("MONOCHROME"):
        kind = f"a colour image ({colour}, {samples} samples a pixel)" if colour else "an image without PhotometricInterpretation"
        raise InputError(path, f"is {kind}; a grey one is needed")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    checked_size(path, f"a frame of {rows} x {columns} pixels", np.dtype(float).itemsize * rows * columns)


def _stored(path, dataset, index: int):
    """The stored values `[h, w]` of a frame."""
    from pydicom.pixels.utils import pixel_array

    try:
        return np.asarray(pixel_array(dataset, index=index), float)
    except Exception as error:  # each decoder has its own
        syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
        if syntax is not None and syntax.is_compressed:
            message = f"its pixels are compressed as {syntax.name}, which the installed decoders cannot read; uncompressed pixels are needed"
            raise InputError(path, message) from None
        raise InputError(path, f"its pixels are truncated or cannot be read ({reason(error)})") from None


def tag(dataset, index: int, keyword: str):
    """A value of the dataset, or of its functional groups where an enhanced file keeps it; None where there is none."""
    groups = [dataset]
    for name, item in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", index)):
        sequence = dataset.get(name) or []
        if item < len(sequence):
            groups += [element.value[0] for element in sequence[item] if element.VR == "SQ" and element.value]
    values = [group.get(keyword) for group in groups]
    return next((value for value in values if value not in (None, "")), None)


def _padded(dataset, stored):
    """Where a CT image marks that there is nothing; a value told without a sign beside pixels that have one means the same bits."""
    first, last = (dataset.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    if not isinstance(first, int):
        return np.zeros(stored.shape, bool)
    told = [value for value in (first, last) if isinstance(value, int)]
    if (dataset.get("BitsAllocated") or 16) <= 16:
        least = -(2**15) if dataset.get("PixelRepresentation") else 0
        told = [(value - least) % 2**16 + least for value in told]
    return (stored >= min(told)) & (stored <= max(told))


def _identify(dataset, original, storage, description: str):
    """What makes the image a new one, derived from the original."""
    from pydicom import Dataset, uid

    now = datetime.datetime.now()
    dataset.SOPClassUID, dataset.Modality = storage, original.get("Modality") or "OT"
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID = uid.generate_uid(), uid.generate_uid()
    dataset.SeriesDescription = dataset.DerivationDescription = description[:64]
    dataset.SeriesNumber, dataset.InstanceNumber = int(original.get("SeriesNumber") or 0) + 1000, 1
    dataset.SeriesDate = dataset.ContentDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.SeriesTime = dataset.ContentTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.ImageType = ["DERIVED", "SECONDARY", *list(original.get("ImageType") or [])[2:3]]
    if storage == uid.SecondaryCaptureImageStorage:
        dataset.ConversionType = "WSD"
    # Elements that the standard wants to be present, though they may be empty.
    for keyword in ("StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID", "PatientName"):
        if keyword not in dataset:
            setattr(dataset, keyword, uid.generate_uid() if keyword == "StudyInstanceUID" else "")
    for keyword in ("PatientID", "PatientBirthDate", "PatientSex"):
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    if "SOPInstanceUID" in original and "SOPClassUID" in original:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = original.SOPClassUID, original.SOPInstanceUID
        dataset.SourceImageSequence = [reference]


def _place(dataset, original, index: int, size: int, pixel_size: float | None):
    """Pixel spacing, and the position of the first pixel's centre in the patient."""
    height, width = int(original.Rows), int(original.Columns)
    side = max(height, width)
    spacing = tag(original, index, "PixelSpacing")
    if pixel_size:
        dataset.PixelSpacing = [_decimal(pixel_size)] * 2
    thickness = tag(original, index, "SliceThickness")
    if thickness is not None:
        dataset.SliceThickness = thickness
    position, orientation = tag(original, index, "ImagePositionPatient"), tag(original, index, "ImageOrientationPatient")
    if spacing is None or position is None or orientation is None:
        return
    orientation = np.asarray(orientation, float)
    row, column = (side / size / 2 - 0.5 - padding_of(length, side)[0] for length in (height, width))
    moved = np.asarray(position, float) + orientation[:3] * column * float(spacing[1]) + orientation[3:] * row * float(spacing[0])
    dataset.ImagePositionPatient = [_decimal(p) for p in moved]
    dataset.ImageOrientationPatient = [_decimal(o) for o in orientation]


def _set_pixels(dataset, image, ct: bool):
    """int16 pixels with the slope that gives back `image`, and a window to show them."""
    largest = float(np.abs(image).max())
    slope = 1.0 if ct or 1000 <= largest <= 32767 or largest == 0 else largest / 32767
    level, width = (-300.0, 1400.0) if ct else (largest / 2, max(largest, 1e-6))
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = _decimal(slope), _decimal(0), "HU" if ct else "US"
    dataset.WindowCenter, dataset.WindowWidth = _decimal(level), _decimal(width)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = image.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = np.clip(np.rint(image / float(_decimal(slope))), -32768, 32767).astype("<i2").tobytes()


def _decimal(value: float) -> str:
    """A number in the 16 characters that DICOM allows."""
    return f"{value:.10g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.8e}"
