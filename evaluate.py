"""Methods over a set of images: python evaluate.py CONFIG [--num-images N] [--input FILE.npz --array NAME] [--output DIR] [--method NAME,NAME,...]
[--num-samples K] [--seed S] [--sweep methods.NAME.FIELD=VALUE,VALUE,...] [--sweep-images N] [--sweep-array NAME] [--field.of.config VALUE].

Without an input the images are generated and were never trained on, or of the test part of the config's files; an input is an `.npz` with an array
`[n, h, w]`, HU for CT. All are measured by the config's scanner, where files hold no data. The direct inverse and the config's baseline stand beside
the methods, of which at most one may draw posterior samples. Writes `evaluation.json` (every case, means, 95 % confidence intervals) and
`evaluation.md`.

`--sweep` first finds the value of highest PSNR on validation images, none of which is evaluated: others that are generated, the validation part of
files, or of an input those of `--sweep-array`. It writes their curve, `sweep.png`, and evaluates with that value.

The images are spread over all devices of all processes, which find each other as `medjax/training/cluster.py` says: each device answers a case of its
own, and the processes meet after each. Every case is written to `cases.jsonl` (`cases.P.jsonl` of each of several processes) as it is done. SIGTERM
and SIGINT end an evaluation after the cases it is in, with status 143 and 130. The same command goes on with those that are missing, also after a
kill, and ends at the same numbers, on other devices up to rounding. A folder that holds an unfinished evaluation of another config, other options,
weights, input or versions is refused. A finished one is replaced: the same command starts anew. One that ended at a case that is not finite goes on
by the same command, and is replaced by another.
"""

import json
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medjax.config import build
from medjax.data.files import spread
from medjax.data.read import read_stack
from medjax.experiment.case import COLUMNS, case, checked_methods, explanation, troubles
from medjax.experiment.command_line import parse, run, versions
from medjax.experiment.ledger import begin, close, header
from medjax.experiment.problem import example, fitted, opened, operator, phantom, simulator
from medjax.experiment.reconstruct import loaded_weights
from medjax.experiment.record import to_json
from medjax.experiment.rounds import evaluated, on_all_devices, on_each_device, signals
from medjax.experiment.sweep import COLUMNS as SWEEP_COLUMNS
from medjax.experiment.sweep import evaluation_key, read_sweep, tuned, validation_key
from medjax.metrics.confidence_interval import confidence_interval
from medjax.override import override
from medjax.report.atomic import prepare_folder, write_atomically
from medjax.report.curve import curve
from medjax.report.table import markdown_table, method_table
from medjax.training import cluster

OPTIONS = {"input": "", "array": "", "num_images": 64, "output": "out/evaluate", "method": "", "num_samples": 0, "seed": 10_000}
OPTIONS |= {"sweep": "", "sweep_images": 16, "sweep_array": ""}
DIGITS = {"psnr": 2, "ssim": 3, "nmse": 4, "residual": 2}


