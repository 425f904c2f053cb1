"""Limited-angle CT: 60 views over 90 degrees, 1e4 photons a ray, with the prior of ct_torso.

python evaluate.py configs/ct_limited_90.py
"""

from configs.ct_limited_angle import get_config as ct_limited_angle
from medjax.config import Config
from medjax.override import override


def get_config() -> Config:
    """`ct_limited_angle` with a missing wedge of 90 degrees."""
    config = override(ct_limited_angle(), "measure.operator.angles.stop", "90")
    config = override(config, "methods.mmps.guide", "mmps")  # in a wide wedge the covariance of the prior tells more at every noise level
    config = override(config, "methods.mmps.guide.num_krylov", "3")
    config = override(config, "methods.mmps.num_steps", "60")
    return override(config, "name", "ct_limited_90")
