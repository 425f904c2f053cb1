"""Tables and pictures of docs/choosing_a_baseline.md: python benchmarks/choosing_a_baseline.py [--only NAME] [--json FILE].

Images are generated and never tuned on. Most problems are those of a config, and every answer without learning that it names takes part, its
strength tuned by `evaluate.py --sweep`; those of `three_problems.py` are tuned here, on 8 other images. Times are of one image, compiled, the
contenders taking turns. Writes a picture of one image a problem into docs/choosing_a_baseline/.
"""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import race  # noqa: E402
import three_problems  # noqa: E402

from medjax.config import ROOT, Solve, bind, build, load  # noqa: E402
from medjax.experiment.assess import assess  # noqa: E402
from medjax.experiment.problem import operator, simulate  # noqa: E402
from medjax.experiment.reconstruct import checked_outcome, direct, needs_prior, solution  # noqa: E402
from medjax.experiment.sweep import evaluation_key  # noqa: E402
from medjax.metrics.confidence_interval import confidence_interval  # noqa: E402
from medjax.metrics.psnr import psnr  # noqa: E402
from medjax.metrics.ssim import ssim  # noqa: E402
from medjax.report.figure import figure  # noqa: E402

PROBLEMS = {
    "ct_torso": "CT, 60 views, 1e4 photons a ray",
    "ct_low_dose": "CT, 180 views, 1e3 photons a ray",
    "ct_limited_angle": "CT, 60 views over 120 degrees",
    "mri_brain": "MRI, one coil, 4x",
    "mri_coils": "MRI, 8 coils, 4x",
}
NUM_IMAGES, NUM_TUNING, SEED = 16, 8, 10_000


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


def contest(name):
    """The same for a problem without a config."""
    problem = getattr(three_problems, name)()
    keys = [[jax.random.fold_in(jax.random.key(stream), i) for i in range(num)] for stream, num in ((SEED + 1, NUM_TUNING), (SEED, NUM_IMAGES))]
    draw = jax.jit(problem.draw)
    tuning, tests = ([draw(key) for key in stream] for stream in keys)

    def score(x, truth):
        x, truth = jnp.abs(x).reshape(-1, *x.shape[-2:]), jnp.abs(truth).reshape(-1, *x.shape[-2:])
        return {"psnr": psnr(x, truth), "ssim": jnp.mean(jax.vmap(ssim)(x, truth))}

    score, rows, contenders, shown, captions = jax.jit(score), [], {}, {}, {}
    for n, candidate in problem.candidates.items():
        fns = {value: jax.jit(functools.partial(candidate.run, value)) for value in candidate.values}
        found = {value: np.mean([float(score(fn(*data), truth)["psnr"]) for truth, *data in tuning]) for value, fn in fns.items()}
        best = max(found, key=lambda value: found[value])
        if len(found) > 1 and best in (candidate.values[0], candidate.values[-1]):
            print(f"{name}, {n}: {candidate.tuned} is at the end of what was tried: {found}")
        answers = [fns[best](*data) for _, *data in tests]
        scores = [jax.device_get(score(x, truth)) for x, (truth, *_) in zip(answers, tests, strict=True)]
        (level, half), (similarity, _) = (confidence_interval([float(s[c]) for s in scores]) for c in ("psnr", "ssim"))
        rows.append(
            {
                problem.title: n,
                "PSNR [dB]": f"{level:.2f} ± {half:.2f}",
                "SSIM": similarity,
                "steps": best if candidate.steps == "tuned" else candidate.steps,
            }
        )
        rows[-1]["tuned"] = f"{candidate.tuned} {best:g}" if len(found) > 1 else "-"
        contenders[n] = functools.partial(fns[best], *tests[0][1:])
        shown[n], captions[n] = answers[0], jax.tree.map(float, scores[0])
    times, _ = race.race(contenders, turns=5, seconds=10)
    for row in rows:
        row["ms"] = race.milliseconds(times[row[problem.title]])
    images = {n: np.asarray(jnp.abs(x).reshape(-1, *x.shape[-2:])[-1]) for n, x in (shown | {"truth": tests[0][0]}).items()}
    figure(_path(name), images, [], captions, problem.unit, problem.pixel_size, problem.title)
    return rows


def _path(name):
    path = ROOT / "docs" / "choosing_a_baseline" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _picture(config, units, problem, answers, scores):
    def shown(x):
        return np.asarray(units.display(units.decode(x)))

    images = {n: shown(x) for n, x in answers.items()} | {"truth": shown(problem.truth)}
    pixel_size = getattr(problem.A, "pixel_size", None)
    size = float(pixel_size) if pixel_size is not None and jnp.ndim(pixel_size) == 0 else None
    figure(_path(config.name), images, [], jax.tree.map(float, scores), units.name, size, PROBLEMS[config.name])


TABLES = {name: functools.partial(table, name) for name in PROBLEMS}
TABLES |= {name: functools.partial(contest, name) for name in ("deblurring", "emission", "beating_heart")}

if __name__ == "__main__":
    race.main(__doc__, TABLES)
