"""What there is to train: a prior, or a reconstruction of a config."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medjax import config as configs
from medjax.diffusion.karras import karras
from medjax.experiment import prior as priors
from medjax.experiment.examples import examples, images, validation
from medjax.experiment.problem import operator, simulator
from medjax.experiment.reconstruct import direct, reconstruction
from medjax.metrics.psnr import psnr
from medjax.samplers.heun import heun
from medjax.samplers.sample import sample
from medjax.typing import Examples, Loss

_SHEET = 16
"""Images of a sheet."""


class Task(NamedTuple):
    """One training.

    name: of its output folder and its first line. settings: how it is trained.
    source: pytree of what `draw` needs and jit should not fold (operators).
    initialise: `key -> params`.
    loss_fn: a `Loss`.
    stream, held_out: batches to train on and to validate on, as `examples.images` has them.
    batched: what of a batch has the examples on its first axis, as `train_step` takes it.
    show: `(params, source) -> (images [n, h, w], told)`, likewise: a sheet and scalars for the log.
    unit: of the images.
    """

    name: str
    settings: configs.Train
    source: Any
    initialise: Callable
    loss_fn: Loss
    stream: Callable
    held_out: Callable
    batched: Any
    show: Callable
    unit: str


def task(config: configs.Config, method: str) -> Task:
    """The training of the config's prior, or of its learned `method` where one is named.

    Raises:
      ConfigError: for a method that is not learned, and for images of another shape than the prior's.
    """
    if not method:
        return _prior_task(config)
    settings = learned(config, method)
    A, units = operator(config.measure, {}), configs.build(config.prior.units)
    rebuilt, loss_fn = reconstruction(config, settings), _loss(config, settings)
    (stream, held_out), unseen = examples(config, settings.train, A), validation(config, _SHEET, A)
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
        lambda source, *place: (Examples(source[0], *batch) for batch in stream(source, *place)),
        lambda source, *place: Examples(source[0], *held_out(source, *place)),
        Examples._make((False, True, True, True)),
        lambda params, source: shown(params, source[0], unseen(source)),
        units.name,
    )


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
    streams = images(config, settings, operator(config.measure, {}))

    @jax.jit
    def show(params, source):
        denoise, sigmas = priors.denoiser(prior)(params), karras(18, 0.005, 40 * prior.sigma_data)

        def one(key):
            x = prior.mean + sigmas[0] * jax.random.normal(key, prior.shape)
            return units.display(units.decode(sample(key, heun(), denoise, sigmas, x)))

        return jax.lax.map(one, jax.random.split(jax.random.key(1), _SHEET), batch_size=4), {}

    def initialise(key):
        return priors.initialise(prior, key)

    return Task(config.name, settings, (), initialise, priors.loss(prior, settings.loss), *streams, True, show, units.name)
