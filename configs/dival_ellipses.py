"""Sparse-view CT of random ellipses, the data set `ellipses` of dival (Leuschner, Schmidt & Erzmann).

128 px over [-64, 64]^2, 30 parallel views at the midpoints of 30 steps over [0, pi), 183 detectors over +-90.50967, data of the image interpolated to
400 px, white noise of .025 of the mean datum. 32,000 phantoms for training, or a share of them; the noise is drawn anew each time.

python train.py configs/dival_ellipses.py --method learned_primal_dual
"""

import dataclasses

from medjax.config import Answer, Config, Learned, Measure, Prior, Solve, Spec, Train

SIZE, NUM_VIEWS, NUM_DETECTORS = 128, 30, 183
SPACING = 2 * 90.50967 / NUM_DETECTORS
BLOCK = Spec("cnn", {"features": 5})


def get_config() -> Config:
    """The inverse problem, its classical answers as tuned by `evaluate.py --sweep`, and learned ones."""
    half = 90.0 / NUM_VIEWS  # [degrees]
    angles = Spec("uniform_views", {"num_views": NUM_VIEWS, "start": half, "stop": 180.0 + half})
    beam = {"image_size": SIZE, "angles": angles, "num_detectors": NUM_DETECTORS, "detector_spacing": SPACING}
    fine = Spec("parallel_beam", {**beam, "image_size": 400, "pixel_size": SIZE / 400, "model": "joseph"})
    finer = Spec("upsample", {"shape": (SIZE, SIZE), "size": (400, 400)})
    simulator = Spec("algebra.compose", {"A": fine, "B": finer})
    return Config(
        name="dival_ellipses",
        prior=Prior(
            shape=(SIZE, SIZE),
            data=Spec("ellipses", {"size": SIZE}),
            units=Spec("arbitrary_units"),
            network=Spec("unet", {"width": 32, "multipliers": (1, 2, 3, 3), "attention_levels": (3,)}),
            sigma_data=0.25,
            mean=0.25,
            checkpoint="out/train/dival_ellipses/weights.safetensors",
        ),
        train=Train(loss=Spec("score_matching"), num_images=32_000),
        measure=Measure("ct", Spec("parallel_beam", beam), Spec("relative_noise", {"level": 0.025}), simulator),
        direct=Spec("fbp", {"window": "hann", "cutoff": 0.8}),
        methods=methods(),
        method="learned_primal_dual_320",
    )


def methods() -> dict[str, Answer]:
    """Total variation as published, of images >= 0, and of a learned strength; networks of all phantoms, and of the first 3,200, 320 and 32."""
    classical = {
        "tv": Solve(Spec("tv_reconstruction", {"strength": 8.0}), num_steps=300),
        "tv_nonnegative": Solve(Spec("tv_reconstruction", {"strength": 7.0, "nonnegative": True}), num_steps=400),
    }
    strength = Spec("learned_strength", {"make": Spec("tv_reconstruction"), "strength": 4.0, "max_steps": 300, "backward": "unroll"})
    one_number = Train(Spec("supervised"), num_steps=60, batch_size=4, learning_rate=0.1, warmup_steps=0, ema_decay=0.8, log_every=5)
    unet = Spec("image_unet", {"features": 1, "width": 16, "last_scale": 0.0})
    step = Spec("cnn", {"features": 6, "last_scale": 0.0})
    return {
        **classical,
        "tv_strength": Learned(strength, one_number),
        **from_shares("fbp_unet", Spec("post_processing", {"network": unet})),
        **from_shares("learned_gradient_descent", Spec("learned_gradient_descent", {"network": step, "num_iterations": 10})),
        **from_shares("learned_primal_dual", Spec("learned_primal_dual", {"primal": BLOCK, "dual": BLOCK})),
    }


def from_shares(name: str, reconstruction: Spec) -> dict[str, Answer]:
    """A method by the number of phantoms that it learns from; few of them are turned, and superposed to new ones."""
    whole = Train(Spec("supervised"), num_steps=20_000, batch_size=5, learning_rate=1e-3, num_images=32_000)
    found: dict[str, Answer] = {name: Learned(reconstruction, whole)}
    for num, steps in ((3200, 8000), (320, 2800), (32, 1400)):
        augment = (Spec("turned"), Spec("superposed")) if num == 32 else ()
        train = dataclasses.replace(whole, num_images=num, num_steps=steps, augment=augment)
        found[f"{name}_{num}"] = Learned(reconstruction, train)
    return found
