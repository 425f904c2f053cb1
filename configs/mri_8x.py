"""8x undersampled MRI with 4 % of the lines in the centre, with the prior of mri_brain.

python evaluate.py configs/mri_8x.py
"""

from configs.mri_brain import get_config as mri_brain
from medjax.config import Config
from medjax.override import override


def get_config() -> Config:
    """`mri_brain` with half of its lines."""
    config = override(mri_brain(), "measure.operator.A.mask.acceleration", "8")
    config = override(config, "measure.operator.A.mask.center_fraction", "0.04")
    return override(config, "name", "mri_8x")
