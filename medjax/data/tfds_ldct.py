"""LDCT-and-Projection-data: CT of the head, chest and abdomen at full dose, and as simulated at 10 % (chest) or 25 % of it.

Images are the series whose SeriesDescription is "Full Dose Images" and "Low Dose Images", in either case of letters. Patients scanned by machines of
GE have no low-dose images and are left out. The first letter of a patient is C (chest), L (liver: abdomen) or N (head).
"""

import functools
from pathlib import Path

import numpy as np

from medjax.data.scan import InputError
from medjax.data.tfds_builder import Group, Source, built, by_part, ct_series, dicom_folders, hounsfield_slice, image_feature, needed

_DESCRIPTION = """Pairs of axial slices of CT: image (full dose) and low_dose [HU], spacing between slices, rows and columns [mm], exam (chest,
abdomen or head), patient (the pseudonym of TCIA) and slice from 0."""
_INSTRUCTIONS = """Fetch the series "Full Dose Images" and "Low Dose Images" (the projections are not needed) of the collection
LDCT-and-Projection-data from https://www.cancerimagingarchive.net/collection/ldct-and-projection-data/ with the NBIA Data Retriever; access is given
after a licence agreement. The folder given must hold LDCT-and-Projection-data/PATIENT/STUDY/SERIES/ with the .dcm files of a series, as the
retriever leaves them; PATIENT is C, L or N and three digits."""
_CITATION = """Moen TR et al. (2021), Low-dose CT image and projection dataset, Medical Physics 48, 902-911, https://doi.org/10.1002/mp.14594; data:
McCollough C et al. (2020), https://doi.org/10.7937/9npb-2637"""
_EXAMS = {"C": "chest", "L": "abdomen", "N": "head"}
_DOSES = ("full dose images", "low dose images")
_TOLERANCE = 1e-2  # [mm]


def builder(data_dir):
    """The builder of LDCT-and-Projection-data; 80 % of the patients are for training, 10 % each to validate and test."""
    homepage = "https://www.cancerimagingarchive.net/collection/ldct-and-projection-data/"
    return built(Source("ldct", _DESCRIPTION, homepage, _CITATION, _INSTRUCTIONS, _features, _groups), data_dir)


def _features(tfds):
    """What an example holds."""
    return {
        "image": image_feature(tfds, np.int16),
        "low_dose": image_feature(tfds, np.int16),
        "spacing": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        "exam": tfds.features.ClassLabel(names=list(_EXAMS.values())),
        "patient": tfds.features.Text(),
        "slice": tfds.features.Scalar(np.int32),
    }


def _groups(folder: Path):
    """part -> patient -> Group."""
    root, groups = needed(folder / "LDCT-and-Projection-data", _INSTRUCTIONS), {}
    for patient in sorted(root.glob("[CLN][0-9][0-9][0-9]")):
        series = {}
        for _, described, paths in dicom_folders(patient, "SeriesDescription"):
            dose = described.lower()
            if dose in _DOSES:
                if dose in series:
                    raise InputError(patient, f"holds two series of {dose}; one is needed")
                series[dose] = paths
        if len(series) == len(_DOSES):
            pair = [series[dose] for dose in _DOSES]
            groups[patient.name] = Group(tuple(path for paths in pair for path in paths), functools.partial(_examples, patient.name, *pair))
    if not groups:
        raise InputError(root, f"holds no patient with images of both doses; what is needed: {_INSTRUCTIONS}")
    return by_part(groups)


def _examples(patient, full, low):
    """All pairs of slices of a patient, in the order of `Series.slices`."""
    (full, _, spacing), (low, _, other_spacing) = ct_series(full), ct_series(low)
    if full.shape != low.shape or not np.allclose(spacing[1:], other_spacing[1:], rtol=1e-4, atol=0):
        found = f"{list(low.shape)} voxels, pixels of {other_spacing[1]:g} mm, that of full dose {list(full.shape)}, of {spacing[1]:g} mm"
        raise InputError(low.slices[0][0].parent, f"has {found}; the same grid is needed")
    for index, (one, other) in enumerate(zip(full.positions, low.positions, strict=True)):
        if abs(one - other) > _TOLERANCE:
            raise InputError(low.slices[index][0], f"lies at {other:g} mm, its pair of full dose at {one:g} mm; the same place is needed")
        beside = {"spacing": spacing, "exam": _EXAMS[patient[0]], "patient": patient, "slice": index}
        yield f"{patient}_{index:04d}", {"image": hounsfield_slice(full, index), "low_dose": hounsfield_slice(low, index), **beside}
