"""What is learned from: images and data, generated or of files."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from medjax import config as configs
from medjax.data.files import batch, spread
from medjax.experiment.problem import encoded, noise_of, opened
from medjax.experiment.sweep import validation_key


def images(config: configs.Config, train: configs.Train, A) -> Callable:
    """`key -> x [batch_size, ...]`, images of the training set as networks see them; A is the config's operator."""
    if config.files:
        read = _chosen(config, train, A)
        return lambda key: read(key).image
    image = _image(config, train)
    found = jax.eval_shape(image, jax.random.key(0)).shape
    if found != config.prior.shape:
        found = f"{config.prior.data.name} with {config.prior.units.name} gives {list(found)}"
        raise configs.ConfigError(f"{config.name}: prior.shape is {list(config.prior.shape)}, but {found}")
    return jax.jit(lambda key: jax.vmap(image)(jax.random.split(key, train.batch_size)))


def examples(config: configs.Config, train: configs.Train, A) -> Callable:
    """`((A, simulator), key) -> (x, y, sigma_y)`, `[batch_size, ...]` each, of the training set."""
    if config.files is None:
        example = _example(config, _image(config, train))
        return jax.jit(lambda source, key: jax.vmap(lambda key: example(source, key))(jax.random.split(key, train.batch_size)))
    read, measured = _chosen(config, train, A), jax.jit(_measured(config))

    def draw(source, key):
        key_choice, key_noise = jax.random.split(key)
        return measured(source, key_noise, *read(key_choice)[:2])

    return draw


def validation(config: configs.Config, num: int, A) -> Callable:
    """`(A, simulator) -> (x, y, sigma_y)`, `[num, ...]` each, always the same and never trained on; fewer where files have not as many."""
    if config.files is None:
        unlimited = _example(config, _image(config, configs.Train(configs.Spec(""))))
        keys = jnp.stack([validation_key(i) for i in range(num)])
        return jax.jit(lambda source: jax.lax.map(lambda key: unlimited(source, key), keys, batch_size=4))
    files, measured = opened(config, A), jax.jit(_measured(config))
    places = spread(files, "validation", min(num, files.num["validation"]))
    return lambda source: measured(source, validation_key(0), *encoded(config, batch(files, "validation", places))[:2])


def _image(config, train):
    """`key -> x`, a generated image of the training set."""
    phantom, units = configs.bind(config.prior.data), configs.build(config.prior.units)
    training_set = jax.random.fold_in(jax.random.key(train.seed), 2**31 - 2)  # a stream that no evaluation draws from

    def draw(key):
        if train.num_images:
            key = jax.random.fold_in(training_set, jax.random.randint(key, (), 0, train.num_images))
        return phantom(key).image

    for spec in train.augment:
        draw = configs.build(spec, draw)
    return lambda key: units.encode(draw(key))


def _example(config, image):
    """`((A, simulator), key) -> (x, y, sigma_y)`."""

    def fn(source, key):
        A, finer = source
        key_image, key_noise = jax.random.split(key)
        x, noise = image(key_image), noise_of(config.measure, A)
        y = noise.sample(key_noise, finer(x))
        return x, y, jnp.asarray(noise.sigma(y), jnp.result_type(float))

    return fn


def _chosen(config, train, A):
    """`key -> Stored`, a batch of the training part as networks see it, of the first `num_images` of it where the training says so."""
    files = opened(config, A)
    num = min(files.num["train"], train.num_images or files.num["train"])
    if train.augment and files.read("train", 0).data is not None:
        raise configs.ConfigError(f"train.augment is {train.augment[0].name}, which changes images; the data of {config.files.name} would not follow")

    @jax.jit
    def augmented(key, images):
        def one(key, image):
            draw = _once(image)
            for spec in train.augment:
                draw = configs.build(spec, draw)
            return draw(key)

        return jax.vmap(one)(jax.random.split(key, len(images)), images)

    def read(key):
        key_choice, key_change = (key, None) if not train.augment else jax.random.split(key)
        found = batch(files, "train", np.asarray(jax.random.randint(key_choice, (train.batch_size,), 0, num)))
        return encoded(config, found._replace(image=augmented(key_change, found.image)) if train.augment else found)

    return read


def _once(image):
    """`key -> image`, a draw of a file: an augmentation that draws again would get the same one."""
    calls = []

    def draw(key):
        calls.append(key)
        if len(calls) > 1:
            raise configs.ConfigError("train.augment has a function of several images, for generated ones; files take those of one image")
        return image

    return draw


def _measured(config):
    """`((A, simulator), key, x, y or None) -> (x, y, sigma_y)`, data simulated where there are none."""

    def fn(source, key, x, y):
        A, finer = source
        noise = noise_of(config.measure, A)
        if y is None:
            y = jax.vmap(lambda key, x: noise.sample(key, finer(x)))(jax.random.split(key, len(x)), x)
        return x, y, jax.vmap(lambda y: jnp.asarray(noise.sigma(y), jnp.result_type(float)))(y)

    return fn
