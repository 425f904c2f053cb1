"""Images and measured data from numpy's own files; nothing is ever unpickled."""

import math
import os
import zipfile

import numpy as np

from medjax.data.declared import checked_size, opened
from medjax.data.scan import MODALITIES, InputError, Scan, checked_numbers, checked_slice, image_scan, isotropic, reason, single

_KEYS = "`image`, or `sinogram` and `angles`, or `kspace`"


def read_npy(path, modality: str | None = None) -> Scan:
    """An image `[h, w]` of a `.npy` file: complex is MRI, real is CT where any value is below -200, unless `modality` says."""
    return image_scan(path, "npy", load_arrays(path), None, modality)


def read_npz(path, modality: str | None = None) -> Scan:
    """An image or measured data of a `.npz` file.

    Keys: `image` `[h, w]`; or `sinogram` `[views, detectors]` (-log of transmission) and `angles` `[views]` [rad] with `detector_spacing` or
    `pixel_size` [mm] (without the first it is as the second, without the second the image spans the detector) and, if wished, `image_size`,
    `num_photons`, `detector_offset` [mm] (else the experiment's);
    or `kspace` `[h, w]`, zero frequency in the centre, with `mask` `[h, w]` (else where `kspace` is not zero) and `sigma`, the standard
    deviation of the noise of each component in the unit of `kspace` (else the experiment's, relative to the image).
    `pixel_size` [mm] and `modality` ("ct", "mri") may stand beside each.
    """
    found = load_arrays(path)
    if isinstance(found, np.ndarray):
        raise InputError(path, "is a single array; rename it to .npy")
    modality = modality or (str(found["modality"]) if "modality" in found else None)
    if modality not in (None, *MODALITIES):
        raise InputError(path, f"modality is {modality!r}; one of {', '.join(MODALITIES)} is needed")
    if "image" in found:
        return image_scan(path, "npz", found["image"], _pixel_size(path, found), modality)
    if "sinogram" in found and "angles" in found:
        return _sinogram(path, found, modality)
    if "kspace" in found:
        return _kspace(path, found, modality)
    raise InputError(path, f"holds the keys {sorted(found)}; {_KEYS} are needed")


def load_arrays(path):
    """The array of a `.npy`, or all arrays of a `.npz` by name.

    Raises:
      InputError: where it is missing or damaged, holds Python objects, or declares more than such a file can hold.
    """
    try:
        with opened(path) as file:
            _check_sizes(path, file)
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            return {name: array for name in found.files if isinstance(array := found[name], np.ndarray)}
    except InputError:
        raise
    except Exception as error:  # a parser of damaged bytes raises anything
        if "allow_pickle" in str(error) and _may_hold_objects(path):
            raise InputError(path, "holds no plain numpy array but Python objects (pickle), which are never loaded; numbers are needed") from None
        raise InputError(path, f"is truncated or not a numpy file ({'unknown content' if 'allow_pickle' in str(error) else reason(error)})") from None


def _check_sizes(path, file):
    """See that arrays are no larger than what holds them, before numpy makes room for them; the file is left at its start."""
    if file.read(2) == b"PK":
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
                raise InputError(path, "is packed as numpy never does; stored or deflated arrays are needed")
            checked_size(path, "all of its arrays", sum(entry.file_size for entry in entries))
            for entry in entries:
                with archive.open(entry) as stream:
                    _check_header(path, entry.filename, stream, entry.file_size)
    else:
        file.seek(0)
        _check_header(path, "the array", file, os.fstat(file.fileno()).st_size)
    file.seek(0)


def _check_header(path, what, stream, length):
    """See that an array is no larger than the bytes that hold it; what is none is left to numpy."""
    if stream.read(6) != b"\x93NUMPY":
        return
    version = tuple(stream.read(2))
    if version not in ((1, 0), (2, 0)):
        raise InputError(path, f"{what} is of version {version} of numpy's format; an array of plain numbers is needed")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if not dtype.hasobject and (min(shape, default=0) < 0 or dtype.itemsize * math.prod(shape) > length):
        raise InputError(path, f"{what} has only {length} bytes, truncated or with a header that tells more than they hold")


