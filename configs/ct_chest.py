"""Score prior of real chest and abdomen CT slices, 256 px over 400 mm, and a scan of 60 views at 5 % of the dose (500 photons a ray).

Its images are 64 slices of 38 people of TCGA-LUAD, of which those of 4 people are for validation, and 92 slices of one person of LIDC-IDRI (both
of TCIA, CC BY 3.0): arrays `train_image`, `train_subject`, `test_image`, `test_subject` and `slices256` [HU] in two `.npz` files of the folder. So
few would be learned by heart: the network begins as the one that knows generated chests, and images are mirrored, moved, bent and stretched in HU.

python train.py configs/ct_chest.py --files.folder FOLDER
python evaluate.py configs/ct_chest.py --files.folder FOLDER --num-images 15
"""

import dataclasses

from configs.ct_torso import MU_WATER, methods
from configs.ct_torso import get_config as ct_torso
from medjax.config import Config, Measure, Method, Prior, Solve, Spec, Train

SIZE = 256
PIXEL_SIZE = 400.0 / SIZE  # [mm]
NUM_VIEWS = 60
AIR = -1000.0  # [HU]


def get_config() -> Config:
    """60 views over 180 degrees, 500 photons a ray."""
    angles = Spec("uniform_views", {"num_views": NUM_VIEWS, "start": 0.0, "stop": 180.0})
    beam = {"image_size": SIZE, "angles": angles, "num_detectors": 367, "detector_spacing": PIXEL_SIZE, "pixel_size": PIXEL_SIZE}
    base = ct_torso()
    changes = (
        Spec("augment.mirrored"),
        Spec("augment.moved", {"outside": AIR}),
        Spec("augment.elastic", {"amplitude": 6.0, "outside": AIR}),
        Spec("augment.recalibrated", {"gain": 0.03, "zero": AIR}),
    )
    names = ("mmps", "mmps_2m", "pnp_dm", "dps", "diffpir", "fista_tv", "tgv", "l1_wavelet")
    known = methods(SIZE)
    pigdm = known["pigdm"]
    assert isinstance(pigdm, Method)
    tuned = {  # by `evaluate.py --sweep`
        "tv": Solve(Spec("tv_reconstruction", {"strength": 1.5, "nonnegative": True}), num_steps=300),
        "dpir": Solve(Spec("dpir", {"sigma_max": 0.5, "sigma_min": 0.1}), num_steps=8),
        "pigdm": dataclasses.replace(pigdm, num_steps=40),
    }
    return Config(
        name="ct_chest",
        prior=Prior(
            shape=(SIZE, SIZE),
            data=Spec("torso", {"size": SIZE}),
            units=Spec("hounsfield"),
            network=base.prior.network,
            sigma_data=0.48,
            mean=0.4,
            checkpoint="checkpoints/ct_chest.safetensors",
        ),
        train=Train(
            loss=Spec("score_matching", {"mean_log_sigma": -1.6, "std_log_sigma": 1.4}),
            num_steps=12_000,
            batch_size=4,
            learning_rate=1e-3,
            initial="checkpoints/ct_torso.safetensors",
            augment=changes,
        ),
        measure=Measure(
            modality="ct",
            operator=Spec("parallel_beam", beam),
            noise=Spec("photon_counting", {"num_photons": 500.0, "sigma_electronic": 3.0, "mu": MU_WATER}),
        ),
        direct=Spec("fbp", {"window": "hann"}),
        methods=tuned | {name: known[name] for name in names},
        method="pigdm",
        about="CT of TCGA-LUAD (34 people) and LIDC-IDRI (1 person), The Cancer Imaging Archive, CC BY 3.0",
        files=Spec("stacks.files", {"folder": "data", "paths": ("ct_chest_tcia_256.npz", "ct_lidc_volume.npz:slices256"), "lowest": AIR}),
    )
