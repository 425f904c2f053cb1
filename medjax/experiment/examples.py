"""What is learned from: images and data, generated or of files."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from medjax import config as configs
from medjax.data.files import Files, Stored, batch, spread
from medjax.data.pipeline import Batches, pipeline
from medjax.data.scan import InputError
from medjax.experiment.problem import encoded, noise_of, opened, phantom
from medjax.experiment.sweep import validation_key
from medjax.training import mesh
from medjax.training.state import batch_key


class Streams(NamedTuple):
    """Batches to train on and to validate on.

    training: `(source, key, first, sharding) -> Iterator` of `(batch, seconds)`, the batches of a training from step `first` on, global arrays of
      that sharding, whose random part comes of `key`, each with the time that its files were waited for.
    held_out: `(source, i, sharding) -> batch`, the i-th of those that are never trained on.
    num_held_out: images that these are made of, as many as `Train.num_validation` asks for or files have.
    """

    training: Callable
    held_out: Callable
    num_held_out: int


def images(config: configs.Config, train: configs.Train, A) -> Streams:
    """Images as networks see them, `[batch_size, ...]`, to train on and to validate on; A is the config's operator.

    Those of a prior with classes are `(images, labels)`, -1 for a class that is not told.

    Raises:
      ConfigError: for images of another shape than the prior's, and labels that are missing or not of its classes.
    """
    if config.files:
        files = opened(config, A)
        if config.prior.classes:
            return _streams(train, _of_classes(config, files), augmented(train), lambda source, key, found: encoded(config, found)[::2])
        return _streams(train, files, augmented(train), lambda source, key, found: encoded(config, found).image)
    if config.prior.classes:
        raise configs.ConfigError(f"{config.name}: prior.classes are {', '.join(config.prior.classes)}; files with labels are needed")
    image = _image(config, train)
    found = jax.eval_shape(image, jax.random.key(0)).shape
    if found != config.prior.shape:
        assert config.prior.data
        found = f"{config.prior.data.name} with {config.prior.units.name} gives {list(found)}"
        raise configs.ConfigError(f"{config.name}: prior.shape is {list(config.prior.shape)}, but {found}")
    unlimited = _image(config, configs.Train(configs.Spec("")))
    return _generated(train, lambda source, key: image(key), lambda source, key: unlimited(key))


def examples(config: configs.Config, train: configs.Train, A) -> Streams:
    """`images`, whose batches are `(x, y, sigma_y)` and whose source is `(A, simulator)`."""
    if config.files is None:
        unlimited = _example(config, _image(config, configs.Train(configs.Spec(""))))
        return _generated(train, _example(config, _image(config, train)), unlimited)
    files, measured = opened(config, A), _measured(config)
    if train.augment and files.read("train", 0).data is not None:
        raise configs.ConfigError(f"train.augment is {train.augment[0].name}, which changes images; the data of {config.files.name} would not follow")

    return _streams(train, files, augmented(train), lambda source, key, found: measured(source, key, *encoded(config, found)[:2]))


def validation(config: configs.Config, num: int, A) -> Callable:
    """`(A, simulator) -> (x, y, sigma_y)`, `[num, ...]` each, always the same and never trained on; fewer where files have not as many.

    Raises:
      InputError: where files have none.
    """
    if config.files is None:
        unlimited = _example(config, _image(config, configs.Train(configs.Spec(""))))
        keys = jnp.stack([validation_key(i) for i in range(num)])
        return jax.jit(lambda source: jax.lax.map(lambda key: unlimited(source, key), keys, batch_size=4))
    files, measured = opened(config, A), jax.jit(_measured(config))
    places = spread(files, "validation", min(num, max(1, files.num["validation"])))
    return lambda source: measured(source, validation_key(0), *encoded(config, batch(files, "validation", places))[:2])


def _generated(train, one, unlimited):
    """The streams of `one(source, key)`, and of `unlimited` to validate on."""
    drawn, held = (jax.jit(lambda source, keys, fn=fn: jax.vmap(lambda key: fn(source, key))(keys)) for fn in (one, unlimited))

    def stream(source, key, first, sharding) -> Iterator:
        for step in itertools.count(first):
            keys = jax.random.split(batch_key(key, step), train.batch_size)
            yield drawn(source, mesh.spread(keys, sharding)), 0.0

    def held_out(source, i, sharding):
        keys = jnp.stack([validation_key(i * train.batch_size + j) for j in range(train.batch_size)])
        return held(source, mesh.spread(keys, sharding))

    return Streams(stream, held_out, train.num_validation)


def _streams(train, files: Files, change, made):
    """The streams of files, of which `made(source, key, stored)` makes a batch; in training `change(key, images)` comes before."""
    num = min(files.num["train"], train.num_images or files.num["train"])
    places = spread(files, "validation", min(files.num["validation"], train.num_validation))

    @jax.jit
    def changed(source, key, found):
        key_change, key_made = jax.random.split(key)
        told = found.label if found.label is None else _dropped(jax.random.fold_in(key, 2), found.label, train.label_dropout)
        return made(source, key_made, found._replace(image=change(key_change, found.image), label=told))

    plain = jax.jit(made)

    def stream(source, key, first, sharding) -> Iterator:
        rows = tuple(mesh.local_rows(sharding, train.batch_size).tolist())
        read = pipeline(Batches(files, num, train.seed, train.batch_size, rows, first), train.num_workers)
        for step in itertools.count(first):
            begun = time.perf_counter()
            found = next(read)
            waited = time.perf_counter() - begun  # not for `changed`: a processor that is busy with the last step lets it wait
            batch = changed(source, mesh.spread(batch_key(key, step), mesh.replicated(sharding.mesh)), _placed(found, sharding, train.batch_size))
            yield batch, waited

    def held_out(source, i, sharding):
        wanted = [places[(i * train.batch_size + int(row)) % len(places)] for row in mesh.local_rows(sharding, train.batch_size)]
        found = _placed(batch(files, "validation", wanted), sharding, train.batch_size)
        return plain(source, mesh.spread(validation_key(i), mesh.replicated(sharding.mesh)), found)

    return Streams(stream, held_out, len(places))


def _dropped(key, labels, probability):
    """`labels` `[n]`, each -1 with a probability."""
    return jnp.where(jax.random.bernoulli(key, probability, labels.shape), -1, labels)


def _of_classes(config, files):
    """`files`, each with a label that is a class of the prior."""
    num, first = len(config.prior.classes), files.read("train", 0).label
    if first is None:
        raise configs.ConfigError(f"{config.name}: prior.classes are {', '.join(config.prior.classes)}, but {config.files.name} has no labels")

    def read(part, index):
        found = files.read(part, index)
        if not 0 <= found.label < num:
            raise InputError(f"example {index} of {part}", f"has the label {found.label}; one below {num}, as prior.classes says, is needed")
        return found

    return files._replace(read=read)


def _placed(found, sharding, num):
    """Rows of this process as a global batch."""
    return Stored(*(None if leaf is None else mesh.from_rows(leaf, sharding, num) for leaf in found))


def _image(config, train):
    """`key -> x`, a generated image of the training set."""
    generated, units = phantom(config), configs.build(config.prior.units)
    training_set = jax.random.fold_in(jax.random.key(train.seed), 2**31 - 2)  # a stream that no evaluation draws from

    def draw(key):
        if train.num_images:
            key = jax.random.fold_in(training_set, jax.random.randint(key, (), 0, train.num_images))
        return generated(key).image

    for spec in train.augment:
        draw = configs.build(spec, draw)
    return lambda key: units.encode(draw(key))


def augmented(train: configs.Train) -> Callable:
    """`(key, images [n, ...]) -> images` of files, changed by `Train.augment`."""

    def change(key, images):
        def one(key, image):
            draw = _once(image)
            for spec in train.augment:
                draw = configs.build(spec, draw)
            return draw(key)

        return jax.vmap(one)(jax.random.split(key, len(images)), images) if train.augment else images

    return change


def _once(image):
    """`key -> image`, a draw of a file: an augmentation that draws again would get the same one."""
    calls = []

    def draw(key):
        calls.append(key)
        if len(calls) > 1:
            raise configs.ConfigError("train.augment has a function of several images, for generated ones; files take those of one image")
        return image

    return draw


def _example(config, image):
    """`((A, simulator), key) -> (x, y, sigma_y)`."""

    def fn(source, key):
        A, finer = source
        key_image, key_noise = jax.random.split(key)
        x, noise = image(key_image), noise_of(config.measure, A)
        y = noise.sample(key_noise, finer(x))
        return x, y, jnp.asarray(noise.sigma(y), jnp.result_type(float))

    return fn


def _measured(config):
    """`((A, simulator), key, x, y or None) -> (x, y, sigma_y)`, data simulated where there are none."""

    def fn(source, key, x, y):
        A, finer = source
        noise = noise_of(config.measure, A)
        if y is None:
            y = jax.vmap(lambda key, x: noise.sample(key, finer(x)))(jax.random.split(key, len(x)), x)
        return x, y, jax.vmap(lambda y: jnp.asarray(noise.sigma(y), jnp.result_type(float)))(y)

    return fn
