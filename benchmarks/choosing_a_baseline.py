"""Tables and pictures of docs/choosing_a_baseline.md: python benchmarks/choosing_a_baseline.py [--only NAME] [--json FILE].

Each problem is that of a config, its images generated and never tuned on; every answer without learning that the config names takes part, its
strength tuned by `evaluate.py --sweep`. Writes a picture of one image a problem into docs/choosing_a_baseline/.
"""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import race  # noqa: E402

from medjax.config import ROOT, Solve, bind, build, load  # noqa: E402
from medjax.experiment.assess import assess  # noqa: E402
from medjax.experiment.problem import operator, simulate  # noqa: E402
from medjax.experiment.reconstruct import checked_outcome, direct, needs_prior, solution  # noqa: E402
from medjax.experiment.sweep import evaluation_key  # noqa: E402
from medjax.metrics.confidence_interval import confidence_interval  # noqa: E402
from medjax.report.figure import figure  # noqa: E402

PROBLEMS = {
    "ct_torso": "CT, 60 views, 1e4 photons a ray",
    "ct_low_dose": "CT, 180 views, 1e3 photons a ray",
    "ct_limited_angle": "CT, 60 views over 120 degrees",
    "mri_brain": "MRI, one coil, 4x",
    "mri_coils": "MRI, 8 coils, 4x",
}
NUM_IMAGES, SEED = 16, 10_000


def table(name):
    """Scores over NUM_IMAGES images and the time of one image, compiled, for each answer of a config."""
    config = load(ROOT / "configs" / f"{name}.py")
    names = [n for n, settings in config.methods.items() if isinstance(settings, Solve) and not needs_prior(config, [n])]
    units, phantom, A, first = build(config.prior.units), bind(config.prior.data), operator(config.measure, {}), direct(config)
    measure = jax.jit(lambda A, keys: simulate(config, A, keys[1], units.encode(phantom(keys[0]).image))[1:4])
    score = jax.jit(lambda problem, x: assess(problem, x))
    start = jax.jit(first)
    solve = {n: jax.jit(functools.partial(solution(config, n), None)) for n in names}

    scores, kept = {n: [] for n in (config.direct.name, *names)}, None
    for i in range(NUM_IMAGES):
        keys = jax.random.split(evaluation_key(SEED, i))
        y, sigma_y, truth = measure(A, keys)
        answers, x0 = {}, start(A, y)
        for n in names:
            answers[n], outcome = solve[n](A, y, sigma_y, x0)
            checked_outcome(n, outcome)
        problem = simulate(config, A, keys[1], truth)
        for n, x in ((config.direct.name, x0), *answers.items()):
            scores[n].append(jax.device_get(score(problem, x)))
        kept = kept or (problem, {config.direct.name: x0, **answers})
    _picture(config, units, *kept, {n: s[0] for n, s in scores.items()})

    problem, answers = kept
    data = problem.A, problem.y, problem.sigma_y
    contenders = {config.direct.name: lambda: start(*data[:2])}
    contenders |= {n: functools.partial(solve[n], *data, answers[config.direct.name]) for n in names}
    times, _ = race.race(contenders, turns=5, seconds=10)
    rows = []
    for n in scores:
        (psnr, half), (ssim, _) = (confidence_interval([float(s[c]) for s in scores[n]]) for c in ("psnr", "ssim"))
        steps = config.methods[n].num_steps if n in solve else "-"
        residual = float(np.mean([s["residual"] for s in scores[n]]))
        rows.append({PROBLEMS[name]: n, "PSNR [dB]": f"{psnr:.2f} ± {half:.2f}", "SSIM": ssim, "residual": residual, "steps": steps})
        rows[-1]["ms"] = race.milliseconds(times[n])
    return rows


def _picture(config, units, problem, answers, scores):
    def shown(x):
        return np.asarray(units.display(units.decode(x)))

    images = {n: shown(x) for n, x in answers.items()} | {"truth": shown(problem.truth)}
    path = ROOT / "docs" / "choosing_a_baseline" / f"{config.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixel_size = getattr(problem.A, "pixel_size", None)
    size = float(pixel_size) if pixel_size is not None and jnp.ndim(pixel_size) == 0 else None
    figure(path, images, [], jax.tree.map(float, scores), units.name, size, PROBLEMS[config.name])


TABLES = {name: functools.partial(table, name) for name in PROBLEMS if (ROOT / "configs" / f"{name}.py").exists()}

if __name__ == "__main__":
    race.main(__doc__, TABLES)
