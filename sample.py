"""Reconstruct a scan with its uncertainty: python sample.py [CONFIG] [--input FILE] [--output DIR] [--method NAME] [--num-samples N] [--seed S]
[--slice N] [--modality ct|mri] [--check-adjoint 1] [--history 1] [--field.of.config VALUE].

The input is an image (.npy, .npz, .dcm, .nii, .nii.gz), which is measured by the config's scanner first, or measured data (.npz with `sinogram` and
`angles`, or `kspace`); without one a phantom is generated. Without CONFIG the one of the input's modality is taken.
Writes `figure.png`, `report.json`, `reconstruction.npz` and, for DICOM and NIfTI, a file of the same kind.

The answers are the direct inverse, the config's baseline and that of the method: posterior samples, or one image without uncertainty where the
method is classical, plug-and-play or learned (`--method fista_tv`). `--check-adjoint 1` first holds the operator against its adjoint; `--history 1`
adds how much each step of the method changed the image to the report.
"""

import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medjax.checks import check_adjoint
from medjax.config import ConfigError, Learned, Method, Solve, build
from medjax.data.read import read
from medjax.data.write import write_like
from medjax.experiment.assess import assess, calibration
from medjax.experiment.command_line import parse, run, versions
from medjax.experiment.problem import from_scan, unseen
from medjax.experiment.reconstruct import broken_at, checked_method, checked_outcome, direct, finite_samples, loaded_weights, posterior, solution
from medjax.experiment.record import to_json
from medjax.implicit import trouble
from medjax.report.atomic import prepare_folder, write_atomically
from medjax.report.figure import figure
from medjax.report.table import method_table

CONFIGS = {"ct": "configs/ct_torso.py", "mri": "configs/mri_brain.py"}
RESULTS = ("figure.png", "report.json", "reconstruction.npz")
KINDS = {"dicom": ".dcm", "nifti": ".nii.gz"}
OPTIONS = {"input": "", "output": "out/sample", "method": "", "num_samples": 0, "seed": -1, "slice": -1, "modality": ""}
OPTIONS |= {"check_adjoint": 0, "history": 0}


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
    if options.history and not isinstance(config.methods[method], Solve):
        raise ConfigError(f"--history is {options.history}, but {method} is not solved for and has none; a method that is solved for is needed")
    key = jax.random.key(config.seed if options.seed < 0 else options.seed)
    weights, remarks = loaded_weights(config, (config.baseline, method))
    key_data, key_samples = jax.random.split(key)
    problem = from_scan(config, key_data, scan) if scan else unseen(config, key_data)

    output = Path(options.output)
    if options.input and Path(options.input).resolve() in [(output / name).resolve() for name in (*RESULTS, *_same_kind(config))]:
        raise ValueError(f"{options.input}: the results would replace the input; another --output is needed")
    prepare_folder(output)
    if scan and (scan.measurement is not None or scan.pixel_size) and isinstance(config.methods[method], Learned):
        remarks.append(f"{method} was trained on the geometry of {config.name}, which these data may not have")
    problem = problem._replace(assumed=(*remarks, *problem.assumed))
    for line in problem.assumed:
        print(line)
    if options.check_adjoint:
        gap = check_adjoint(problem.A, jax.ShapeDtypeStruct(config.prior.shape, jnp.zeros(()).dtype))
        print(f"adjoint: <A x, y> and <x, A^H y> differ by {float(gap):.1e} of |A x| |y|")

    answers, outcomes, seconds, broken = _reconstruct(config, problem, weights, key_samples, method, num_samples, bool(options.history))
    samples = answers.pop("samples", None)
    for name, x in answers.items():
        if not bool(jnp.all(jnp.isfinite(x))):
            raise ValueError(f"{name} holds NaN or infinite pixels; the measurement or the settings of config {config.name} are out of range")
    methods = {name: {k: float(v) for k, v in assess(problem, x).items()} | {"seconds": seconds[name]} for name, x in answers.items()}
    record = {
        "methods": methods,
        **({} if samples is None else {name: float(value) for name, value in calibration(problem, samples).items()}),
        "outcomes": outcomes,
        "method": method,
        "num_samples": 0 if samples is None else len(samples),
        "not_finite": broken,
        "seconds": sum(seconds.values()),
        "input": options.input or "generated",
        "slice": None if options.slice < 0 else options.slice,
        "pixel_size_mm": problem.pixel_size,
        "assumed": problem.assumed,
        "versions": versions(),
        "config": json.loads(to_json(config)),
    }
    _write(output, config, problem, answers, samples, record, scan)
    columns = ["psnr", "ssim", "nmse", "residual", "seconds"] if problem.truth is not None else ["residual", "seconds"]
    method_table({name: [row[c] for c in columns] for name, row in methods.items()}, columns)
    for name, outcome in outcomes.items():
        ending = f"{'converged' if outcome['converged'] else 'stopped'} after {outcome['num_steps']} steps"
        if line := trouble(outcome):
            print(f"{name}: {line}")
        elif "lower_steps" in outcome:
            print(f"{name}: {ending}, with a residual of {outcome['lower_residual']:.1e}")
        elif not isinstance(config.methods[name], Learned):  # a network has no steps to tell of
            print(f"{name}: {ending}, the last of which changed it by {outcome['change']:.1e}")
    if "coverage" in record:
        print(f"90 % intervals cover {100 * record['coverage']:.1f} % of the pixels; a residual of 1 fits the data as well as their noise allows")
    print(f"figure: {output / 'figure.png'}   report: {output / 'report.json'}   images: {output / 'reconstruction.npz'}")
    if broken:
        raise ValueError(f"{broken}; {output} holds the other {record['num_samples']}")
    return 0


