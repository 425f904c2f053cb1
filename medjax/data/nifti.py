"""One slice of a NIfTI volume, turned as a radiologist sees it, and back with its place in the world kept.

A volume is taken in nibabel's closest canonical order: axes to the patient's right, anterior, superior. The slice shows the patient's right on
the left and anterior (of a coronal or sagittal slice: superior) at the top. It is axial, unless the volume is one slice of another plane.
"""

import gzip
import math
from pathlib import Path

import numpy as np

from medjax.data.declared import LONGEST, checked_size, opened
from medjax.data.fit import padding_of
from medjax.data.scan import InputError, Scan, checked_index, checked_numbers, image_scan, isotropic, reason, single

_DEFLATED = 1032  # how many bytes one deflated byte can stand for
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}


def read_nifti(path, slice_index: int | None = None, modality: str | None = None) -> Scan:
    """A slice of a `.nii` or `.nii.gz` file of rank 2 or 3."""
    image, sizes = nifti_slice(path, slice_index)
    return image_scan(path, "nifti", image, isotropic(path, sizes[::-1]), modality)


def nifti_slice(path, slice_index: int | None = None, axis: int | None = None):
    """A slice across an axis of the canonical order, and its pixels.

    Args:
      path: `.nii` or `.nii.gz` file of rank 2 or 3.
      slice_index: from the patient's left, posterior or inferior; by default the middle one.
      axis: 0, 1 or 2 for sagittal, coronal or axial slices; by default axial, or across the only axis of length 1.

    Returns:
      The image `[h, w]` as it is stored, and (h, w) of a pixel [mm].

    Raises:
      InputError: for a damaged file, or one without such a slice.
    """
    slab, across = _slab(path, slice_index, axis)
    sizes = _unit(slab) * np.delete(np.linalg.norm(slab.affine[:3, :3], axis=0), across)
    return np.squeeze(_voxels(path, slab), across)[::-1, ::-1].T, sizes[::-1]


def nifti_volume(path) -> tuple[np.ndarray, np.ndarray]:
    """A volume whole.

    Returns:
      `[x, y, z]` float32 towards the patient's right, anterior and superior, and its spacings `[3]` [mm].

    Raises:
      InputError: for a damaged file, or one of anything but real, finite numbers.
    """
    import nibabel

    volume, _ = _opened(path)
    each = max(volume.header.get_data_dtype().itemsize, np.dtype(np.float32).itemsize)
    checked_size(path, f"a volume of shape {list(volume.shape)}", each * math.prod(volume.shape))
    try:
        volume = nibabel.as_closest_canonical(volume)
    except Exception as error:  # a parser of damaged bytes raises anything
        raise InputError(path, f"is truncated ({reason(error)})") from None
    voxels = single(path, "volume", checked_numbers(path, "volume", _voxels(path, volume), "iuf"))
    return voxels, (_unit(volume) * np.linalg.norm(volume.affine[:3, :3], axis=0)).astype(np.float32)


def nifti_shape(path) -> tuple[int, int, int]:
    """The numbers of voxels along the axes of the canonical order.

    Raises:
      InputError: as `nifti_slice`.
    """
    volume, order = _opened(path)
    lengths = dict(zip(order[:, 0].astype(int), volume.shape, strict=True))
    return lengths[0], lengths[1], lengths[2]


def write_nifti(source, image, path, description: str, slice_index: int | None = None):
    """Write `image` `[size, size]`, fitted from the slice of `source`, with the affine that puts it there in the world."""
    import nibabel

    slab, axis = _slab(source, slice_index)
    size, side = image.shape[0], max(np.delete(slab.shape, axis))
    factor = side / size
    # Voxel centres: i of the new grid lies at factor (i + 1/2) - 1/2 of the padded old one, whose padding at the end comes first, for `read` flips.
    place = np.eye(4)
    for d in (d for d in range(3) if d != axis):
        place[d, d] = factor
        place[d, 3] = factor / 2 - 0.5 - padding_of(slab.shape[d], side)[1]
    affine = slab.affine @ place
    header = slab.header.copy()
    header.set_data_dtype(np.float32)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    header["descrip"] = description.encode("ascii", "replace")[:79]
    voxels = np.expand_dims(np.asarray(image, np.float32).T[::-1, ::-1], axis)
    result = type(slab)(voxels, affine, header)
    # A file without a code would lose its affine on reading: 1 says scanner coordinates.
    result.set_sform(affine, int(header["sform_code"]) or 1)
    result.set_qform(affine, int(header["qform_code"]))
    nibabel.save(result, path)


def _unit(volume) -> float:
    """The unit of length of an image [mm]."""
    return _MILLIMETRES.get(volume.header.get_xyzt_units()[0], 1.0)


