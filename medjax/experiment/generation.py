"""Images of the prior alone, drawn block by block on all devices, each written once."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medjax import config as configs
from medjax.config import Config
from medjax.experiment.batch import claim
from medjax.experiment.command_line import located
from medjax.experiment.prior import drawn, initialise
from medjax.training import cluster, mesh
from medjax.training.weights import load_weights

_BLOCK = 16
"""Images of a block at most, of one device."""
_AT_ONCE = 4
"""Of them, in memory together."""


class Generated(NamedTuple):
    """What `generated` gives.

    images: `[num, ...]` as networks see them. labels: `[num]` classes from 0, -1 where none was asked for.
    seconds: that their blocks took, also those of earlier runs.
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

    Blocks of a fixed size are written to `output/blocks` as they are done; those that are there are not drawn again, also where more are wanted.

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

    def labels(which):
        return which % len(classes) if classes and label < 0 else np.full(len(which), label)

    size, grid = _BLOCK * jax.device_count(), mesh.device_mesh()
    over, everywhere = mesh.batch_sharding(grid), mesh.replicated(grid)
    weights, draw, images, seconds, stop = mesh.spread(weights, everywhere), _blocks(config, over), [], 0.0, 0
    for first in range(0, num, size):
        stop = cluster.agreed(told[-1] if told else 0)
        if stop:
            break
        wanted, path = np.arange(first, first + size), output / "blocks" / f"{first:07d}_{size}.npz"
        if not cluster.agreed(int(cluster.first() and path.is_file())):
            clock = time.perf_counter()
            keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.asarray(wanted))
            found = mesh.whole(draw(weights, mesh.spread(keys, over), mesh.spread(labels(wanted), over)))
            if not np.isfinite(found).all():
                which = first + int(np.flatnonzero(~np.isfinite(found).reshape(len(found), -1).all(1))[0])
                raise ValueError(f"image {which} of config {config.name} is not finite; other weights or a smaller prior.guidance are needed")
            if cluster.first():
                _keep(path, found, time.perf_counter() - clock)
            cluster.agreed(0)
        with np.load(path, allow_pickle=False) as block:
            images.append(block["images"])
            seconds += float(block["seconds"])
        advance(min(size, num - first))
    images = np.concatenate(images)[:num] if images else np.zeros((0, *config.prior.shape), np.float32)
    return Generated(images, labels(np.arange(len(images))), seconds, stop)


def _blocks(config, over):
    """`(weights, keys [n], labels [n]) -> images`, a part of which each device draws."""
    draw = drawn(config.prior)

    def one(weights, keys, labels):
        return jax.lax.map(lambda each: draw(weights, *each), (keys, labels), batch_size=_AT_ONCE)

    everywhere, spread = jax.sharding.PartitionSpec(), over.spec
    return jax.jit(jax.shard_map(one, mesh=over.mesh, in_specs=(everywhere, spread, spread), out_specs=spread, check_vma=False))


def _keep(path, images, seconds):
    """A block, whole or not at all."""
    partial = path.with_name(f".{path.name}")
    with partial.open("wb") as file:
        np.savez(file, images=images, seconds=seconds, allow_pickle=False)
    os.replace(partial, path)


def displayed(config: Config, images) -> np.ndarray:
    """`[n, ...]` as networks see them, as viewers show them, `units.name` being their unit."""
    units = configs.build(config.prior.units)
    return np.asarray(jax.jit(jax.vmap(lambda x: units.display(units.decode(x))))(jnp.asarray(images)))
