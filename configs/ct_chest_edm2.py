"""The problem of `ct_chest` with a prior of 124 M parameters, the magnitude-preserving U-Net of EDM2 in its size XS, on patches of 4 x 4 pixels.

It is meant for accelerators and for far more slices than `ct_chest` names, no weights are shipped, and none of it has been trained here to the end.

python train.py configs/ct_chest_edm2.py --files.folder FOLDER
"""

import dataclasses

from configs.ct_chest import get_config as ct_chest
from medjax.config import Config, Spec


def get_config() -> Config:
    """In bfloat16, batches of 64 in 4 parts; Muon turns each feature by half the learning rate, 0.012, which is that of the paper for Adam."""
    base, network = ct_chest(), Spec("edm2_unet", {"width": 128, "multipliers": (1, 2, 3, 4), "num_blocks": 3, "patch": 4, "remat": True})
    prior = dataclasses.replace(base.prior, network=Spec("bfloat16", {"network": network}), checkpoint="checkpoints/ct_chest_edm2.safetensors")
    train = dataclasses.replace(base.train, num_steps=100_000, batch_size=64, accumulate=4, learning_rate=0.024, warmup_steps=1000, initial="")
    return dataclasses.replace(base, name="ct_chest_edm2", prior=prior, train=train)