def main(arguments):
    """Evaluate what the command line names."""
    cluster.join()
    options, config = parse(arguments, __doc__, OPTIONS)
    sweep = read_sweep(config, options.sweep) if options.sweep else None
    named, num_samples = checked_methods(config, ",".join(filter(None, (options.method, sweep and sweep.method))), options.num_samples)
    methods = tuple(dict.fromkeys((config.baseline, *named)))
    if options.num_images < 1 or options.sweep_images < 2:
        found = f"got --num-images {options.num_images} and --sweep-images {options.sweep_images}"
        raise ValueError(f"at least 1 image to evaluate and 2 to tune on are needed, {found}")
    if (options.array or options.sweep_array) and not options.input:
        raise ValueError(f"got --array {options.array!r} and --sweep-array {options.sweep_array!r}; an --input with arrays of these names is needed")
    if options.sweep_array and not sweep:
        raise ValueError(f"--sweep-array is {options.sweep_array!r}; a --sweep that tunes on it is needed")
    weights, remarks = loaded_weights(config, methods)
    if cluster.first():
        print(*remarks, sep="\n", end="\n" * bool(remarks))
    A = operator(config.measure, {})
    simulator(config.measure, A)  # refused here where its rays are others
    tests, validation = _images(config, options, sweep, A)
    key, programs, samples = jax.random.key(0), {}, 0
    if sweep:
        _, samples = checked_methods(config, sweep.method, options.num_samples)
        programs = {value: jax.jit(case(tried, [sweep.method], samples)) for value, tried in zip(sweep.values, sweep.configs, strict=True)}
    final = jax.jit(case(config, methods, num_samples))
    for program in (final, *programs.values()):  # settings that do not fit are found at once
        jax.eval_shape(program, weights, A, key, *tests[0](key))
    output = prepare_folder(options.output)
    ledger, known = begin(output, header(config, vars(options), weights))
    weights, A, choice = *on_all_devices((weights, A)), None

    def all_of(title, config, program, names, num, jobs):
        answer, explain = on_each_device(program), explanation(config, names, num) if num else None
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, disable=not cluster.first()) as bar, signals() as told:
            row = bar.add_task(f"{config.name}, {title}", total=len(jobs))
            block = partial(answer, weights, A)
            done = evaluated(ledger, known, jobs, block, explain and partial(explain, weights, A), told, partial(bar.advance, row))
        if done.stopped and cluster.first():
            print(f"stopped by signal {done.stopped} after {len(done.lines)} of {len(jobs)} images; the same command goes on from there")
        return done

    found = {}
    for value, program in programs.items():
        assert sweep
        jobs = {f"{sweep.field} {value}, validation image {i}": partial(_given, validation_key(i), draw) for i, draw in enumerate(validation)}
        done = all_of(f"{sweep.field} {value}", sweep.configs[sweep.values.index(value)], program, [sweep.method], samples, jobs)
        if done.failed:
            close(ledger, "failed")
            raise ValueError(done.failed)
        if done.stopped:
            return 128 + done.stopped
        found[value] = list(done.lines.values())
    if sweep:
        choice = tuned(sweep, {value: [line["found"] for line in lines] for value, lines in found.items()})
        config = override(config, sweep.field, choice["best"])
        final = jax.jit(case(config, methods, num_samples))

    jobs = {f"image {i}": partial(_given, evaluation_key(options.seed, i), draw) for i, draw in enumerate(tests)}
    done = all_of(", ".join(named), config, final, methods, num_samples, jobs)
    if done.stopped:
        return 128 + done.stopped
    cases, seconds = [line["found"] for line in done.lines.values()], sum(line["seconds"] for line in sum(found.values(), [*done.lines.values()]))
    if cases and cluster.first():
        _write(output, config, options, named, num_samples, cases, choice, seconds)
    close(ledger, "failed" if done.failed else "finished")
    if done.failed:
        raise ValueError(f"{done.failed}; {output} holds the {len(cases)} images before" if cases else done.failed)
    return 0


def _given(key, draw):
    """Key, image and data of a case."""
    key_image, key_case = jax.random.split(key)
    x, y = draw(key_image)
    return key_case, x, y


def _images(config, options, sweep, A):
    """Test and validation images, `key -> (x, y)` each, y None where it is to be simulated: of the input, of the config's files, or drawn."""
    units, wanted = build(config.prior.units), {"test": options.num_images, "validation": options.sweep_images if sweep else 0}
    if config.files and not options.input:
        files = opened(config, A)
        return [[lambda key, place=(part, i): example(config, files, *place) for i in spread(files, part, num)] for part, num in wanted.items()]
    if not options.input:
        generated = phantom(config)
        draw = jax.jit(lambda key: (units.encode(generated(key).image), None))
        return [[draw] * num for num in wanted.values()]

    def stack(name, num):
        name, images = read_stack(options.input, name)
        return name, [fitted(config, image)[0] for image in images[:num]]

    options.array, tests = stack(options.array, options.num_images)
    validation = []
    if sweep:
        if options.sweep_array in ("", options.array):
            raise ValueError(f"--sweep-array is {options.sweep_array!r}; an array of {options.input} beside {options.array!r} is needed to tune on")
        validation = stack(options.sweep_array, options.sweep_images)[1]
        both = {image.tobytes() for image in tests} & {image.tobytes() for image in validation}
        if both or len(validation) < 2:
            found = f"{len(validation)} images, of which {options.array!r} holds {len(both)}"
            raise ValueError(f"--sweep-array {options.sweep_array!r} has {found}; at least 2, and none that is evaluated, are needed")
    return [[lambda key, image=image: (units.encode(jnp.asarray(image)), None) for image in images] for images in (tests, validation)]


