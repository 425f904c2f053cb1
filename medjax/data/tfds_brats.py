"""BraTS: gliomas in MRI of four contrasts, skull-stripped, on a common grid of 1 mm, with the tumour segmented.

A case is a folder of its name with one NIfTI file a contrast: `CASE_t1`, `CASE_t1ce`, `CASE_t2`, `CASE_flair` and `CASE_seg` until 2021
(`BraTS20_Training_001`, `BraTS2021_00000`), `CASE-t1n`, `CASE-t1c`, `CASE-t2w`, `CASE-t2f` and `CASE-seg` from 2023 on (`BraTS-GLI-00000-000`, the
last three digits being the time point of a patient). Until 2021 the enhancing tumour has the label 4, from 2023 on 3.
"""

import functools
from pathlib import Path

import numpy as np

from medjax.data.nifti import nifti_volume
from medjax.data.scan import InputError
from medjax.data.tfds_builder import Group, Source, built, by_part, image_feature, plane, plane_spacing

_DESCRIPTION = """Axial slices of MRI: t1, t1ce (with contrast agent), t2 and flair [a.u.], the largest value of the volume of each (t1_max, ...),
seg (0 none, 1 necrotic or non-enhancing core, 2 oedema, 3 enhancing tumour), spacing between slices, rows and columns [mm], patient and case (the
pseudonyms of BraTS) and slice from 0. Slices that are 0 in all contrasts are left out."""
_INSTRUCTIONS = """Fetch the training data (with segmentations) of one BraTS challenge: 2020 by registration at
https://www.med.upenn.edu/cbica/brats2020/data.html, 2021 and later at https://www.synapse.org/brats. The folder given must hold one folder a case,
at any depth, with the five files CASE_t1, CASE_t1ce, CASE_t2, CASE_flair and CASE_seg (2023 and later: CASE-t1n, CASE-t1c, CASE-t2w, CASE-t2f and
CASE-seg), .nii.gz or .nii; data of one year only, for the years repeat patients under other names."""
_CITATION = """Menze BH et al. (2015), The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS), https://doi.org/10.1109/TMI.2014.2377694;
Bakas S et al. (2017), https://doi.org/10.1038/sdata.2017.117; Baid U et al. (2021), https://arxiv.org/abs/2107.02314"""
_CONTRASTS = ("t1", "t1ce", "t2", "flair")
_ENDINGS = {"_": (*_CONTRASTS, "seg"), "-": ("t1n", "t1c", "t2w", "t2f", "seg")}  # what joins a case and its contrast -> the contrasts
_LABELS = (0, 1, 2, 3, 4)


def builder(data_dir):
    """The builder of BraTS; 80 % of the patients are for training, 10 % each to validate and test, for the official validation has no truth."""
    source = Source("brats", _DESCRIPTION, "https://www.synapse.org/brats", _CITATION, _INSTRUCTIONS, _features, _groups)
    return built(source, data_dir)


def _features(tfds):
    """What an example holds."""
    return {
        **{name: image_feature(tfds, np.float32) for name in _CONTRASTS},
        **{f"{name}_max": tfds.features.Scalar(np.float32) for name in _CONTRASTS},
        "seg": image_feature(tfds, np.uint8),
        "spacing": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        "patient": tfds.features.Text(),
        "case": tfds.features.Text(),
        "slice": tfds.features.Scalar(np.int32),
    }


def _groups(folder: Path):
    """part -> patient -> Group."""
    cases = {}
    for join, endings in _ENDINGS.items():
        for found in sorted(folder.rglob(f"*{join}{endings[3]}.nii*")):
            case = found.name.removesuffix(".gz").removesuffix(f"{join}{endings[3]}.nii")
            if case in cases:
                raise InputError(found.parent, f"holds the case {case}, as another folder does; one folder a case is needed")
            cases[case] = tuple(_file(found.parent, f"{case}{join}{ending}") for ending in endings)
    if not cases:
        raise InputError(folder, f"holds no case; what is needed: {_INSTRUCTIONS}")
    patients = {}
    for case, files in cases.items():
        patients.setdefault(case.rpartition("-")[0] or case, {})[case] = files
    groups = {
        patient: Group(tuple(path for files in of.values() for path in files), functools.partial(_examples, patient, of))
        for patient, of in sorted(patients.items())
    }
    return by_part(groups)


def _file(folder, stem):
    """The NIfTI file of that name, packed or not."""
    found = [folder / f"{stem}{ending}" for ending in (".nii.gz", ".nii") if (folder / f"{stem}{ending}").is_file()]
    if not found:
        raise InputError(folder, f"holds no {stem}.nii.gz; all four contrasts and the segmentation of a case are needed")
    return found[0]


def _examples(patient, cases):
    """All slices of a patient that show anything, from inferior to superior."""
    for case, files in cases.items():
        volumes, spacings = zip(*map(nifti_volume, files), strict=True)
        for path, volume in zip(files, volumes, strict=True):
            if volume.shape != volumes[0].shape:
                raise InputError(path, f"has shape {list(volume.shape)}, {files[0].name} has {list(volumes[0].shape)}; the same grid is needed")
        *images, seg = volumes
        if not np.isin(seg, _LABELS).all():
            raise InputError(files[-1], f"holds the labels {np.unique(seg)[:9].tolist()}; 0 to 4 are needed")
        seg = np.where(seg == 4, 3, seg).astype(np.uint8)
        most = {f"{name}_max": np.float32(image.max()) for name, image in zip(_CONTRASTS, images, strict=True)}
        beside = {"spacing": plane_spacing(spacings[0], 2), "patient": patient, "case": case, **most}
        for index in np.flatnonzero(np.any([image.any((0, 1)) for image in images], 0)).tolist():
            shown = {name: plane(image, 2, index) for name, image in zip(_CONTRASTS, images, strict=True)}
            yield f"{case}_{index:04d}", {**shown, "seg": plane(seg, 2, index), "slice": index, **beside}
