"""What a file or folder holds, whatever its format: python -m medjax.data.inspect PATH [--output SHEET.png].

Tells kinds, shapes, types, ranges of values, spacing, the series of a folder, and what was left out and why; the sheet shows some of the images.
Nothing is said of patients beyond the names that the user's files and arrays have; what is burnt into pixels is on the sheet.
"""

import argparse
import collections
import math
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medjax.data.arrays import load_arrays
from medjax.data.chest_xray import FINDINGS, NIH, NONE, SUFFIXES, grey, rows_of
from medjax.data.declared import LARGEST, checked_pixels, checked_size
from medjax.data.dicom_series import listed, series_slice
from medjax.data.fastmri import fastmri
from medjax.data.fit import fit, square_pixels
from medjax.data.hdf5_slices import check_data_set, num_slices, open_hdf5
from medjax.data.lodopab import IMAGE_SIZE, NUM_DETECTORS, NUM_VIEWS
from medjax.data.nifti import nifti_shape, nifti_slice
from medjax.data.scan import SMALLEST, InputError, reason
from medjax.data.stacks import check_chunks, open_arrays
from medjax.report.figure import sheet

_KINDS = {
    **{".npy": "NumPy", ".npz": "NumPy", ".nii": "NIfTI", ".nii.gz": "NIfTI", ".h5": "HDF5", ".hdf5": "HDF5", ".zarr": "zarr", ".dcm": "DICOM"},
    **dict.fromkeys(SUFFIXES, "picture"),
    ".csv": "table",
}
_NEEDED = "an image, a volume, arrays, raw data or a folder of such is needed"
_SHOWN, _SIDE, _READ, _FROM_EACH = 16, 192, 64, 5


class Told(NamedTuple):
    """What is told of a file or folder.

    lines: in words.
    images: some of its images, `[h, w]` real, of square pixels where their size is told.
    """

    lines: list[str]
    images: list[np.ndarray]


