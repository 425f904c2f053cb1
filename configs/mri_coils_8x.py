"""8x undersampled MRI by the coils of mri_coils, every eighth line and 4 % of them in the centre.

python evaluate.py configs/mri_coils_8x.py --method cg,l1_wavelet
python train.py configs/mri_coils_8x.py --method variational_network
"""

from configs.mri_coils import get_config as mri_coils
from medjax.config import Config
from medjax.override import override

CHANGES = {
    "measure.operator.A.mask.acceleration": "8",
    "measure.operator.A.mask.center_fraction": "0.04",
    "name": "mri_coils_8x",
}


def get_config() -> Config:
    """`mri_coils` with half of its lines."""
    config = mri_coils()
    for field, value in CHANGES.items():
        config = override(config, field, value)
    return config
