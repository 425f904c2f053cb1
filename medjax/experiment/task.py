"""What there is to train: a prior, a reconstruction or a classifier of a config."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medjax import config as configs
from medjax.experiment import prior as priors
from medjax.experiment.examples import examples, images, validation
from medjax.experiment.problem import operator, simulator
from medjax.experiment.reconstruct import direct, reconstruction
from medjax.metrics.psnr import psnr
from medjax.training import mesh
from medjax.typing import Examples, Loss

CLASSIFIER = "classifier"
"""What `method` says where the classifier is trained."""
_SHEET = 16
"""Images of a sheet."""


class Task(NamedTuple):
    """One training.

    name: of its output folder and its first line. settings: how it is trained.
    source: pytree of what `draw` needs and jit should not fold (operators).
    initialise: `key -> params`.
    loss_fn: a `Loss`.
    stream, held_out, num_held_out: batches to train on and to validate on, as `examples.Streams` has them.
    batched: what of a batch has the examples on its first axis, as `train_step` takes it.
    show: `(params, source) -> (images [n, h, w], told)`, likewise: a sheet and scalars for the log.
    unit: of the images.
    network: that is trained.
    """

    name: str
    settings: configs.Train
    source: Any
    initialise: Callable
    loss_fn: Loss
    stream: Callable
    held_out: Callable
    num_held_out: int
    batched: Any
    show: Callable
    unit: str
    network: configs.Spec


def task(config: configs.Config, method: str) -> Task:
    """The training of the config's prior, of its learned `method` where one is named, or of its classifier where that is "classifier".

    Raises:
      ConfigError: for a method that is not learned, and for images of another shape than the prior's.
    """
    if not method:
        return _prior_task(config)
    if method == CLASSIFIER and config.classifier:
        return _classifier_task(config, config.classifier)
    settings = learned(config, method)
    A, units = operator(config.measure, {}), configs.build(config.prior.units)
    rebuilt, loss_fn = reconstruction(config, settings), _loss(config, settings)
    streams, unseen = examples(config, settings.train, A), validation(config, _SHEET, A)
    data = jax.eval_shape(A, jax.ShapeDtypeStruct(config.prior.shape, jnp.result_type(float)))

    @jax.jit
    def shown(params, A, cases):
        def one(case):
            x, y, sigma_y = case
            estimate = rebuilt.apply(params, A, y, sigma_y)[0]
            return units.display(units.decode(estimate)), psnr(*(units.display(units.decode(a)) for a in (estimate, x)))

        pictures, levels = jax.lax.map(one, cases, batch_size=4)
        return pictures, {"validation_psnr": jnp.mean(levels)}

    return Task(
        f"{config.name}_{method}",
        settings.train,
        (A, simulator(config.measure, A)),
        lambda key: rebuilt.init(key, A, jnp.zeros(data.shape, data.dtype)),
        loss_fn,
        lambda source, *place: ((Examples(source[0], *batch), waited) for batch, waited in streams.training(source, *place)),
        lambda source, *place: Examples(source[0], *streams.held_out(source, *place)),
        streams.num_held_out,
        Examples._make((False, True, True, True)),
        lambda params, source: shown(params, source[0], unseen(source)),
        units.name,
        settings.reconstruction,
    )


def field(method: str) -> str:
    """Where the config has the `Train` of what `task` names."""
    return {"": "train", CLASSIFIER: "classifier.train"}.get(method, f"methods.{method}.train")


def learned(config: configs.Config, method: str) -> configs.Learned:
    """The learned method of that name.

    Raises:
      ConfigError: where it is none.
    """
    found = config.methods.get(method)
    if not isinstance(found, configs.Learned):
        names = [name for name, settings in config.methods.items() if isinstance(settings, configs.Learned)]
        known = configs.nearest(method, names) if names else "it has none"
        raise configs.ConfigError(f"no learned method {method!r} in config {config.name}; {known}")
    return found


def _loss(config, settings):
    """The loss of a `Learned`; it is given `direct` where it takes that."""
    spec = settings.train.loss
    return configs.build(spec, reconstruction(config, settings), **configs.taken(spec, {"direct": direct(config)}))


def _prior_task(config):
    """Training of the denoiser."""
    prior, settings, units = config.prior, config.train, configs.build(config.prior.units)
    draw = priors.drawn(prior)
    streams = images(config, settings, operator(config.measure, {}))

    @jax.jit
    def show(params, source):
        labels = jnp.arange(_SHEET) * len(prior.classes) // _SHEET if prior.classes else jnp.full(_SHEET, -1)
        draws = jax.random.split(jax.random.key(1), _SHEET), labels
        return jax.lax.map(lambda each: units.display(units.decode(draw(params, *each))), draws, batch_size=4), {}

    def initialise(key):
        return priors.initialise(prior, key)

    return Task(config.name, settings, (), initialise, priors.loss(prior, settings.loss), *streams, True, show, units.name, prior.network)


def _classifier_task(config, settings):
    """Training of the classifier on labelled files."""
    prior, network, units = config.prior, configs.build(settings.network), configs.build(config.prior.units)
    train = dataclasses.replace(settings.train, label_dropout=0.0)
    streams = images(config, train, operator(config.measure, {}))
    if not streams.num_held_out:
        raise configs.ConfigError(
            f"{config.name} has no images to validate its classifier on; files with such a part, and a num_validation, are needed"
        )
    loss_fn = configs.build(train.loss, network.apply)

    @jax.jit
    def show(params, batch):
        return units.display(units.decode(batch[0])), {f"validation_{name}": value for name, value in loss_fn(params, None, batch)[1].items()}

    def shown(params, source):
        over = mesh.batch_sharding(mesh.device_mesh(1, train.batch_size))
        found = [show(params, streams.held_out(source, i, over)) for i in range(max(1, streams.num_held_out // train.batch_size))]
        return found[0][0][:_SHEET], jax.tree.map(lambda *values: jnp.mean(jnp.stack(values)), *(told for _, told in found))

    return Task(
        f"{config.name}_{CLASSIFIER}",
        train,
        (),
        lambda key: network.init(key, jnp.zeros(prior.shape)),
        loss_fn,
        *streams,
        True,
        shown,
        units.name,
        settings.network,
    )