def _read(options):
    """The scan that the options name."""
    return read(options.input, slice_index=None if options.slice < 0 else options.slice, modality=options.modality or None)


def _same_kind(config):
    """Names of the files of the user's kind, one for each answer that may be asked for."""
    return [f"{name}{ending}" for name in ("posterior_mean", *config.methods) for ending in KINDS.values()]


def _reconstruct(config, problem, weights, key, method, num_samples, history):
    """Answers by name, the outcome of each solver's run, the seconds that each took, compilation included, and a line on samples that broke."""
    data = problem.A, problem.y, problem.sigma_y
    answers, outcomes, seconds, programs = {}, {}, {}, {}

    def traced(name, fn, *args):
        clock, programs[name] = time.perf_counter(), jax.jit(fn)
        shapes = jax.eval_shape(programs[name], *args)
        seconds[name] = time.perf_counter() - clock
        return shapes

    def timed(name, *args):
        clock = time.perf_counter()
        found = jax.block_until_ready(programs[name](*args))
        seconds[name] = round(seconds[name] + time.perf_counter() - clock, 3)
        return found

    def solved(name):
        answers[name], outcome = timed(name, weights, *data, start)
        outcomes[name] = checked_outcome(name, outcome)

    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    settings, broken = config.methods[method], ""
    num_steps = 1 if isinstance(settings, Learned) else settings.num_steps
    total = max(num_samples, 1) * num_steps
    task = bar.add_task(f"{num_samples} posterior samples by {method}" if num_samples else f"steps of {method}", total=total)

    def on_step():
        bar.advance(task)

    # all before the first is computed: settings that do not fit are found here
    start, solves = traced(config.direct.name, direct(config), *data[:2]), not isinstance(settings, Method)
    if method != config.baseline:
        traced(config.baseline, solution(config, config.baseline), weights, *data, start)
    if solves:
        traced(method, solution(config, method, on_step, history), weights, *data, start)
    else:
        traced("posterior_mean", posterior(config, method, num_samples, on_step), weights, key, *data)

    start = answers[config.direct.name] = timed(config.direct.name, *data[:2])
    if method != config.baseline:
        solved(config.baseline)
    with bar:
        if solves:
            solved(method)
        else:
            samples = timed("posterior_mean", weights, key, *data)
            answers["samples"], broken = finite_samples(
                method, samples, num_steps, lambda: jax.jit(broken_at(config, method, num_samples))(weights, key, *data)
            )
            answers["posterior_mean"] = jnp.mean(answers["samples"], 0)
        bar.update(task, completed=total)
    return answers, outcomes, seconds, broken


def _write(output, config, problem, answers, samples, record, scan):
    """All files of a result."""
    units = build(config.prior.units)

    def shown(x):
        image = np.asarray(units.display(units.decode(x)), np.float32)
        return image if units.name == "HU" else image * problem.scale

    images, samples = {name: shown(x) for name, x in answers.items()}, np.array([shown(x) for x in ([] if samples is None else samples)])
    answer = list(images)[-1]
    if len(samples):
        images["posterior_std"] = samples.std(0, ddof=1) if len(samples) > 1 else np.zeros_like(samples[0])
    if problem.truth is not None:
        images["truth"] = shown(problem.truth)
    own = f"{answer}{KINDS[scan.source[1]]}" if scan and scan.source[1] in KINDS else ""
    if own:  # first, for it depends on the user's file
        write_like(scan.source[0], images[answer], output / own, problem.pixel_size, f"medjax {answer.replace('_', ' ')}", record["slice"])
    for stale in set(_same_kind(config)) - {own}:  # of an earlier run, on another patient's file
        (output / stale).unlink(missing_ok=True)
    with write_atomically(output / "reconstruction.npz") as path, Path(path).open("wb") as file:
        arrays = {"measurement": np.asarray(problem.y), **images} | ({"samples": samples} if len(samples) else {})
        if problem.pixel_size:
            arrays["pixel_size"] = np.asarray(problem.pixel_size)
        np.savez_compressed(file, allow_pickle=False, **arrays)
    with write_atomically(output / "report.json") as path:
        Path(path).write_text(json.dumps(record, indent=1, default=str) + "\n")
    figure(output / "figure.png", images, samples[:2], record["methods"], unit=units.name, pixel_size=problem.pixel_size, title=config.name)


if __name__ == "__main__":
    sys.exit(run(main))
