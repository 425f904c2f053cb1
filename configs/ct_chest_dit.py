"""The problem of `ct_chest` with a prior of 130 M parameters, the diffusion transformer in its size B, on 1024 patches of 8 x 8 pixels.

It is meant for accelerators and for far more slices than `ct_chest` names, no weights are shipped, and none of it has been trained here to the end.

python train.py configs/ct_chest_dit.py --files.folder FOLDER
"""

import dataclasses

from configs.ct_chest import get_config as ct_chest
from medjax.config import Config, Spec


def get_config() -> Config:
    """In bfloat16, batches of 64 in 4 parts."""
    base, network = ct_chest(), Spec("dit", {"patch": 8, "width": 768, "depth": 12, "heads": 12, "remat": True})
    prior = dataclasses.replace(base.prior, network=Spec("bfloat16", {"network": network}), checkpoint="checkpoints/ct_chest_dit.safetensors")
    train = dataclasses.replace(base.train, num_steps=100_000, batch_size=64, accumulate=4, learning_rate=4e-4, warmup_steps=1000, initial="")
    return dataclasses.replace(base, name="ct_chest_dit", prior=prior, train=train)
