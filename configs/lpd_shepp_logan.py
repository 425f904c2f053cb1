"""From random ellipses to the Shepp-Logan head, the first experiment of Adler & Oktem (2018), https://arxiv.org/abs/1707.06474.

128 px over [-64, 64]^2, 30 parallel views, 183 detectors, white noise of .05 of the mean datum; trained on ellipses, tested on the head:

python train.py configs/lpd_shepp_logan.py --method learned_primal_dual
python evaluate.py configs/lpd_shepp_logan.py --method learned_primal_dual --prior.data shepp_logan.sampled --num-images 20
"""

import dataclasses

from configs.dival_ellipses import SIZE
from configs.dival_ellipses import get_config as dival_ellipses
from medjax.config import Config, Spec, Train
from medjax.override import override


def get_config() -> Config:
    """The problem of `dival_ellipses` with other ellipses, twice the noise, and data of the operator itself."""
    base = dival_ellipses()
    prior = dataclasses.replace(
        base.prior, data=Spec("random_ellipses", {"size": SIZE}), mean=0.0, checkpoint="out/train/lpd_shepp_logan/weights.safetensors"
    )
    measure = dataclasses.replace(base.measure, noise=Spec("relative_noise", {"level": 0.05}), simulator=None)
    train = Train(Spec("supervised"), num_steps=4500, batch_size=4, learning_rate=1.5e-3)  # 18,000 phantoms; the paper has 100,000 steps of 5
    trained = dataclasses.replace(base.methods["learned_primal_dual"], train=train)
    config = dataclasses.replace(
        base,
        name="lpd_shepp_logan",
        prior=prior,
        train=Train(loss=Spec("score_matching")),
        measure=measure,
        methods={"tv": base.methods["tv_nonnegative"], "learned_primal_dual": trained},
        method="learned_primal_dual",
    )
    config = override(config, "methods.tv.solver.strength", "3.0")
    return override(config, "direct.cutoff", "1.0")