def _finite(record):
    """`record` with None for what JSON cannot say: the interval of a single case, the PSNR of an exact answer."""
    if isinstance(record, dict):
        return {name: _finite(value) for name, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [_finite(value) for value in record]
    return None if isinstance(record, float) and not np.isfinite(record) else record


def _cells(row, columns):
    """Means of a row with their intervals, as text."""
    return [f"{row[c][0]:.{DIGITS[c]}f} ± {row[c][1]:.{DIGITS[c]}f}" for c in columns]


def _sweep(output, config, choice):
    """The curve, the table on the terminal, and the lines for `evaluation.md`."""
    rows = {value: _cells(row, SWEEP_COLUMNS) for value, row in choice["values"].items()}
    psnr = [row["psnr"] for row in choice["values"].values()]
    try:
        places = [float(value) for value in rows]
    except ValueError:
        places = list(rows)
    means, halves = zip(*psnr, strict=True)
    curve(output / "sweep.png", places, means, halves, choice["field"], title=f"{config.name}, {choice['num_images']} validation images")
    line = f"{choice['field']} is {choice['best']}, the best of these on {choice['num_images']} validation images, none of which is evaluated"
    if len(set(map(str, choice["cases"].values()))) == 1:
        line += "; none of them changed an answer: what was learned, or fixed elsewhere, is not set by it"
    elif choice["at_end"]:
        line += f"; it is the {choice['at_end']} value tried, and one beyond it may be better"
    field = choice["field"].split(".")[-1]
    method_table(rows, list(SWEEP_COLUMNS), field)
    print(line)
    return f"\n\n{markdown_table(rows, list(SWEEP_COLUMNS), field)}\n\n{line}."


def _write(output, config, options, named, num_samples, cases, choice, seconds):
    """All files and the tables on the terminal."""
    names = [name for name in (config.direct.name, *config.methods, "posterior_sample", "posterior_mean") if name in cases[0]["methods"]]
    summary = {name: {c: confidence_interval([case["methods"][name][c] for case in cases]) for c in COLUMNS} for name in names}
    spread = {name: confidence_interval([case[name] for case in cases]) for name in cases[0] if name not in ("methods", "outcomes")}
    record = {"config": json.loads(to_json(config)), "versions": versions(), "options": vars(options), "seconds": seconds}
    record |= {"method": ",".join(named), "num_samples": num_samples, "num_images": len(cases), "sweep": choice}
    record |= {"methods": summary, **spread, "cases": cases}
    with write_atomically(output / "evaluation.json") as path:
        Path(path).write_text(json.dumps(_finite(record), indent=1, default=str, allow_nan=False) + "\n")
    text = _sweep(output, config, choice) if choice else ""
    rows = {name: [*_cells(row, COLUMNS[:-1]), f"{row['residual'][0]:.2f}"] for name, row in summary.items()}
    line = f"{len(cases)} images"
    if spread:
        cover, half = (100 * value for value in spread["coverage"])
        sampler = next(name for name in named if name not in names)
        line += f", {num_samples} samples by {sampler}; 90 % intervals cover {cover:.1f} ± {half:.1f} %"
    line += f"; {seconds:.0f} s"
    unsolved = troubles(cases)
    with write_atomically(output / "evaluation.md") as path:
        text = "".join(f"\n\n{found}." for found in unsolved) + text
        text = f"# {config.name}\n\n{markdown_table(rows, list(COLUMNS))}\n\n{line}; ± is a 95 % confidence interval of the mean.{text}\n"
        Path(path).write_text(text)
    method_table(rows, list(COLUMNS))
    print(line, *unsolved, sep="\n")
    print(f"table: {output / 'evaluation.md'}   all cases: {output / 'evaluation.json'}")


if __name__ == "__main__":
    sys.exit(run(main))
