"""A result as a file of the kind that the user brought."""

from pathlib import Path

from medjax.data.dicom import write_dicom
from medjax.data.nifti import write_nifti
from medjax.data.read import kind_of
from medjax.data.scan import InputError
from medjax.report.atomic import write_atomically


def write_like(source, image, path, pixel_size: float | None, description: str, slice_index: int | None = None) -> Path:
    """Write an image that came of a slice of `source` by `fit` and a reconstruction, at the same place in the patient.

    Args:
      source: DICOM or NIfTI file that was read.
      image: `[size, size]` real, [HU] for CT.
      path: file to write, `.dcm` or `.nii.gz`; appears whole or not at all.
      pixel_size: [mm], None where unknown. A NIfTI file takes its own from the affine of the source.
      description: what the image is, in at most 64 characters.
      slice_index: as it was given to `read`.

    Returns:
      The path.

    Raises:
      InputError: where the source is of another kind.
      ValueError: where the image is not square.
    """
    if image.ndim != 2 or image.shape[0] != image.shape[1]:
        raise ValueError(f"got an image of shape {list(image.shape)}, [size, size] is needed")
    kind = kind_of(source)
    if kind not in ("dicom", "nifti"):
        raise InputError(source, f"is {kind}; results are written like DICOM or NIfTI files only")
    with write_atomically(path) as temporary:
        if kind == "dicom":
            write_dicom(source, image, temporary, pixel_size, description, slice_index)
        else:
            write_nifti(source, image, temporary, description, slice_index)
    return Path(path)
