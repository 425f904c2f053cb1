"""4x undersampled MRI by 8 simulated coils, every fourth line and 8 % of them in the centre, with the prior of mri_brain.

python evaluate.py configs/mri_coils.py --method cg,l1_wavelet,dpir
python train.py configs/mri_coils.py --method variational_network
"""

import dataclasses

from configs.mri_brain import decomposed
from configs.mri_brain import get_config as mri_brain
from medjax.config import Answer, Config, Learned, Spec, Train
from medjax.override import override

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
    config = dataclasses.replace(base, name="mri_coils", measure=measure, methods=methods | learned())
    for field, value in TUNED.items():
        config = override(config, f"methods.{field}", value)
    return config


def learned() -> dict[str, Answer]:
    """Networks between steps on the data, for an hour of one core each."""
    refine = Spec("image_unet", {"features": 2, "width": 16, "num_levels": 2, "last_scale": 0.0, "rescale": True})
    train = Train(Spec("supervised"), num_steps=5000, batch_size=2, learning_rate=2e-3, warmup_steps=100, ema_decay=0.998)
    return {
        "variational_network": Learned(Spec("variational_network", {"refine": refine, "num_cascades": 6}), train),
        "modl": Learned(Spec("modl", {"network": refine, "num_iterations": 4, "num_krylov": 10}), train),
    }
