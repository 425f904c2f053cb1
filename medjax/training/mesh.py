"""Where the arrays of a training live: batches over all devices, weights on each or in shards."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_SMALL = 2**14
"""Entries below which an array is on every device: gathering it would take longer than keeping it."""


def device_mesh(num_shards: int = 1, batch_size: int = 0) -> Mesh:
    """All devices of all processes, as `("data", "shard")`.

    Args:
      num_shards: devices that a copy of the weights is spread over; 1 for a copy on each (data parallel), all for none that is whole (fully sharded).
      batch_size: examples of a step, or of a part of it where gradients are accumulated, which all devices share; 0 where there are none.

    Returns:
      A mesh `[devices / num_shards, num_shards]`.

    Raises:
      ValueError: where the devices cannot be divided so, or the batch not by them.
    """
    num = jax.device_count()
    if num_shards < 1 or num % num_shards:
        raise ValueError(f"{num} devices cannot hold weights in {num_shards} shards; a divisor of {num} is needed")
    if batch_size % num:
        raise ValueError(f"a batch of {batch_size} cannot be spread over {num} devices; a multiple of {num} is needed")
    return jax.make_mesh((num // num_shards, num_shards), ("data", "shard"), axis_types=(jax.sharding.AxisType.Auto,) * 2)


def state_sharding(mesh: Mesh, state):
    """The sharding of each array of `state`: its longest axis that can be divided is spread over "shard", small arrays are on every device.

    The average of the weights and the moments of the optimiser, which have their shapes, are spread as they are (ZeRO, stage 3).

    Reference:
      Rajbhandari et al. (2020), ZeRO: memory optimizations toward training trillion parameter models, section 5, https://arxiv.org/abs/1910.02054
    """
    num = mesh.shape["shard"]

    def place(leaf):
        axes = [axis for axis, length in enumerate(leaf.shape) if length % num == 0]
        if num == 1 or not axes or math.prod(leaf.shape) < _SMALL:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*("shard" if axis == longest else None for axis in range(leaf.ndim))))

    return jax.tree.map(place, state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "shard")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def spread(tree, sharding):
    """Host arrays, the same in every process, as global arrays of `sharding` (or of a tree of them); typed keys, too."""

    def one(leaf, sharding):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
        if jax.process_count() == 1:
            return jax.device_put(leaf, sharding)
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    shardings = jax.tree.map(lambda _: sharding, tree) if isinstance(sharding, NamedSharding) else sharding
    return jax.tree.map(one, tree, shardings)


def local_rows(sharding: NamedSharding, num: int) -> np.ndarray:
    """Which of `num` examples of a batch this process's devices hold, in order."""
    places = sharding.addressable_devices_indices_map((num,)).values()
    return np.unique(np.concatenate([np.arange(num)[index] for index in places]))  # pyright: ignore[reportArgumentType]


def from_rows(rows, sharding: NamedSharding, num: int):
    """A batch of `num` examples as global arrays, of the `local_rows` that each process holds."""
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf), (num, *leaf.shape[1:])), rows)


def whole(tree):
    """Global arrays as NumPy's, in every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)
