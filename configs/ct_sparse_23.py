"""Sparse-view CT: 23 views over 180 degrees, 1e4 photons a ray, with the prior of ct_torso.

python evaluate.py configs/ct_sparse_23.py
"""

from configs.ct_torso import get_config as ct_torso
from medjax.config import Config
from medjax.override import override


def get_config() -> Config:
    """`ct_torso` with fewer views."""
    config = override(ct_torso(), "measure.operator.angles.num_views", "23")
    config = override(config, "methods.tv.solver.strength", "2.0")
    return override(config, "name", "ct_sparse_23")