def _opened(path):
    """The volume with three axes, none of its voxels read yet, and nibabel's order of its axes."""
    import nibabel

    try:
        _check_extensions(path)
        volume = nibabel.load(path)
        volume.header.get_xyzt_units()  # pyright: ignore[reportAttributeAccessIssue]
        _check_voxels(path, volume)
        volume = nibabel.squeeze_image(volume)
    except InputError:
        raise
    except Exception as error:  # a parser of damaged bytes raises anything
        raise InputError(path, f"is truncated or not a NIfTI file ({reason(error)})") from None
    if not isinstance(volume, nibabel.Nifti1Image):
        raise InputError(path, f"is a {type(volume).__name__}; NIfTI is needed")
    if volume.ndim not in (2, 3):
        raise InputError(path, f"has shape {list(volume.shape)}; a volume [x, y, z] or a slice [x, y] is needed")
    if volume.ndim == 2:
        volume = type(volume)(_voxels(path, volume)[..., None], volume.affine, volume.header)
    finite = np.isfinite(volume.affine).all() and np.abs(volume.affine).max() < LONGEST
    order = nibabel.io_orientation(volume.affine) if finite else np.array(np.nan)
    if np.isnan(order).any():
        raise InputError(path, "has an affine that is not invertible; voxel axes with a direction are needed")
    return volume, order


def _check_extensions(path):
    """See that what lies between the header and the voxels is as long as it tells; nibabel asks for each of these pieces at once."""
    import nibabel

    packed = Path(path).name.lower().endswith(".gz")
    with opened(path) as raw, gzip.GzipFile(fileobj=raw) if packed else raw as file:
        start = file.read(544)
        first, second = start[344:347] in (b"n+1", b"ni1"), start[4:7] in (b"n+2", b"ni2")
        if not (first or second):
            return
        second = not first
        header = (nibabel.Nifti2Header if second else nibabel.Nifti1Header)(start[: 540 if second else 348], check=False)
        place, end = (544 if second else 352), float(header["vox_offset"])
        if len(start) < place or not end > place or not start[place - 4]:
            return
        checked_size(path, "what precedes its voxels", min(int(min(end, 1e300)), 2**63))
        pieces, order = (start + file.read(max(0, int(end) - len(start))))[place : int(end)], "little" if header.endianness == "<" else "big"
    while len(pieces) >= 8:
        size = int.from_bytes(pieces[:4], order, signed=True)
        if not 8 < size <= len(pieces):
            raise InputError(path, f"has an extension of {size} bytes where {len(pieces)} are left; a NIfTI file that is whole is needed")
        pieces = pieces[size:]


def _check_voxels(path, volume):
    """See that the file can hold its voxels, and that a slice of them is not out of proportion to it."""
    shape, size = volume.shape, volume.get_data_dtype().itemsize
    if min(shape, default=0) < 1:
        raise InputError(path, f"has shape {list(shape)}; at least one voxel along each axis is needed")
    length = Path(path).stat().st_size * (_DEFLATED if Path(path).name.lower().endswith(".gz") else 1)
    if size * math.prod(shape) > length:
        raise InputError(path, f"has shape {list(shape)}, truncated or with a header that tells more voxels than the file can hold")
    largest = math.prod(shape) if len(shape) != 3 else math.prod(shape) // min(shape)
    checked_size(path, f"a slice of a volume of shape {list(shape)}", max(size, np.dtype(float).itemsize) * largest)


def _slab(path, slice_index, chosen: int | None = None):
    """The canonical image of one slice, and the axis across it, of length 1; only this slice is read."""
    import nibabel

    volume, order = _opened(path)
    lengths = dict(zip(order[:, 0].astype(int), volume.shape, strict=True))
    single = [axis for axis, length in lengths.items() if length == 1]
    axis = chosen if chosen is not None else single[0] if len(single) == 1 else 2
    index = checked_index(path, slice_index, lengths[axis])
    stored = int(np.argmax(order[:, 0] == axis))
    index = index if order[stored, 1] > 0 else lengths[axis] - 1 - index
    window = tuple(slice(index, index + 1) if d == stored else slice(None) for d in range(3))
    try:
        return nibabel.as_closest_canonical(volume.slicer[window]), axis
    except Exception as error:  # a parser of damaged bytes raises anything
        raise InputError(path, f"is truncated ({reason(error)})") from None


def _voxels(path, image):
    """The scaled values of an image."""
    try:
        return np.asanyarray(image.dataobj)
    except Exception as error:  # a parser of damaged bytes raises anything
        raise InputError(path, f"is truncated or its voxels cannot be read ({reason(error)})") from None
