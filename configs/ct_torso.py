"""Score prior of generated chest CT slices, 128 px over 400 mm (EDM, Karras et al. 2022), and 60-view CT of them.

python train.py configs/ct_torso.py
"""

from medjax.config import Classical, Config, Measure, Method, Prior, Spec, Train

NUM_VIEWS = 60
PIXEL_SIZE = 400.0 / 128  # [mm]
MU_WATER = 0.0193  # [1/mm], water at 70 keV (NIST XCOM, 0.193 cm^2/g)


def get_config() -> Config:
    """60 views over 180 degrees, 1e4 photons a ray."""
    angles = Spec("uniform_views", {"num_views": NUM_VIEWS, "start": 0.0, "stop": 180.0})
    beam = {"image_size": 128, "angles": angles, "num_detectors": 184, "detector_spacing": PIXEL_SIZE, "pixel_size": PIXEL_SIZE}
    return Config(
        name="ct_torso",
        prior=Prior(
            shape=(128, 128),
            data=Spec("torso", {"size": 128}),
            units=Spec("hounsfield"),
            network=Spec("unet", {"width": 32, "multipliers": (1, 2, 3, 3), "attention_levels": (3,)}),
            sigma_data=0.47,
            mean=0.37,
            checkpoint="checkpoints/ct_torso.safetensors",
        ),
        train=Train(
            loss=Spec("score_matching", {"mean_log_sigma": -1.6, "std_log_sigma": 1.4}),
            num_steps=6500,
            batch_size=8,
            learning_rate=1.5e-3,
        ),
        measure=Measure(
            modality="ct",
            operator=Spec("parallel_beam", beam),
            noise=Spec("photon_counting", {"num_photons": 1e4, "sigma_electronic": 3.0, "mu": MU_WATER}),
        ),
        classical=Classical(direct=Spec("fbp", {"window": "hann"}), tv_strength=4.5, nonnegative=True),
        methods={
            "mmps": Method(
                Spec("mmps", {"num_krylov": 10, "isotropic_above": 1.0, "variance": 0.01}),
                Spec("ddim", {"eta": 1.0}),
                num_steps=20,
                sigma_min=0.01,
                sigma_max=10.0,
            ),
            "dds": Method(Spec("dds", {"variance": 0.2}), Spec("ddim", {"eta": 0.85}), num_steps=50, sigma_min=0.01, sigma_max=10.0),
            "dps": Method(Spec("dps", {"zeta": 1.0}), Spec("ddim", {"eta": 1.0}), num_steps=200, sigma_min=0.01, sigma_max=10.0),
        },
        method="mmps",
    )
