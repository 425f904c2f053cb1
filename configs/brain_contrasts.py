"""Score prior of brain MRI of any contrast, learned from anatomical label maps, 128 px of 2 mm, and 4x undersampled MRI of them.

No scan is learned from: each image is a slice of a person's label map in a contrast that was drawn for it (SynthSeg, Billot et al. 2023). Images are
complex, with a smooth phase, as those of `mri_brain`, whose network, operator and answers these are: k-space of a real image is symmetric, so that
a prior of magnitudes would know half of what no scanner measures. The arrays are `train_label` and `test_label` `[n, x, y, z]`, indices of `VALUES`,
with `train_subject` and `test_subject`; label maps of FreeSurfer's numbers in NIfTI go as well. Without files, the prior is of generated heads.

python train.py configs/brain_contrasts.py --files.folder FOLDER
python train.py configs/brain_contrasts.py --files.folder FOLDER --files.paths "()" --files.pixel-size 2 --files.pattern "*seg.nii.gz"
python evaluate.py configs/brain_contrasts.py --files.folder FOLDER --num-images 16
"""

import dataclasses

from configs.mri_brain import get_config as mri_brain
from medjax.config import Config, Solve, Spec

VALUES = (0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 25, 26, 28, 30, 41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 57, 58, 60)
VALUES += (62, 72, 85, 136, 137, 163, 164, 502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530)
"""Labels in the numbers of FreeSurfer, from 500 on those outside the brain."""

CLASSES = ((2, 41, 7, 46), (3, 42, 8, 47, 17, 53, 18, 54, 26, 58), (4, 43, 5, 44, 14, 15, 24, 72))
CLASSES += ((10, 49), (11, 50), (12, 51), (13, 52), (25, 57), (28, 60), (30, 62), (136, 163), (137, 164))
"""White matter, grey matter of cortex, cerebellum, hippocampus, amygdala and accumbens, and fluid, each of one intensity; then left and right."""


def get_config() -> Config:
    """Random phase-encode lines with 8 % in the centre, 4x, noise of 0.01 in each component of k-space; 50 contrasts of each axial slice.

    Total variation and DPIR are as tuned by `evaluate.py --sweep` on validation images.
    """
    base = mri_brain()
    contrast = {"classes": CLASSES, "deviations": (1.0, 10.0), "bias": 0.4, "blur": (0.5, 0.9), "phase": 1.0}
    maps = {"folder": "data", "paths": ("brain_labelmaps_2mm.npz",), "values": VALUES, "contrasts": 50, "image": Spec("random_contrast", contrast)}
    changes = (
        Spec("augment.mirrored"),
        Spec("augment.moved", {"degrees": 15.0, "scale": 1.15}),
        Spec("augment.elastic", {"amplitude": 3.0}),
    )
    tuned = {
        "tv": Solve(Spec("tv_reconstruction", {"strength": 64.0}), num_steps=300),
        "dpir": Solve(Spec("dpir", {"sigma_max": 0.5, "sigma_min": 0.01}), num_steps=24),
    }
    return dataclasses.replace(
        base,
        name="brain_contrasts",
        methods=base.methods | tuned,
        prior=dataclasses.replace(base.prior, sigma_data=0.23, mean=0.0, checkpoint="checkpoints/brain_contrasts.safetensors"),
        train=dataclasses.replace(base.train, num_steps=2500, initial="checkpoints/mri_brain.safetensors", augment=changes),
        about="anatomical label maps of 14 people in the labels of SynthSeg, Apache-2.0; intensities are drawn, no scan is learned from",
        files=Spec("label_maps.files", maps),
    )
