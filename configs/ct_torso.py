"""Score prior of generated chest CT slices, 128 px over 400 mm (EDM, Karras et al. 2022), and 60-view CT of them.

python train.py configs/ct_torso.py
"""

from medjax.config import Config, Measure, Method, Prior, Solve, Spec, Train

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
        direct=Spec("fbp", {"window": "hann"}),
        methods=methods(128),
        method="mmps",
    )


def methods(size: int) -> dict[str, Method | Solve]:
    """Answers without learning, with the prior as a denoiser, and posterior samples; the first two as tuned by `evaluate.py --sweep`."""
    tv = Spec("total_variation", {"strength": 4.5, "num_steps": 10, "nonnegative": True})
    tgv = Spec("total_generalized_variation", {"strength": 3.0, "max_steps": 30})
    waves = Spec("wavelet_l1", {"W": Spec("wavelet", {"shape": (size, size)}), "strength": 6.5, "free_levels": 3})
    classical = {
        "tv": Solve(Spec("tv_reconstruction", {"strength": 4.5, "nonnegative": True}), num_steps=300),
        "fista_tv": Solve(Spec("fista_reconstruction", {"regulariser": tv}), num_steps=300),
        "tgv": Solve(Spec("fista_reconstruction", {"regulariser": tgv}), num_steps=300),
        "l1_wavelet": Solve(Spec("cycle_spinning_reconstruction", {"regulariser": waves, "reach": 8}), num_steps=200),
        "cg": Solve(Spec("cg_reconstruction", {"strength": 20.0, "G": Spec("gradient")}), num_steps=100, tolerance=1e-4),
        "cgls": Solve(Spec("cgls"), num_steps=50, start="zeros"),
        "sirt": Solve(Spec("sirt", {"nonnegative": True}), num_steps=100, start="zeros"),
    }
    plugged = {
        "pnp_admm": Solve(Spec("pnp_admm", {"sigma": 0.1}), num_steps=20),
        "dpir": Solve(Spec("dpir", {"sigma_max": 0.5, "sigma_min": 0.02}), num_steps=8),
        "red": Solve(Spec("red", {"sigma": 0.05}), num_steps=20),
    }
    ancestral, levels = Spec("ddim", {"eta": 1.0}), {"sigma_min": 0.01, "sigma_max": 10.0}
    samplers = {
        "mmps": Method(Spec("mmps", {"num_krylov": 10, "isotropic_above": 1.0, "variance": 0.01}), ancestral, num_steps=20, **levels),
        "dds": Method(Spec("dds", {"variance": 0.2}), Spec("ddim", {"eta": 0.85}), num_steps=50, **levels),
        "dps": Method(Spec("dps", {"zeta": 1.0}), ancestral, num_steps=200, **levels),
    }
    return classical | plugged | samplers
