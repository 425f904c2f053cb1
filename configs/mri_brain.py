"""Score prior of generated brain MRI, 128 px over 220 mm, complex images as two channels, and 4x undersampled MRI of them.

python train.py configs/mri_brain.py
"""

from medjax.config import Classical, Config, Measure, Method, Prior, Spec, Train


def get_config() -> Config:
    """Random phase-encode lines with 8 % in the centre, 4x, noise of 0.01 in each component of k-space."""
    mask = Spec("random_lines", {"key": 0, "shape": (128, 128), "acceleration": 4.0, "center_fraction": 0.08})
    return Config(
        name="mri_brain",
        prior=Prior(
            shape=(128, 128, 2),
            data=Spec("brain", {"size": 128}),
            units=Spec("complex_signal"),
            network=Spec("unet", {"channels": 2, "width": 32, "multipliers": (1, 2, 3, 3), "attention_levels": (3,)}),
            sigma_data=0.34,
            mean=0.0,
            checkpoint="checkpoints/mri_brain.safetensors",
        ),
        train=Train(
            loss=Spec("score_matching", {"mean_log_sigma": -1.8, "std_log_sigma": 1.4}),
            num_steps=4500,
            batch_size=8,
            learning_rate=1.5e-3,
        ),
        measure=Measure(
            modality="mri",
            operator=Spec("algebra.compose", {"A": Spec("masked_fourier", {"mask": mask}), "B": Spec("complex_channels")}),
            noise=Spec("gaussian_noise", {"sigma": 0.01}),
        ),
        classical=Classical(direct=Spec("zero_filled"), tv_strength=2.0),
        methods={
            "mmps": Method(Spec("mmps", {"num_krylov": 10}), Spec("ddim", {"eta": 1.0}), num_steps=20, sigma_min=0.01, sigma_max=10.0),
            "dds": Method(
                Spec("dds", {"num_krylov": 5, "variance": 0.12}), Spec("ddim", {"eta": 0.85}), num_steps=50, sigma_min=0.01, sigma_max=10.0
            ),
            "dps": Method(Spec("dps", {"zeta": 1.0}), Spec("ddim", {"eta": 1.0}), num_steps=200, sigma_min=0.01, sigma_max=10.0),
        },
        method="mmps",
    )
