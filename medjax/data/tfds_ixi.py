"""IXI: MRI of nearly 600 healthy heads from three hospitals, T1-, T2- and proton-density-weighted.

Files are `IXINNN-SITE-SSSS-T1.nii.gz`: subject, hospital (Guys, HH: Hammersmith, IOP: Institute of Psychiatry), number of the scan and contrast.
Slices are in the plane of square pixels, in which they were acquired: sagittal for T1, axial for T2 and PD.
"""

import functools
import re
from pathlib import Path

import numpy as np

from medjax.data.nifti import nifti_volume
from medjax.data.scan import InputError
from medjax.data.tfds_builder import Group, Source, built, by_part, image_feature, plane, plane_spacing

_DESCRIPTION = """Slices of MRI of the contrast that the configuration names: image [a.u.], volume_max (the largest value of its volume), spacing
between slices, rows and columns [mm], site (the hospital), patient (the pseudonym of IXI) and slice from 0."""
_INSTRUCTIONS = """Fetch {0}.tar from https://brain-development.org/ixi-dataset/ and unpack it: the folder given must hold the files
IXINNN-SITE-SSSS-{1}.nii.gz, in itself or in a folder {0}."""
_CITATION = "IXI dataset (EPSRC GR/S21533/02), https://brain-development.org/ixi-dataset/, under CC BY-SA 3.0"
_SITES = ("Guys", "HH", "IOP")
_CONFIGS = {"t1": "T1", "t2": "T2", "pd": "PD"}


def builder(data_dir, config: str = "t1"):
    """The builder of one contrast of IXI; 80 % of the subjects are for training, 10 % each to validate and test, in all contrasts the same ones.

    Args:
      data_dir: folder under which TensorFlow Datasets puts its data sets.
      config: "t1", "t2" or "pd".
    """
    contrast = _CONFIGS[config]
    instructions = _INSTRUCTIONS.format(f"IXI-{contrast}", contrast)
    homepage, groups = "https://brain-development.org/ixi-dataset/", functools.partial(_groups, contrast, instructions)
    return built(Source("ixi", _DESCRIPTION, homepage, _CITATION, instructions, _features, groups, config), data_dir)


def _features(tfds):
    """What an example holds."""
    return {
        "image": image_feature(tfds, np.float32),
        "volume_max": tfds.features.Scalar(np.float32),
        "spacing": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        "site": tfds.features.ClassLabel(names=list(_SITES)),
        "patient": tfds.features.Text(),
        "slice": tfds.features.Scalar(np.int32),
    }


def _groups(contrast, instructions, folder: Path):
    """part -> subject -> Group."""
    files = {}
    for path in sorted([*folder.glob("IXI*.nii.gz"), *folder.glob(f"IXI-{contrast}/IXI*.nii.gz")]):
        found = re.fullmatch(rf"(IXI\d{{3}})-({'|'.join(_SITES)})-\d+-{contrast}\.nii\.gz", path.name)
        if found:
            files.setdefault(found[1], []).append((found[2], path))
    if not files:
        raise InputError(folder, f"holds no IXINNN-SITE-SSSS-{contrast}.nii.gz; what is needed: {instructions}")
    return by_part({patient: Group(tuple(path for _, path in of), functools.partial(_examples, patient, of)) for patient, of in files.items()})


def _examples(patient, volumes):
    """All slices of a subject, from left to right or inferior to superior."""
    for number, (site, path) in enumerate(volumes):
        volume, spacings = nifti_volume(path)
        across = [axis for axis in (2, 1, 0) if np.ptp(np.delete(spacings, axis)) < 0.01 * spacings.min()]
        if not across:
            raise InputError(path, f"has voxels of {' x '.join(f'{s:.4g}' for s in spacings)} mm; a plane of square pixels is needed")
        axis = across[0]
        beside = {"volume_max": np.float32(volume.max()), "spacing": plane_spacing(spacings, axis), "site": site, "patient": patient}
        for index in range(volume.shape[axis]):
            yield f"{patient}_{number}_{index:04d}", {"image": plane(volume, axis, index), "slice": index, **beside}
