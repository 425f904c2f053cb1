"""Score prior of children's chest X-rays, 128 px, told what was found: nothing, bacterial or viral pneumonia; and blurred, noisy radiographs of them.

Its images are of Kermany et al. (2018), https://doi.org/10.17632/rscbjbr9sj.2 (CC BY 4.0): arrays `train_image` `[n, 128, 128]` of eight bits,
`train_label` and `train_subject`, and the same of `test`, in a `.npz` of the folder, split by patient; a tenth of the patients is for validation.

python train.py configs/cxr_pneumonia.py --files.folder FOLDER
python generate.py configs/cxr_pneumonia.py --num-images 16 --prior.label bacterial --prior.guidance 1
python generate.py configs/cxr_pneumonia.py --num-images 364 --judge 1 --files.folder FOLDER
"""

from configs.ct_torso import samplers
from medjax.config import Answer, Classifier, Config, Measure, Prior, Solve, Spec, Train

SIZE = 128


def get_config() -> Config:
    """A detector blur of 1.5 pixels and white noise of 0.03 of the full range. TV is as tuned by `evaluate.py --sweep` on validation images."""
    methods: dict[str, Answer] = {"tv": Solve(Spec("tv_reconstruction", {"strength": 7.0}), num_steps=300)}
    methods |= {name: found for name, found in samplers().items() if name in ("mmps", "dps", "diffpir")}
    changes = (
        Spec("augment.moved", {"degrees": 5.0, "scale": 1.05, "shift": 0.03, "outside": None}),
        Spec("augment.elastic", {"amplitude": 2.0, "outside": None}),
        Spec("augment.recalibrated", {"gain": 0.05, "zero": 0.0}),
    )
    classes = ("normal", "bacterial", "viral")
    network = {"width": 32, "multipliers": (1, 2, 3, 3), "attention_levels": (3,), "num_classes": len(classes)}
    return Config(
        name="cxr_pneumonia",
        prior=Prior(
            shape=(SIZE, SIZE),
            data=None,
            units=Spec("arbitrary_units"),
            network=Spec("unet", network),
            sigma_data=0.24,
            mean=0.48,
            checkpoint="checkpoints/cxr_pneumonia.safetensors",
            classes=classes,
        ),
        train=Train(
            loss=Spec("score_matching", {"mean_log_sigma": -2.0, "std_log_sigma": 1.4}),
            num_steps=3000,
            batch_size=8,
            learning_rate=1.5e-3,
            augment=changes,
        ),
        measure=Measure(
            modality="image",
            operator=Spec("blur", {"kernel": Spec("gaussian_kernel", {"sigma": 1.5, "shape": (13, 13)}), "shape": (SIZE, SIZE)}),
            noise=Spec("gaussian_noise", {"sigma": 0.03}),
        ),
        direct=Spec("wiener", {"noise_to_signal": 0.02}),
        methods=methods,
        method="mmps",
        about="chest X-rays of children, Guangzhou Women and Children's Medical Center, Kermany et al. (2018), doi:10.17632/rscbjbr9sj.2, CC BY 4.0",
        files=Spec("stacks.files", {"folder": "data", "paths": ("cxr_pneumonia_128.npz",), "scale": 255.0}),
        classifier=Classifier(
            network=Spec("image_classifier", {"num_classes": len(classes), "width": 16}),
            train=Train(Spec("classification_loss"), num_steps=600, batch_size=32, learning_rate=1e-3, augment=changes),
            checkpoint="checkpoints/cxr_pneumonia_classifier.safetensors",
        ),
    )
