"""Every method over a set of images: python evaluate.py CONFIG [--num-images N] [--input FILE.npz --array NAME] [--output DIR] [--method NAME]
[--num-samples K] [--seed S] [--field.of.config VALUE].

Without an input the images are generated and were never trained on; an input is an `.npz` with an array `[n, h, w]`, HU for CT. All are measured by
the config's scanner. Writes `evaluation.json` (every case, means, 95 % confidence intervals) and `evaluation.md`.
"""

import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medjax.config import bind, build, to_json
from medjax.data.read import read_stack
from medjax.experiment.assess import assess, calibration
from medjax.experiment.command_line import located, parse, run, versions
from medjax.experiment.prior import initialise
from medjax.experiment.problem import fitted, operator, simulate
from medjax.experiment.reconstruct import checked_method, direct, posterior, total_variation
from medjax.metrics.confidence_interval import confidence_interval
from medjax.report.atomic import prepare_folder, write_atomically
from medjax.report.table import markdown_table, method_table
from medjax.training.weights import load_weights

OPTIONS = {"input": "", "array": "", "num_images": 64, "output": "out/evaluate", "method": "", "num_samples": 0, "seed": 10_000}
COLUMNS = ["psnr", "ssim", "nmse", "residual"]


def main(arguments):
    """Evaluate what the command line names."""
    options, config = parse(arguments, __doc__, OPTIONS)
    key = jax.random.key(options.seed)
    method, num_samples = checked_method(config, options.method, options.num_samples)
    units, phantom = build(config.prior.units), bind(config.prior.data)
    params = load_weights(located(config.prior.checkpoint), jax.eval_shape(lambda k: initialise(config.prior, k), key))
    truths = None
    if options.input:
        options.array, images = read_stack(options.input, options.array)
        truths = [fitted(config, image)[0] for image in images[: options.num_images]]
    num_images = len(truths) if truths is not None else options.num_images
    if options.num_images < 1 or num_samples < 2:
        raise ValueError(f"at least 1 image and 2 samples are needed, got --num-images {options.num_images} and --num-samples {num_samples}")
    output = prepare_folder(options.output)

    first, tv, samples_fn = direct(config), total_variation(config), posterior(config, method, num_samples)

    @jax.jit
    def draw(key):
        return units.encode(phantom(key).image)

    @jax.jit
    def case(params, A, key, x):
        key_noise, key_samples = jax.random.split(key)
        problem = simulate(config, A, key_noise, x)
        start = first(problem.A, problem.y)
        samples = samples_fn(params, key_samples, problem.A, problem.y, problem.sigma_y)
        answers = {
            config.classical.direct.name: start,
            "tv": tv(problem.A, problem.y, problem.sigma_y, start),
            "posterior_mean": jnp.mean(samples, 0),
        }
        answers["posterior_sample"] = samples[0]
        return {name: assess(problem, x) for name, x in answers.items()}, calibration(problem, samples)

    A, cases, clock = operator(config.measure, {}), [], time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        for i in bar.track(range(num_images), description=f"{config.name}, {method}"):
            key_image, key_case = jax.random.split(jax.random.fold_in(key, i))
            x = draw(key_image) if truths is None else units.encode(jnp.asarray(truths[i]))
            methods, spread = jax.device_get(case(params, A, key_case, x))
            bad = [name for name, row in methods.items() if np.isnan(list(row.values())).any()]
            if bad:
                raise ValueError(f"{bad[0]} holds NaN for image {i}; the measurement or the settings of config {config.name} are out of range")
            cases.append({"methods": methods, **spread})
    _write(output, config, options, method, num_samples, jax.tree.map(float, cases), time.perf_counter() - clock)
    return 0


def _finite(record):
    """`record` with None for what JSON cannot say: the interval of a single case, the PSNR of an exact answer."""
    if isinstance(record, dict):
        return {name: _finite(value) for name, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [_finite(value) for value in record]
    return None if isinstance(record, float) and not np.isfinite(record) else record


def _write(output, config, options, method, num_samples, cases, seconds):
    """Both files and the table on the terminal."""
    summary = {name: {c: confidence_interval([case["methods"][name][c] for case in cases]) for c in COLUMNS} for name in cases[0]["methods"]}
    spread = {name: confidence_interval([case[name] for case in cases]) for name in cases[0] if name != "methods"}
    record = {"config": json.loads(to_json(config)), "versions": versions(), "options": vars(options), "seconds": seconds}
    record |= {"method": method, "num_samples": num_samples, "num_images": len(cases), "methods": summary, **spread, "cases": cases}
    with write_atomically(output / "evaluation.json") as path:
        Path(path).write_text(json.dumps(_finite(record), indent=1, default=str, allow_nan=False) + "\n")
    digits = {"psnr": 2, "ssim": 3, "nmse": 4, "residual": 2}
    rows = {name: [f"{row[c][0]:.{digits[c]}f} ± {row[c][1]:.{digits[c]}f}" for c in COLUMNS[:3]] for name, row in summary.items()}
    for name, row in summary.items():
        rows[name].append(f"{row['residual'][0]:.2f}")
    cover, half = spread["coverage"]
    line = f"{len(cases)} images, {num_samples} samples by {method}; 90 % intervals cover {100 * cover:.1f} ± {100 * half:.1f} %; {seconds:.0f} s"
    with write_atomically(output / "evaluation.md") as path:
        Path(path).write_text(f"# {config.name}\n\n{markdown_table(rows, COLUMNS)}\n\n{line}; ± is a 95 % confidence interval of the mean.\n")
    method_table(rows, COLUMNS)
    print(line)
    print(f"table: {output / 'evaluation.md'}   all cases: {output / 'evaluation.json'}")


if __name__ == "__main__":
    sys.exit(run(main))
