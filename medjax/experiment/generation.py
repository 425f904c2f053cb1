"""Images of the prior alone, drawn block by block on all devices, each written once."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medjax import config as configs
from medjax.config import Config
from medjax.experiment.batch import claim
from medjax.experiment.command_line import located, versions
from medjax.experiment.ledger import header
from medjax.experiment.prior import drawn, initialise
from medjax.experiment.record import to_json
from medjax.experiment.rounds import signals
from medjax.report.atomic import prepare_folder, write_atomically
from medjax.report.figure import sheet
from medjax.training import cluster, mesh
from medjax.training.weights import load_weights

_BLOCK = 16
"""Images of a block at most, of one device."""
_AT_ONCE = 4
"""Of them, in memory together."""
_SHOWN = 64
"""Images of a sheet."""


class Generated(NamedTuple):
    """What `generated` gives.

    images: `[num, ...]` as networks see them. labels: `[num]` classes from 0, -1 where none was asked for.
    seconds: that all of them took, also those of earlier runs.
    stopped: number of the signal that ended it, 0 without one; the images are those before.
    """

    images: np.ndarray
    labels: np.ndarray
    seconds: float
    stopped: int


def prior_weights(config: Config):
    """The weights of the config's prior.

    Raises:
      ValueError: as `load_weights`.
    """
    like = jax.eval_shape(lambda: initialise(config.prior, jax.random.key(0)))
    return load_weights(located(config.prior.checkpoint), like)


def generated(config: Config, weights, num: int, seed: int, output, header: dict[str, Any], told: list[int], advance: Callable) -> Generated:
    """Draw images by `prior.drawn`, image i of key `fold_in(key(seed), i)`: of the class that the config names, else of each class in turn.

    Blocks are written to `output/blocks` as they are done; those that are there are not drawn again.

    Args:
      config: with the prior.
      weights: of `prior_weights`.
      num: images, at least 1.
      seed: of all of them.
      output: existing folder, the same for all processes.
      header: of `ledger.header`.
      told: of `rounds.signals`; a signal to one process ends all after the block they are in.
      advance: called with the number of images that were done since.

    Raises:
      ValueError: where the folder holds images of another header, or an image is not finite.
    """
    output, classes = Path(output), config.prior.classes
    claim(output, header)
    (output / "blocks").mkdir(exist_ok=True)
    label = classes.index(config.prior.label) if config.prior.label else -1
    labels = np.arange(num) % len(classes) if classes and label < 0 else np.full(num, label)
    size, grid = _BLOCK * jax.device_count(), mesh.device_mesh()
    over, everywhere = mesh.batch_sharding(grid), mesh.replicated(grid)
    weights, draw, images, seconds, stop = mesh.spread(weights, everywhere), _blocks(config, over), [], 0.0, 0
    for first in range(0, num, size):
        stop = cluster.agreed(told[-1] if told else 0)
        if stop:
            break
        wanted, path = np.arange(first, min(first + size, num)), output / "blocks" / f"{first:07d}.npz"
        filled = np.concatenate([wanted, np.full(size - len(wanted), wanted[-1])])
        if not cluster.agreed(int(cluster.first() and path.is_file())):
            clock = time.perf_counter()
            keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.asarray(filled))
            found = mesh.whole(draw(weights, mesh.spread(keys, over), mesh.spread(labels[filled], over)))[: len(wanted)]
            if not np.isfinite(found).all():
                which = first + int(np.flatnonzero(~np.isfinite(found).reshape(len(found), -1).all(1))[0])
                raise ValueError(f"image {which} of config {config.name} is not finite; other weights or a smaller prior.guidance are needed")
            if cluster.first():
                _keep(path, found, time.perf_counter() - clock)
            cluster.agreed(0)
        with np.load(path, allow_pickle=False) as block:
            images.append(block["images"])
            seconds += float(block["seconds"])
        advance(len(wanted))
    images = np.concatenate(images) if images else np.zeros((0, *config.prior.shape), np.float32)
    return Generated(images, labels[: len(images)], seconds, stop)


def _blocks(config, over):
    """`(weights, keys [n], labels [n]) -> images`, a part of which each device draws."""
    draw = drawn(config.prior)

    def one(weights, keys, labels):
        return jax.lax.map(lambda each: draw(weights, *each), (keys, labels), batch_size=_AT_ONCE)

    everywhere, spread = jax.sharding.PartitionSpec(), over.spec
    return jax.jit(jax.shard_map(one, mesh=over.mesh, in_specs=(everywhere, spread, spread), out_specs=spread, check_vma=False))


def _keep(path, images, seconds):
    """A block, whole or not at all."""
    with write_atomically(path) as temporary, Path(temporary).open("wb") as file:
        np.savez(file, images=images, seconds=seconds, allow_pickle=False)


def displayed(config: Config, images) -> np.ndarray:
    """`[n, ...]` as networks see them, as viewers show them, `units.name` being their unit."""
    units = configs.build(config.prior.units)
    return np.asarray(jax.jit(jax.vmap(lambda x: units.display(units.decode(x))))(jnp.asarray(images)))


def generate(config: Config, options, output) -> int:
    """Draw `options.generate` images into `output`: `images.npz`, `sheet.png` and `report.json`; returns the status of `sample.py`.

    Raises:
      ConfigError: for less than one, and an input beside.
      ValueError: as `generated`.
    """
    if options.generate < 1 or options.input:
        raise configs.ConfigError(f"--generate is {options.generate}, with {options.input or 'no'} --input; at least 1, and no input, are needed")
    num, seed, output = options.generate, config.seed if options.seed < 0 else options.seed, prepare_folder(output)
    weights = prior_weights(config)
    made = watched(config, weights, num, seed, output, header(config, vars(options), weights))
    if made.stopped:
        return 128 + made.stopped
    if cluster.first():
        images, unit = displayed(config, made.images), configs.build(config.prior.units).name
        with write_atomically(output / "images.npz") as path, Path(path).open("wb") as file:
            np.savez_compressed(file, images=images.astype(np.float32), labels=made.labels, allow_pickle=False)
        order = np.argsort(made.labels[:_SHOWN], kind="stable")
        sheet(output / "sheet.png", images[:_SHOWN][order], unit=unit, title=f"{config.name}: {_asked(config)}")
        record = {"num_images": num, "seed": seed, "seconds": made.seconds, "classes": config.prior.classes, "label": config.prior.label}
        record |= {"guidance": config.prior.guidance, "versions": versions(), "config": json.loads(to_json(config))}
        with write_atomically(output / "report.json") as path:
            Path(path).write_text(json.dumps(record, indent=1, default=str) + "\n")
        print(f"{num} images in {made.seconds:.0f} s: {output / 'images.npz'}   sheet: {output / 'sheet.png'}   report: {output / 'report.json'}")
    return 0


def watched(config: Config, weights, num: int, seed: int, output, header: dict[str, Any]) -> Generated:
    """`generated` with a progress bar, after which a stop is told."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not cluster.first()) as bar, signals() as told:
        row = bar.add_task(f"images of {config.name}", total=num)
        made = generated(config, weights, num, seed, output, header, told, partial(bar.advance, row))
    if made.stopped and cluster.first():
        print(f"stopped by signal {made.stopped} after {len(made.images)} of {num} images; the same command goes on from there")
    return made


def _asked(config):
    """What the images are of, in words."""
    prior = config.prior
    which = prior.label or ", ".join(prior.classes) or "images of the prior"
    return which + f", guidance {prior.guidance:g}" * bool(prior.guidance)
