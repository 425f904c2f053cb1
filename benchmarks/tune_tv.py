"""Tune the strength of total variation on validation images: python benchmarks/tune_tv.py CONFIG [NUM_IMAGES] [STRENGTH ...].

The images come from a stream of keys that neither training nor `evaluate.py` draws from. Prints PSNR by strength; the best goes into the config.
"""

import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from medjax.config import bind, build, load  # noqa: E402
from medjax.experiment.assess import assess  # noqa: E402
from medjax.experiment.problem import operator, simulate  # noqa: E402
from medjax.experiment.reconstruct import direct, total_variation  # noqa: E402


def main(path, num_images=16, *strengths):
    """Print one line a strength."""
    config = load(path)
    units, phantom, first = build(config.prior.units), bind(config.prior.data), direct(config)
    strengths = [float(s) for s in strengths] or [0.1, 0.2, 0.5, 1, 2, 5, 10, 20]

    @jax.jit
    def scores(A, key):
        key_image, key_noise = jax.random.split(key)
        problem = simulate(config, A, key_noise, units.encode(phantom(key_image).image))
        start = first(problem.A, problem.y)

        def one(strength):
            tuned = replace(config, classical=replace(config.classical, tv_strength=strength))
            return assess(problem, total_variation(tuned)(problem.A, problem.y, problem.sigma_y, start))["psnr"]

        return assess(problem, start)["psnr"], jax.lax.map(one, np.asarray(strengths, np.float32))

    A, keys = operator(config.measure, {}), jax.random.split(jax.random.key(20_000), int(num_images))
    found = [jax.device_get(scores(A, key)) for key in keys]
    print(f"{config.name}, {num_images} images: direct {np.mean([f[0] for f in found]):.2f} dB")
    for strength, value in zip(strengths, np.mean([f[1] for f in found], 0), strict=True):
        print(f"strength {strength:8.3g}   TV {value:.2f} dB")


if __name__ == "__main__":
    main(*sys.argv[1:])
