"""A prior of a config: its weights before training and its denoiser."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from medjax import config as configs
from medjax.diffusion.edm import edm
from medjax.diffusion.karras import karras
from medjax.guides.classifier_free import classifier_free
from medjax.samplers.heun import heun
from medjax.samplers.sample import sample
from medjax.typing import Denoiser, Loss


def initialise(prior: configs.Prior, key):
    """Weights before training: a pytree of arrays; under `jax.eval_shape`, what a checkpoint must hold."""
    return _network(prior).init(key, jnp.zeros(prior.shape), jnp.zeros(()))


def labelled(prior: configs.Prior) -> Callable[..., Callable]:
    """`params -> denoise(x, sigma, label=None)` of the config's network with EDM preconditioning.

    The label is an index into `prior.classes`, traced or not; -1 and None are for any class.
    """
    network = _network(prior)

    def make(params):
        def denoise(x, sigma, label=None):
            given = () if label is None else (label,)
            return edm(lambda x, noise: network.apply(params, x, noise, *given), prior.sigma_data, prior.mean)(x, sigma)

        return denoise

    return make


def denoiser(prior: configs.Prior) -> Callable[..., Denoiser]:
    """`params -> Denoiser`, `labelled` of the class and the guidance that the config names.

    Raises:
      ConfigError: for a guidance without a class.
    """
    make = labelled(prior)
    if not prior.label:
        if prior.guidance:
            raise configs.ConfigError(f"prior.guidance is {prior.guidance}; a prior.label to guide towards is needed")
        return lambda params: lambda x, sigma: make(params)(x, sigma)
    return lambda params: guided(make(params), prior.classes.index(prior.label), prior.guidance)


def guided(denoise: Callable, label, weight=0.0) -> Denoiser:
    """The `Denoiser` of a class by `classifier_free`, of `denoise(x, sigma, label)`; a known weight of 0 costs one call."""
    of_class = lambda x, sigma: denoise(x, sigma, label)  # noqa: E731
    if isinstance(weight, (int, float)) and weight == 0:
        return of_class
    return classifier_free(lambda x, sigma: denoise(x, sigma, None), weight)(of_class)


def drawn(prior: configs.Prior, num_steps: int = 18) -> Callable:
    """`(params, key, label) -> x`, an image of the prior alone, by Heun's method; label as for `labelled`, -1 for any class.

    Reference:
      Karras et al. (2022), algorithm 1, with eq. 5 from 40 sigma_data to 0.005, https://arxiv.org/abs/2206.00364
    """
    make, sigmas = labelled(prior), karras(num_steps, 0.005, 40 * prior.sigma_data)

    def draw(params, key, label):
        denoise = guided(make(params), label, prior.guidance) if prior.classes else lambda x, sigma: make(params)(x, sigma)
        x = prior.mean + sigmas[0] * jax.random.normal(key, prior.shape)
        return sample(key, heun(), denoise, sigmas, x)

    return draw


def loss(prior: configs.Prior, spec: configs.Spec) -> Loss:
    """The loss that `spec` names, of the config's denoiser; it is given the prior's sigma_data where it takes one."""
    offered = configs.taken(spec, {"sigma_data": prior.sigma_data})
    return configs.build(configs.Spec(spec.name, offered | spec.args), labelled(prior))


def _network(prior):
    """The network, whose classes are those of the prior."""
    told = _num_classes(prior.network)
    if told != len(prior.classes):
        found = f"prior.network is told {told} classes, prior.classes names {len(prior.classes)}"
        raise configs.ConfigError(f"{found}; as many are needed (prior.network.num_classes)")
    return configs.build(prior.network)


def _num_classes(spec) -> int:
    """`num_classes` of a network, or of the one around which it is."""
    inner = [value for value in spec.args.values() if isinstance(value, configs.Spec)]
    return spec.args.get("num_classes", sum(map(_num_classes, inner)))
