"""Limited-angle CT: 60 views over 120 degrees, 1e4 photons a ray, with the prior of ct_torso.

python evaluate.py configs/ct_limited_angle.py
"""

from configs.ct_torso import get_config as ct_torso
from medjax.config import Config
from medjax.override import override


def get_config() -> Config:
    """`ct_torso` with a missing wedge of 60 degrees."""
    config = override(ct_torso(), "measure.operator.angles.stop", "120")
    config = override(config, "methods.tv.solver.strength", "2.0")
    config = override(config, "methods.pnp_admm.solver.sigma", "0.2")
    config = override(config, "methods.dpir.solver.sigma_max", "2.0")
    config = override(config, "methods.red.solver.sigma", "0.2")
    return override(config, "name", "ct_limited_angle")