def inspect(path) -> Told:
    """What a file or folder holds.

    Args:
      path: `.npy`, `.npz`, `.zarr`, `.nii`, `.nii.gz`, `.h5` or `.hdf5`, DICOM of any name, a picture, a table of NIH ChestX-ray14, or a folder of
        such. Of more than 64 files of a kind other than DICOM some are read, at equal distances.

    Returns:
      `Told`.

    Raises:
      InputError: where it is missing, of no known kind, or a file that is damaged.
    """
    path = Path(path)
    if path.is_dir() and path.suffix != ".zarr":
        return _folder(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(path, "is neither file nor folder; one of them is needed")
    if not path.exists():
        raise InputError(path, f"no such file or folder; {_NEEDED}")
    kind = _kind(path)
    if kind == "unknown":
        raise InputError(path, f"is of unknown kind; {_NEEDED}")
    return _READERS[kind](path)


def draw(path, images) -> None:
    """Write a sheet of up to 16 of the images as PNG: in a window of HU where all are CT (values below -200), else each in its own.

    Raises:
      OSError: where the file cannot be written.
    """
    shown = [np.asarray(images[i], np.float32) for i in _spread(len(images), _SHOWN)]
    hounsfield = all(image.min() < -200 for image in shown)
    if not hounsfield:
        shown = [(image - image.min()) / (np.percentile(image, 99.5) - image.min() or 1) for image in shown]
    fitted = [fit(image, _SIDE, image.min())[0] for image in shown]
    sheet(path, np.clip(fitted, -1000 if hounsfield else 0, None), None if hounsfield else (0.0, 1.0), "HU" if hounsfield else "")


def main(arguments) -> int:
    """Print what the path of the command line holds; 2 after one line on stderr for bad input."""
    parser = argparse.ArgumentParser("python -m medjax.data.inspect", description="Tell what a file or folder holds.", exit_on_error=False)
    parser.add_argument("path", nargs="?", help="file or folder")
    parser.add_argument("--output", help="PNG file for some of the images")
    try:
        options, unknown = parser.parse_known_args(arguments)
        if unknown or not options.path:
            raise ValueError(f"got {' '.join(arguments) or 'nothing'}; PATH [--output SHEET.png] is needed")
        found = inspect(options.path)
        print("\n".join(found.lines))
        if options.output and not found.images:
            raise InputError(options.path, "holds no images to draw")
        if options.output:
            draw(options.output, found.images)
    except (ValueError, OSError, argparse.ArgumentError) as error:
        print(f"inspect: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _kind(path) -> str:
    """The kind of a file, by its name or by the marks of DICOM and HDF5."""
    name = path.name.lower()
    kind = next((kind for suffix, kind in _KINDS.items() if name.endswith(suffix)), None)
    if kind is None and path.is_file():
        with path.open("rb") as file:
            start = file.read(132)
        kind = "DICOM" if start[128:] == b"DICM" else "HDF5" if start[:8] == b"\x89HDF\r\n\x1a\n" else None
    return kind or "unknown"


def _folder(folder) -> Told:
    """All kinds that a folder holds, DICOM by series, others by file."""
    stores = {path for path in folder.rglob("*.zarr") if path.is_dir()}
    paths = [path for path in folder.rglob("*") if path.is_file() and not stores & set(path.parents)]
    kinds = collections.defaultdict(list)
    for path in sorted({*stores, *paths}):
        kinds[_kind(path)].append(path)
    if not set(kinds) - {"unknown"}:
        raise InputError(folder, f"holds {len(kinds['unknown'])} files of unknown kind and no others; {_NEEDED}")
    lines, images = [f"a folder of files: {', '.join(f'{len(kinds[kind])} {kind}' for kind in sorted(kinds))}"], []
    if "DICOM" in kinds:
        others = {str(path.relative_to(folder)) for kind in set(kinds) - {"DICOM", "unknown"} for path in kinds[kind]}
        found = _dicom(folder, others)
        lines, images = lines + found.lines, images + found.images
    for kind in sorted(set(kinds) - {"DICOM", "unknown"}):
        chosen = [kinds[kind][i] for i in _spread(len(kinds[kind]), _READ)]
        lines += [f"{len(chosen)} of {len(kinds[kind])} {kind} files are read"] * (len(chosen) < len(kinds[kind]))
        for path in chosen:
            try:
                found = _READERS[kind](path)
            except InputError as error:
                lines.append(f"left out: {str(error).removeprefix(f'{folder}/')}")
                continue
            lines += [f"{path.relative_to(folder)}: {line}" for line in found.lines]
            images += found.images
    return Told(lines, images)


def _dicom(path, others=()) -> Told:
    """The series of a file or folder; `others` are files that other readers tell of."""
    found, images = listed(path), []
    left_out = [line for line in found.skipped if line.split(": ")[0] not in others]
    if not found.series and Path(path).is_file():
        raise InputError(path, f"holds no slices of CT or MR ({left_out[0].removeprefix(f'{path}: ')})")
    num = len({one.patient for one in found.series})
    lines = [f"DICOM: {len(found.series)} series of CT or MR, {num} patients" if Path(path).is_dir() else "DICOM"]
    for number, one in enumerate(found.series):
        values = []
        for i in _spread(one.shape[0], _FROM_EACH):
            try:
                values.append(series_slice(one, i))
            except InputError as error:
                left_out.append(str(error).removeprefix(f"{path}/"))
        images += [square_pixels(image, one.spacing[1:])[0] for image in values]
        unit = "HU" if one.modality == "ct" else "a.u."
        spacing = " x ".join("?" if side is None else f"{side:.4g}" for side in one.spacing)
        size = f"{one.shape[0]} slices of {one.shape[1]} x {one.shape[2]}, {spacing} mm"
        lines.append(f"series {number}: {one.modality}, {size}, patient {one.patient}, {_range(values)} {unit} in {len(values)} of them")
        lines += [f"series {number}: {remark}" for remark in one.remarks]
    return Told(lines + [f"left out: {line}" for line in left_out], images)


def _arrays(path) -> Told:
    """The arrays of `.npy`, `.npz` and `.zarr`."""
    found = open_arrays(path) if path.suffix == ".zarr" else load_arrays(path)
    found = {"array": found} if isinstance(found, np.ndarray) else found
    told = [_array(path, name, array) for name, array in sorted(found.items())]
    told += [(line, []) for array in found.values() for line in _lost(array)]
    return Told([line for line, _ in told] or ["no arrays"], [image for _, images in told for image in images])


def _lost(array) -> list[str]:
    """What is missing of an array of zarr, a line or none."""
    try:
        check_chunks(array)
    except InputError as error:
        return [str(error).removeprefix(f"{array.path}: ")]
    return []


def _array(path, name, array) -> tuple[str, list[np.ndarray]]:
    """A line and some images of an array, of which a few entries of the first axis are read."""
    line = f"{name}: {array.dtype} {list(array.shape)}"
    if array.dtype.kind not in "biufc" or 0 in array.shape:
        return line, []
    stack = len(array.shape) > 2
    size = 8 * math.prod(array.shape[1:] if stack else array.shape)
    checked_size(path, f"{'an entry of ' if stack else ''}{name}, {array.dtype} {list(array.shape)},", size)
    chosen = _spread(array.shape[0], max(1, min(_FROM_EACH, LARGEST // size))) if stack else []
    values = [np.asarray(array[i]) for i in chosen] if stack else [np.asarray(array[...])]
    images = [image for each in values if (image := _plane(each)) is not None]
    return f"{line}, {_range(values)}" + (f" in {len(values)} of {array.shape[0]}" if stack else ""), images


def _plane(values):
    """An image `[h, w]`: the first channel of the last axis if that is short, else the first entry of the first axes; None of what is none."""
    values = np.abs(values) if values.dtype.kind == "c" else values
    if values.ndim > 2 and values.shape[-1] <= 4:
        values = values[..., 0]
    while values.ndim > 2:
        values = values[0]
    if values.ndim < 2 or min(values.shape) < SMALLEST:
        return None
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    return values if np.isfinite(values).all() else None


def _nifti(path) -> Told:
    """A volume, as its affine turns it."""
    shape = nifti_shape(path)
    image, sizes = nifti_slice(path, shape[2] // 2, 2)
    checked_pixels(path, image.shape, sizes)
    across = nifti_slice(path, shape[0] // 2, 0)[1][0]
    images = [_plane(nifti_slice(path, i, 2)[0]) for i in _spread(shape[2], _FROM_EACH)]
    spacing = " x ".join(f"{side:.4g}" for side in (across, *sizes))
    line = f"NIfTI: {shape[2]} axial slices of {shape[1]} x {shape[0]}, {spacing} mm, {image.dtype}, {_range([image])} in the middle one"
    return Told([line], [square_pixels(image, sizes)[0] for image in images if image is not None])


def _hdf5(path) -> Told:
    """fastMRI, LoDoPaB-CT, or data sets of any other file."""
    import h5py

    lines, images = [], []

    def add(name, stored):
        if isinstance(stored, h5py.Dataset):
            check_data_set(path, stored, stored.shape[1:] if len(stored.shape) > 2 else stored.shape)
            line, found = _array(path, name, stored)
            lines.append(line)
            images.extend(found if sum(image.nbytes for image in images) < LARGEST else [])

    with open_hdf5(path) as file:
        fast = {"kspace", "ismrmrd_header"} <= set(file)
        raw = any(isinstance(group, h5py.Group) and {"xml", "data"} <= set(group) for group in file.values())
        data = file.get("data")
        sizes = tuple(data.shape[1:]) if isinstance(data, h5py.Dataset) else ()
        file.visititems(add)
    pieces: dict[tuple, str] = {(IMAGE_SIZE, IMAGE_SIZE): "images of LoDoPaB-CT", (NUM_VIEWS, NUM_DETECTORS): "sinograms of LoDoPaB-CT"}
    kind = "a volume of fastMRI" if fast else "raw data of ISMRMRD" if raw else pieces.get(sizes, "data sets")
    if fast:
        images = [_fastmri_image(path)]
    return Told([f"HDF5, {kind}", *lines], images)


def _fastmri_image(path):
    """The root of the sum of squares over the coils of the middle slice, cropped to its reconstruction."""
    found = fastmri(path, num_slices(path, "kspace") // 2)
    coils = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(found.kspace, (-2, -1)), norm="ortho"), (-2, -1))
    image = np.abs(coils) if coils.ndim == 2 else np.sqrt(np.sum(np.abs(coils) ** 2, 0))
    top, left = (max(0, (full - size) // 2) for full, size in zip(image.shape, found.recon_size, strict=True))
    return image[top : top + found.recon_size[0], left : left + found.recon_size[1]]


def _picture(path) -> Told:
    """A PNG or JPEG image."""
    image = grey(path)
    return Told([f"picture of {image.shape[0]} x {image.shape[1]}, {_range([image])} of 1"], [image])


def _table(path) -> Told:
    """Counts of a table; names of columns that are none of NIH's are not told, for without a heading they would be of the first patient."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            columns = file.readline().strip().split(",")
            num = sum(1 for _ in file)
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(path, f"is no table of text ({reason(error)})") from None
    if not set(NIH[:3]) <= set(columns):
        return Told([f"table of {num} rows and {len(columns)} columns, not those of NIH ChestX-ray14"], [])
    rows = rows_of(path)
    counts = collections.Counter(finding.strip() for _, _, found in rows for finding in found)
    told = ", ".join(f"{counts[name]} {name}" for name in (NONE, *FINDINGS) if counts[name])
    return Told([f"table in the layout of NIH ChestX-ray14: {len(rows)} images of {len({patient for _, patient, _ in rows})} patients; {told}"], [])


def _range(values) -> str:
    """The least and largest number of arrays, magnitudes of complex ones, and how many are none."""
    values = [np.abs(each) if each.dtype.kind == "c" else each for each in values]
    finite = [each[np.isfinite(each)] for each in values]
    bad = sum(each.size for each in values) - sum(each.size for each in finite)
    ends = [float(end) for each in finite if each.size for end in (each.min(), each.max())]
    return (f"{min(ends):.4g} to {max(ends):.4g}" if ends else "no values") + (f", {bad} NaN or infinite" if bad else "")


def _spread(num: int, most: int) -> list[int]:
    """Up to `most` of `num` indices at equal distances, the middle of each."""
    return sorted({int((i + 0.5) * num / min(num, most)) for i in range(min(num, most))})


_READERS = {"DICOM": _dicom, "NumPy": _arrays, "zarr": _arrays, "NIfTI": _nifti, "HDF5": _hdf5, "picture": _picture, "table": _table}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
