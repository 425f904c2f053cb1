"""4x undersampled MRI by 8 simulated coils, every fourth line and 8 % of them in the centre, with the prior of mri_brain.

python evaluate.py configs/mri_coils.py --method cg,l1_wavelet,dpir
"""

import dataclasses

from configs.mri_brain import decomposed
from configs.mri_brain import get_config as mri_brain
from medjax.config import Config, Spec, override

TUNED = {
    "tv.solver.strength": "8",
    "fista_tv.solver.regulariser.strength": "8",
    "tgv.solver.regulariser.strength": "8",
    "l1_wavelet.solver.regulariser.strength": "12",
    "cg.solver.strength": "15",
    "pnp_admm.solver.sigma": "0.08",
    "dpir.solver.sigma_max": "0.2",
    "dpir.solver.sigma_min": "0.02",
    "red.solver.sigma": "0.05",
}
"""By `evaluate.py --sweep`, each on 16 images that are never evaluated."""


def get_config() -> Config:
    """`mri_brain` seen by a birdcage whose sensitivities are known, with noise of 0.03 in each component of each coil's k-space."""
    base = mri_brain()
    mask = Spec("equispaced_lines", {"shape": (128, 128), "acceleration": 4, "center_fraction": 0.08})
    maps = Spec("birdcage", {"shape": (128, 128), "num_coils": 8})
    operator = Spec("algebra.compose", {"A": Spec("sense", {"maps": maps, "mask": mask}), "B": Spec("complex_channels")})
    measure = dataclasses.replace(base.measure, operator=operator, noise=Spec("gaussian_noise", {"sigma": 0.03}))
    methods = {name: method for name, method in base.methods.items() if name not in decomposed()}
    config = dataclasses.replace(base, name="mri_coils", measure=measure, methods=methods)
    for field, value in TUNED.items():
        config = override(config, f"methods.{field}", value)
    return config
