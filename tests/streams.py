"""The batches of a training as tests take them."""

import jax

from medjax.training.mesh import batch_sharding, device_mesh


def drawn(work, source, key, step=0):
    """The batch of a step of a `Task`; under `jax.eval_shape` its shapes."""
    return next(work.stream(source, key, step, batch_sharding(device_mesh())))[0]


def shapes(work):
    """Of the arrays of a batch; nothing is computed."""
    return jax.eval_shape(lambda source, key: drawn(work, source, key), work.source, jax.random.key(0))
