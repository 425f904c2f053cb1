"""5 % of the dose: 180 views over 180 degrees, 500 photons a ray, with the prior of ct_torso.

python evaluate.py configs/ct_dose_5.py
"""

from configs.ct_low_dose import get_config as ct_low_dose
from medjax.config import Config
from medjax.override import override


def get_config() -> Config:
    """`ct_low_dose` with half of its photons."""
    config = override(ct_low_dose(), "measure.noise.num_photons", "500")
    return override(config, "name", "ct_dose_5")
