"""Reconstruct a scan with its uncertainty: python sample.py [CONFIG] [--input FILE] [--output DIR] [--method NAME] [--num-samples N] [--seed S]
[--slice N] [--modality ct|mri|image] [--array NAME] [--check-adjoint 1] [--history 1] [--field.of.config VALUE].

The input is an image (.npy, .npz, .dcm, .nii, .nii.gz), which is measured by the config's scanner first, or measured data (.npz with `sinogram` and
`angles`, or `kspace`); without one a phantom is generated. Without CONFIG the one of the input's modality is taken.
Writes `figure.png`, `report.json`, `reconstruction.npz` and, for DICOM and NIfTI, a file of the same kind.

The answers are the direct inverse, the config's baseline and that of the method: posterior samples, or one image without uncertainty where the
method is classical, plug-and-play or learned (`--method fista_tv`). `--check-adjoint 1` first holds the operator against its adjoint; `--history 1`
adds how much each step of the method changed the image to the report.

An input may be a folder, or a `.npz` whose `--array NAME` is `[n, h, w]`: each of its files or images is reconstructed into `OUTPUT/FILE` or
`OUTPUT/NAME_0000`, which is there whole or not at all. The same command skips those that are there, so that it goes on after a stop and takes what is
new; a folder of other settings is refused. Processes, which find each other as `medjax/training/cluster.py` says, share the inputs. What cannot be
used is told in one line each. The status is 0 where all are there, 3 where some were skipped, 2 where nothing was tried.
"""

import contextlib
import json
import sys
import zlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medjax.checks import check_adjoint
from medjax.config import ConfigError, Learned, Solve, build
from medjax.data.read import read
from medjax.data.write import write_like
from medjax.experiment.answers import answered, programs
from medjax.experiment.assess import assess, calibration
from medjax.experiment.batch import each, first_readable, inputs
from medjax.experiment.command_line import parse, run, versions
from medjax.experiment.ledger import header
from medjax.experiment.problem import from_scan, unseen
from medjax.experiment.reconstruct import checked_method, loaded_weights
from medjax.experiment.record import to_json
from medjax.implicit import trouble
from medjax.report.atomic import prepare_folder, write_atomically
from medjax.report.figure import figure
from medjax.report.table import method_table
from medjax.training import cluster

CONFIGS = {"ct": "configs/ct_torso.py", "mri": "configs/mri_brain.py", "image": "configs/cxr_pneumonia.py"}
RESULTS = ("figure.png", "report.json", "reconstruction.npz")
KINDS = {"dicom": ".dcm", "nifti": ".nii.gz"}
OPTIONS = {"input": "", "output": "out/sample", "method": "", "num_samples": 0, "seed": -1, "slice": -1, "modality": ""}
OPTIONS |= {"array": "", "check_adjoint": 0, "history": 0}


def main(arguments):
    """Reconstruct what the command line names."""
    cluster.join()
    scans = []

    def fitting_config(options):
        if options.input:
            scans.append(first_readable(_inputs(options)) if _many(options) else _read(options))
        return CONFIGS.get(scans[0].modality if scans else options.modality, CONFIGS["ct"])

    options, config = parse(arguments, __doc__, OPTIONS, fitting_config)
    if options.modality not in ("", *CONFIGS):
        raise ConfigError(f"--modality is {options.modality!r}; one of {', '.join(CONFIGS)} is needed")
    if options.array and not options.input:
        raise ConfigError(f"--array is {options.array!r}; an --input with an array of this name is needed")
    many = _inputs(options) if _many(options) else {}
    scan = None if many else scans[0] if scans else _read(options) if options.input else None
    method, num_samples = checked_method(config, options.method, options.num_samples)
    if options.history and not isinstance(config.methods[method], Solve):
        raise ConfigError(f"--history is {options.history}, but {method} is not solved for and has none; a method that is solved for is needed")
    key = jax.random.key(config.seed if options.seed < 0 else options.seed)
    weights, remarks = loaded_weights(config, (config.baseline, method))
    on_step, watching = _watched(config, method, num_samples)
    compiled = programs(config, method, num_samples, on_step, bool(options.history))

    def reconstruct(key, scan, folder, source):
        key_data, key_samples = jax.random.split(key)
        problem = from_scan(config, key_data, scan) if scan else unseen(config, key_data)
        remarked = [*remarks]
        if scan and (scan.measurement is not None or scan.pixel_size) and isinstance(config.methods[method], Learned):
            remarked.append(f"{method} was trained on the geometry of {config.name}, which these data may not have")
        problem = problem._replace(assumed=(*remarked, *problem.assumed))
        folder = prepare_folder(folder)
        for line in problem.assumed:
            print(line)
        if options.check_adjoint:
            gap = check_adjoint(problem.A, jax.ShapeDtypeStruct(config.prior.shape, jnp.zeros(()).dtype))
            print(f"adjoint: <A x, y> and <x, A^H y> differ by {float(gap):.1e} of |A x| |y|")
        found = answered(config, method, compiled, problem, weights, key_samples, watching)
        for name, x in found.images.items():
            if not bool(jnp.all(jnp.isfinite(x))):
                raise ValueError(f"{name} holds NaN or infinite pixels; the measurement or the settings of config {config.name} are out of range")
        record = _record(options, config, method, problem, found, source)
        _write(folder, config, problem, found, record, scan)
        _tell(config, problem, record)
        return record

    output = Path(options.output)
    if many:
        return _each(options, config, weights, many, key, reconstruct)
    if options.input and Path(options.input).resolve() in [(output / name).resolve() for name in (*RESULTS, *_same_kind(config))]:
        raise ValueError(f"{options.input}: the results would replace the input; another --output is needed")
    record = reconstruct(key, scan, output, options.input or "generated")
    print(f"figure: {output / 'figure.png'}   report: {output / 'report.json'}   images: {output / 'reconstruction.npz'}")
    if record["not_finite"]:
        raise ValueError(f"{record['not_finite']}; {output} holds the other {record['num_samples']}")
    return 0


