"""Draw images of a prior, of no scan: python generate.py CONFIG [--num-images N] [--judge 1] [--output DIR] [--seed S] [--prior.label CLASS]
[--prior.guidance W] [--field.of.config VALUE].

Writes `images.npz` (`images` `[n, h, w]` in the unit of the config, `labels` `[n]`, -1 for any class), `sheet.png` and `report.json`. A prior with
classes draws each of them in turn, or the one that is named; guidance above 0 exaggerates it (classifier-free).

`--judge 1` also holds them against the images that the prior was trained on and those that were held out: `generation.json`, `generation.md`, and
`nearest.png`, which shows whether training images are copied. The column "held out" says what real images get in place of the generated ones.

Images are spread over all devices of all processes, which find each other as `medjax/training/cluster.py` says, and written once, to `blocks/`:
SIGTERM and SIGINT end it after those it is at, with status 143 and 130, and the same command goes on from there, also after a kill, on other devices,
or for more of them. A folder that holds images of another prior, seed, weights or versions is refused.
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medjax.config import ConfigError, build
from medjax.experiment.command_line import parse, run, versions
from medjax.experiment.generation import displayed, drawing, generated, prior_weights
from medjax.experiment.judged import judged
from medjax.experiment.ledger import header
from medjax.experiment.record import to_json
from medjax.experiment.rounds import signals
from medjax.report.atomic import prepare_folder, write_atomically
from medjax.report.figure import sheet
from medjax.report.table import markdown_table, method_table
from medjax.training import cluster

OPTIONS = {"num_images": 16, "judge": 0, "output": "out/generate", "seed": -1}
SHOWN = 64


def main(arguments):
    """Draw what the command line names."""
    cluster.join()
    options, config = parse(arguments, __doc__, OPTIONS)
    least = 2 if options.judge else 1
    if options.num_images < least:
        raise ConfigError(f"--num-images is {options.num_images}; at least {least} is needed{' to be judged' * bool(options.judge)}")
    seed, (weights, said) = config.seed if options.seed < 0 else options.seed, prior_weights(config)
    if cluster.first():
        print(*said, sep="\n", end="\n" * bool(said))
    judge, output = judged(config, seed) if options.judge else None, prepare_folder(options.output)
    record = header(drawing(config), {"seed": seed}, weights)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not cluster.first()) as bar, signals() as told:
        row = bar.add_task(f"images of {config.name}", total=options.num_images)
        made = generated(config, weights, options.num_images, seed, output, record, told, partial(bar.advance, row))
    if made.stopped:
        if cluster.first():
            print(f"stopped by signal {made.stopped} after {len(made.images)} of {options.num_images} images; the same command goes on from there")
        return 128 + made.stopped
    if cluster.first():
        _write(output, config, options, seed, made)
        if judge:
            _write_judged(output, config, options, made, judge(made.images, made.labels))
    return 0


def _write(output, config, options, seed, made):
    """The images, a sheet of them and the report."""
    prior, unit, images = config.prior, build(config.prior.units).name, displayed(config, made.images)
    with write_atomically(output / "images.npz") as path, Path(path).open("wb") as file:
        np.savez_compressed(file, images=images.astype(np.float32), labels=made.labels, allow_pickle=False)
    order = np.argsort(made.labels[:SHOWN], kind="stable")
    what = (prior.label or ", ".join(prior.classes)) + f", guidance {prior.guidance:g}" * bool(prior.guidance)
    sheet(output / "sheet.png", images[:SHOWN][order], unit=unit, title=f"{config.name}: {what or 'images of the prior'}")
    record = {"num_images": len(images), "seed": seed, "seconds": made.seconds, "classes": prior.classes, "options": vars(options)}
    record |= {"versions": versions(), "config": json.loads(to_json(config))}
    with write_atomically(output / "report.json") as path:
        Path(path).write_text(json.dumps(record, indent=1, default=str) + "\n")
    print(f"{len(images)} images in {made.seconds:.0f} s: {output / 'images.npz'}   sheet: {output / 'sheet.png'}")


def _write_judged(output, config, options, made, found):
    """What was judged: the table on the terminal, and files."""
    names = list(dict.fromkeys(name for measures in found.measures.values() for name in measures))
    rows = {name: [measures.get(name) for measures in found.measures.values()] for name in names}
    record = {"num_images": len(made.images), "num_training": found.num_training, "num_held_out": found.num_held_out, "seconds": made.seconds}
    record |= {"measures": found.measures, "left_out": found.left_out, "options": vars(options), "versions": versions()}
    record |= {"config": json.loads(to_json(config))}
    with write_atomically(output / "generation.json") as path:
        Path(path).write_text(json.dumps(record, indent=1, default=str) + "\n")
    line = f"{len(made.images)} images, held against {found.num_training} of training and {found.num_held_out} held out"
    with write_atomically(output / "generation.md") as path:
        text = "".join(f"\n\nLeft out: {each}." for each in found.left_out)
        Path(path).write_text(f"# {config.name}, generated images\n\n{markdown_table(rows, list(found.measures), 'measure')}\n\n{line}.{text}\n")
    pairs, unit = displayed(config, np.concatenate([found.nearest, found.neighbours])), build(config.prior.units).name
    sheet(output / "nearest.png", pairs, unit=unit, title=f"{len(found.nearest)} images nearest to training images, then those")
    method_table(rows, list(found.measures), "measure")
    print(line, *(f"left out: {each}" for each in found.left_out), sep="\n")
    print(f"table: {output / 'generation.md'}   record: {output / 'generation.json'}   beside the nearest: {output / 'nearest.png'}")


if __name__ == "__main__":
    sys.exit(run(main))
