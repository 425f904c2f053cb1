"""Images of the prior alone, drawn block by block on all devices, each written once."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medjax import config as configs
from medjax.config import Config, Spec, Train
from medjax.experiment.batch import claim
from medjax.experiment.command_line import located
from medjax.experiment.ledger import gathered
from medjax.experiment.prior import drawn, initialise
from medjax.experiment.reconstruct import prior_path
from medjax.experiment.record import of_weights
from medjax.training import cluster, mesh
from medjax.training.weights import load_metadata, load_weights

_AT_ONCE = 4
"""Images that a device draws together, which is a block of them."""


class Generated(NamedTuple):
    """What `generated` gives.

    images: `[num, ...]` as networks see them. labels: `[num]` classes from 0, -1 where none was asked for.
    seconds: that all blocks took, also those of earlier runs.
    stopped: number of the signal that ended it, 0 without one; the images are those before.
    """

    images: np.ndarray
    labels: np.ndarray
    seconds: float
    stopped: int


def prior_weights(config: Config) -> tuple[Any, list[str]]:
    """The weights of the config's prior, and what there is to say of them: where they are from, and whether they were trained for another problem.

    Raises:
      ValueError: as `load_weights`.
    """
    like, path = jax.eval_shape(lambda: initialise(config.prior, jax.random.key(0))), prior_path(config)
    weights = load_weights(located(path), like)
    other = of_weights(load_metadata(located(path)).get("config", "{}"), config, "prior")
    return weights, [f"prior: weights {path}{f', of another problem: {other}' * bool(other)}"] * (bool(other) or path != config.prior.checkpoint)


def drawing(config: Config) -> Config:
    """What of a config decides how its images are drawn."""
    prior = dataclasses.replace(config.prior, data=None, checkpoint="")
    return dataclasses.replace(config, prior=prior, train=Train(Spec("")), methods={}, files=None, classifier=None, about="", seed=0)


def generated(config: Config, weights, num: int, seed: int, output, header: dict[str, Any], told: list[int], advance: Callable) -> Generated:
    """Draw images by `prior.drawn`, image i of key `fold_in(key(seed), i)`: of the class that the config names, else of each class in turn.

    Images are written to `output/blocks` as they are done; those that are there, and whole, are not drawn again, whatever the number of devices was.

    Args:
      config: with the prior.
      weights: of `prior_weights`.
      num: images, at least 1.
      seed: of all of them.
      output: existing folder, the same for all processes.
      header: of `ledger.header`, of `drawing`.
      told: of `rounds.signals`; a signal to one process ends all after the block they are in.
      advance: called with the number of images that were done since.

    Returns:
      `Generated`; its images are there in the first process alone.

    Raises:
      ValueError: where the folder holds images of another header, or an image is not finite.
    """
    folder, classes = Path(output) / "blocks", config.prior.classes
    claim(output, header)
    folder.mkdir(exist_ok=True)
    label = classes.index(config.prior.label) if config.prior.label else -1

    def labels(which):
        return which % len(classes) if classes and label < 0 else np.full(len(which), label)

    size, grid, stop = _AT_ONCE * jax.device_count(), mesh.device_mesh(), 0
    over, everywhere = mesh.batch_sharding(grid), mesh.replicated(grid)
    held = gathered({str(i): "" for i in _held(folder)[0]} if cluster.first() else {})  # whose names are strings
    missing = np.setdiff1d(np.arange(num), np.array([int(i) for i in held], int))
    weights, draw = mesh.spread(weights, everywhere), _blocks(config, over)
    advance(num - len(missing))
    for first in range(0, len(missing), size):
        stop = cluster.agreed(told[-1] if told else 0)
        if stop:
            break
        wanted, clock = missing[first : first + size], time.perf_counter()
        filled = np.concatenate([wanted, np.full(size - len(wanted), wanted[-1])])
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.asarray(filled))
        found = mesh.whole(draw(weights, mesh.spread(keys, over), mesh.spread(labels(filled), over)))[: len(wanted)]
        broken = np.flatnonzero(~np.isfinite(found).reshape(len(found), -1).all(1))
        if len(broken):
            raise ValueError(f"image {wanted[broken[0]]} of config {config.name} is not finite; other weights or a smaller prior.guidance are needed")
        if cluster.first():
            _keep(folder, wanted, found, time.perf_counter() - clock)
        advance(len(wanted))
    blocks, seconds = _held(folder) if cluster.first() else ({}, 0.0)
    which = np.array(sorted(i for i in blocks if i < num), int)
    images = np.stack([_image(blocks[i], i) for i in which]) if len(which) else np.zeros((0, *config.prior.shape), np.float32)
    return Generated(images, labels(which), seconds, stop)


def _held(folder):
    """`(index of an image -> the block that has it, seconds that the blocks took)`, of blocks that are whole."""
    held, seconds = {}, 0.0
    for path in sorted(folder.glob("[!.]*.npz")):  # what begins so was left by a kill
        try:
            with np.load(path, allow_pickle=False) as block:
                indices, took, _ = block["indices"].tolist(), float(block["seconds"]), block["images"]
        except Exception:  # a parser of damaged bytes raises anything
            continue  # its images are drawn again
        held |= dict.fromkeys(indices, str(path))
        seconds += took
    return held, seconds


def _image(path, index):
    """An image of a block."""
    with np.load(path, allow_pickle=False) as block:
        return block["images"][block["indices"].tolist().index(index)]


def _blocks(config, over):
    """`(weights, keys [n], labels [n]) -> images`, a part of which each device draws."""
    draw = drawn(config.prior)

    def one(weights, keys, labels):
        return jax.vmap(lambda key, label: draw(weights, key, label))(keys, labels)

    everywhere, spread = jax.sharding.PartitionSpec(), over.spec
    return jax.jit(jax.shard_map(one, mesh=over.mesh, in_specs=(everywhere, spread, spread), out_specs=spread, check_vma=False))


def _keep(folder, indices, images, seconds):
    """A block, whole or not at all."""
    path = folder / f"{indices[0]:07d}_{indices[-1]:07d}.npz"
    partial = folder / f".{os.getpid()}-{path.name}"
    try:
        with partial.open("wb") as file:
            np.savez(file, images=images, indices=indices, seconds=seconds, allow_pickle=False)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def displayed(config: Config, images) -> np.ndarray:
    """`[n, ...]` as networks see them, as viewers show them, `units.name` being their unit."""
    units = configs.build(config.prior.units)
    return np.asarray(jax.jit(lambda images: jax.lax.map(lambda x: units.display(units.decode(x)), images))(jnp.asarray(images)))