def _each(options, config, weights, many, key, reconstruct):
    """All inputs of a folder or a stack; 3 where some were skipped."""
    output = Path(options.output)
    if output.resolve() == Path(options.input).resolve():
        raise ValueError(f"{options.input}: the results would lie among the inputs; another --output is needed")
    prepare_folder(output)

    def one(name, scan, folder):
        print(f"{name}:")
        source = f"{options.input}:{name}" if options.array else scan.source[0]
        record = reconstruct(jax.random.fold_in(key, zlib.crc32(name.encode())), scan, folder, source)  # of its own, whatever lies beside it
        if record["not_finite"]:
            raise ValueError(record["not_finite"])

    found = each(output, header(config, vars(options), weights), many, one, partial(print, file=sys.stderr))
    if cluster.first():
        last = [list(methods.values())[-1] for methods in found.values()]
        columns = [name for name in ("psnr", "ssim", "residual", "seconds") if any(name in row for row in last)]
        rows = {str(i): [name, *(row.get(c) for c in columns)] for i, (name, row) in enumerate(zip(found, last, strict=True), 1)}
        method_table(rows, ["input", *columns], "")
        print(f"{len(found)} of {len(many)} inputs are reconstructed in {output}" + f", {len(many) - len(found)} skipped" * (len(found) < len(many)))
    return 3 * (len(found) < len(many))


def _many(options):
    """Whether the input is more than one."""
    return bool(options.input) and (bool(options.array) or Path(options.input).is_dir())


def _inputs(options):
    """What reads each input, by name."""
    return inputs(options.input, options.array, None if options.slice < 0 else options.slice, options.modality or None)


def _read(options):
    """The scan that the options name."""
    return read(options.input, slice_index=None if options.slice < 0 else options.slice, modality=options.modality or None)


def _same_kind(config):
    """Names of the files of the user's kind, one for each answer that may be asked for."""
    return [f"{name}{ending}" for name in ("posterior_mean", *config.methods) for ending in KINDS.values()]


def _watched(config, method, num_samples):
    """What is called once a step of the method, and the context that shows how far it is."""
    settings = config.methods[method]
    total = max(num_samples, 1) * (1 if isinstance(settings, Learned) else settings.num_steps)
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), disable=not cluster.first())
    task = bar.add_task(f"{num_samples} posterior samples by {method}" if num_samples else f"steps of {method}", total=total)

    @contextlib.contextmanager
    def watching():
        bar.reset(task)
        with bar:
            yield
            bar.update(task, completed=total)

    return partial(bar.advance, task), watching


def _record(options, config, method, problem, found, source):
    """What `report.json` holds."""
    spread = {} if found.samples is None else calibration(problem, found.samples)
    scores = {name: {k: float(v) for k, v in assess(problem, x).items()} for name, x in found.images.items()}
    return {
        "methods": {name: row | {"seconds": found.seconds[name]} for name, row in scores.items()},
        **{name: float(value) for name, value in spread.items()},
        "outcomes": found.outcomes,
        "method": method,
        "num_samples": 0 if found.samples is None else len(found.samples),
        "not_finite": found.broken,
        "seconds": sum(found.seconds.values()),
        "input": source,
        "slice": None if options.slice < 0 else options.slice,
        "pixel_size_mm": problem.pixel_size,
        "assumed": problem.assumed,
        "versions": versions(),
        "config": json.loads(to_json(config)),
    }


def _tell(config, problem, record):
    """The table, and how the solvers ended, on the terminal."""
    columns = ["psnr", "ssim", "nmse", "residual", "seconds"] if problem.truth is not None else ["residual", "seconds"]
    method_table({name: [row[c] for c in columns] for name, row in record["methods"].items()}, columns)
    for name, outcome in record["outcomes"].items():
        ending = f"{'converged' if outcome['converged'] else 'stopped'} after {outcome['num_steps']} steps"
        if line := trouble(outcome):
            print(f"{name}: {line}")
        elif "lower_steps" in outcome:
            print(f"{name}: {ending}, with a residual of {outcome['lower_residual']:.1e}")
        elif not isinstance(config.methods[name], Learned):  # a network has no steps to tell of
            print(f"{name}: {ending}, the last of which changed it by {outcome['change']:.1e}")
    if "coverage" in record:
        print(f"90 % intervals cover {100 * record['coverage']:.1f} % of the pixels; a residual of 1 fits the data as well as their noise allows")


def _write(output, config, problem, found, record, scan):
    """All files of a result."""
    units = build(config.prior.units)

    def shown(x):
        image = np.asarray(units.display(units.decode(x)), np.float32)
        return image if units.name == "HU" else image * problem.scale

    images = {name: shown(x) for name, x in found.images.items()}
    samples = np.array([shown(x) for x in ([] if found.samples is None else found.samples)])
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
