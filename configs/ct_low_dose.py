"""Low-dose CT: 180 views over 180 degrees, 1e3 photons a ray, with the prior of ct_torso.

python evaluate.py configs/ct_low_dose.py
"""

from configs.ct_torso import get_config as ct_torso
from medjax.config import Config
from medjax.override import override


def get_config() -> Config:
    """`ct_torso` with all views and a tenth of the photons."""
    config = override(ct_torso(), "measure.operator.angles.num_views", "180")
    config = override(config, "measure.noise.num_photons", "1000")
    config = override(config, "methods.tgv.solver.regulariser.strength", "6.0")
    return override(config, "name", "ct_low_dose")