def _may_hold_objects(path) -> bool:
    """Whether a file that numpy would unpickle is of Python's or numpy's own making; it takes any other for a pickle, too."""
    with open(path, "rb") as file:
        start = file.read(2)
    return start in (b"\x93N", b"PK") or start[:1] == b"\x80"


def _pixel_size(path, found) -> float | None:
    """The key `pixel_size` [mm], if it is there."""
    return isotropic(path, checked_numbers(path, "pixel_size", found["pixel_size"], "iuf")) if "pixel_size" in found else None


def _number(path, found, name: str) -> float:
    """One number stored under `name`."""
    value = checked_numbers(path, name, found[name], "iuf")
    if value.size != 1:
        raise InputError(path, f"{name} has shape {list(value.shape)}; one number is needed")
    return float(value.reshape(()))


def _sinogram(path, found, modality) -> Scan:
    """Measured line integrals with their geometry."""
    if modality == "mri":
        raise InputError(path, "holds a sinogram; its modality is 'ct', not 'mri'")
    sinogram = checked_numbers(path, "sinogram", found["sinogram"], "iuf")
    angles = checked_numbers(path, "angles", found["angles"], "iuf")
    if sinogram.ndim != 2 or angles.ndim != 1:
        shapes = f"sinogram has shape {list(sinogram.shape)} and angles {list(angles.shape)}"
        raise InputError(path, f"{shapes}; [views, detectors] and [views] are needed")
    if sinogram.shape[1] == 0:
        raise InputError(path, "sinogram has no detectors; [views, detectors] are needed")
    if len(angles) == 0 or len(sinogram) == 0:
        raise InputError(path, f"has {len(sinogram)} views and {len(angles)} angles; at least one view is needed")
    if len(sinogram) != len(angles):
        raise InputError(path, f"sinogram has {len(sinogram)} rows but there are {len(angles)} angles; one row a view is needed")
    if np.abs(angles).max() > 4 * np.pi:
        raise InputError(path, f"angles reach {np.abs(angles).max():.4g}; radians are needed, these look like degrees")
    geometry = {"angles": angles.astype(np.float32), **_lengths(path, found)}
    return Scan("ct", None, geometry.get("pixel_size"), single(path, "sinogram", sinogram), geometry, (str(path), "npz"))


def _lengths(path, found) -> dict:
    """The numbers of a sinogram's geometry."""
    names = ("detector_spacing", "pixel_size", "image_size", "num_photons", "detector_offset")
    numbers = {name: _number(path, found, name) for name in names if name in found}
    for name, value in numbers.items():
        if value <= 0 and name != "detector_offset":
            raise InputError(path, f"{name} is {value:g}; a positive number is needed")
    if "detector_spacing" not in numbers and "pixel_size" not in numbers:
        raise InputError(path, "tells no length; `detector_spacing` or `pixel_size` [mm] is needed beside `sinogram`, for HU depend on it")
    if "detector_spacing" not in numbers:
        numbers["detector_spacing"] = numbers["pixel_size"]
    if "image_size" in numbers:
        if numbers["image_size"] % 1:
            raise InputError(path, f"image_size is {numbers['image_size']:g}; a whole number of pixels is needed")
        numbers["image_size"] = int(numbers["image_size"])
    return numbers


def _kspace(path, found, modality) -> Scan:
    """Measured k-space with its mask."""
    if modality == "ct":
        raise InputError(path, "holds k-space; its modality is 'mri', not 'ct'")
    kspace = checked_slice(path, "kspace", found["kspace"]).astype(np.complex64)
    mask = checked_numbers(path, "mask", found["mask"], "biuf") if "mask" in found else kspace
    if mask.shape != kspace.shape:
        raise InputError(path, f"kspace has shape {list(kspace.shape)} but mask {list(mask.shape)}; the same shape is needed")
    mask = (mask != 0).astype(np.float32)
    if not mask.any():
        raise InputError(path, "mask samples nothing; at least one measured value is needed")
    geometry = {"mask": mask}
    if "sigma" in found:
        geometry["sigma"] = _number(path, found, "sigma")
        if geometry["sigma"] <= 0:
            raise InputError(path, f"sigma is {geometry['sigma']:g}; a positive standard deviation is needed")
    return Scan("mri", None, _pixel_size(path, found), kspace, geometry, (str(path), "npz"))
