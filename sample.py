"""Reconstruct a scan with its uncertainty: python sample.py [CONFIG] [--input FILE] [--output DIR] [--method NAME] [--num-samples N] [--seed S]
[--slice N] [--modality ct|mri] [--field.of.config VALUE].

The input is an image (.npy, .npz, .dcm, .nii, .nii.gz), which is measured by the config's scanner first, or measured data (.npz with `sinogram` and
`angles`, or `kspace`); without one a phantom is generated. Without CONFIG the one of the input's modality is taken.
Writes `figure.png`, `report.json`, `reconstruction.npz` and, for DICOM and NIfTI, a file of the same kind.
"""

import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medjax.config import ConfigError, build, to_json
from medjax.data.read import read
from medjax.data.write import write_like
from medjax.experiment.assess import assess, calibration
from medjax.experiment.command_line import located, parse, run, versions
from medjax.experiment.prior import initialise
from medjax.experiment.problem import from_phantom, from_scan
from medjax.experiment.reconstruct import checked_method, direct, posterior, total_variation
from medjax.report.atomic import prepare_folder, write_atomically
from medjax.report.figure import figure
from medjax.report.table import method_table
from medjax.training.weights import load_weights

CONFIGS = {"ct": "configs/ct_torso.py", "mri": "configs/mri_brain.py"}
RESULTS = ("figure.png", "report.json", "reconstruction.npz", "posterior_mean.dcm", "posterior_mean.nii.gz")
OPTIONS = {"input": "", "output": "out/sample", "method": "", "num_samples": 0, "seed": -1, "slice": -1, "modality": ""}


def main(arguments):
    """Reconstruct what the command line names."""
    scans = []

    def fitting_config(options):
        if options.input:
            scans.append(_read(options))
        return CONFIGS.get(scans[0].modality if scans else options.modality, CONFIGS["ct"])

    options, config = parse(arguments, __doc__, OPTIONS, fitting_config)
    if options.modality not in ("", *CONFIGS):
        raise ConfigError(f"--modality is {options.modality!r}; one of {', '.join(CONFIGS)} is needed")
    scan = scans[0] if scans else _read(options) if options.input else None
    method, num_samples = checked_method(config, options.method, options.num_samples)
    key = jax.random.key(config.seed if options.seed < 0 else options.seed)
    params = load_weights(located(config.prior.checkpoint), jax.eval_shape(lambda k: initialise(config.prior, k), key))
    key_data, key_samples = jax.random.split(key)
    problem = from_scan(config, key_data, scan) if scan else from_phantom(config, key_data)

    if options.input and Path(options.input).resolve() in [(Path(options.output) / name).resolve() for name in RESULTS]:
        raise ValueError(f"{options.input}: the results would replace the input; another --output is needed")
    output = prepare_folder(options.output)
    for line in problem.assumed:
        print(line)

    answers, seconds = _reconstruct(config, problem, params, key_samples, method, num_samples)
    for name, x in answers.items():
        if not bool(jnp.all(jnp.isfinite(x))):
            raise ValueError(f"{name} holds NaN or infinite pixels; the measurement or the settings of config {config.name} are out of range")
    methods = {
        name: {k: float(v) for k, v in assess(problem, x).items()} | {"seconds": seconds[name]} for name, x in answers.items() if name != "samples"
    }
    record = {
        "methods": methods,
        **{name: float(value) for name, value in calibration(problem, answers["samples"]).items()},
        "method": method,
        "num_samples": num_samples,
        "seconds": sum(seconds.values()),
        "input": options.input or "generated",
        "slice": None if options.slice < 0 else options.slice,
        "pixel_size_mm": problem.pixel_size,
        "assumed": problem.assumed,
        "versions": versions(),
        "config": json.loads(to_json(config)),
    }
    _write(output, config, problem, answers, record, scan)
    columns = ["psnr", "ssim", "nmse", "residual", "seconds"] if problem.truth is not None else ["residual", "seconds"]
    method_table({name: [row[c] for c in columns] for name, row in methods.items()}, columns)
    if "coverage" in record:
        print(f"90 % intervals cover {100 * record['coverage']:.1f} % of the pixels; a residual of 1 fits the data as well as their noise allows")
    print(f"figure: {output / 'figure.png'}   report: {output / 'report.json'}   images: {output / 'reconstruction.npz'}")
    return 0


def _read(options):
    """The scan that the options name."""
    return read(options.input, slice_index=None if options.slice < 0 else options.slice, modality=options.modality or None)


def _reconstruct(config, problem, params, key, method, num_samples):
    """Answers by name, and the seconds that each took, compilation included."""
    A, y, sigma_y = problem.A, problem.y, problem.sigma_y
    answers, seconds = {}, {}

    def timed(name, fn, *args):
        clock = time.perf_counter()
        answers[name] = jax.block_until_ready(jax.jit(fn)(*args))
        seconds[name] = round(time.perf_counter() - clock, 3)
        return answers[name]

    start = timed(config.classical.direct.name, direct(config), A, y)
    timed("tv", total_variation(config), A, y, sigma_y, start)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns)
    samples_fn = posterior(config, method, num_samples, lambda: bar.advance(task))
    total = num_samples * config.methods[method].num_steps
    task = bar.add_task(f"{num_samples} posterior samples by {method}", total=total)
    with bar:
        timed("samples", samples_fn, params, key, A, y, sigma_y)
        bar.update(task, completed=total)
    answers["posterior_mean"], seconds["posterior_mean"] = jnp.mean(answers["samples"], 0), seconds.pop("samples")
    return answers, seconds


def _write(output, config, problem, answers, record, scan):
    """All files of a result."""
    units = build(config.prior.units)

    def shown(x):
        image = np.asarray(units.display(units.decode(x)), np.float32)
        return image if units.name == "HU" else image * problem.scale

    images = {name: shown(x) for name, x in answers.items() if name != "samples"}
    samples = np.stack([shown(x) for x in answers["samples"]])
    images["posterior_std"] = samples.std(0, ddof=1) if len(samples) > 1 else np.zeros_like(samples[0])
    if problem.truth is not None:
        images["truth"] = shown(problem.truth)
    written = {"dicom": output / "posterior_mean.dcm", "nifti": output / "posterior_mean.nii.gz"}
    own = written.pop(scan.source[1], None) if scan else None
    if own:  # first, for it depends on the user's file
        write_like(scan.source[0], images["posterior_mean"], own, problem.pixel_size, "medjax posterior mean", record["slice"])
    for stale in written.values():  # of an earlier run, on another patient's file
        stale.unlink(missing_ok=True)
    with write_atomically(output / "reconstruction.npz") as path, Path(path).open("wb") as file:
        arrays = {"samples": samples, "measurement": np.asarray(problem.y), **images}
        if problem.pixel_size:
            arrays["pixel_size"] = np.asarray(problem.pixel_size)
        np.savez_compressed(file, allow_pickle=False, **arrays)
    with write_atomically(output / "report.json") as path:
        Path(path).write_text(json.dumps(record, indent=1, default=str) + "\n")
    figure(output / "figure.png", images, samples[:2], record["methods"], unit=units.name, pixel_size=problem.pixel_size, title=config.name)


if __name__ == "__main__":
    sys.exit(run(main))
