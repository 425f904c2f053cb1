"""A prior of a config: its weights before training and its denoiser."""

from collections.abc import Callable

import jax.numpy as jnp

from medjax import config as configs
from medjax.diffusion.edm import edm
from medjax.typing import Denoiser, Loss


def initialise(prior: configs.Prior, key):
    """Weights before training: a pytree of arrays; under `jax.eval_shape`, what a checkpoint must hold."""
    return configs.build(prior.network).init(key, jnp.zeros(prior.shape), jnp.zeros(()))


def denoiser(prior: configs.Prior) -> Callable[..., Denoiser]:
    """`params -> Denoiser` of the config's network with EDM preconditioning."""
    network = configs.build(prior.network)

    def make(params):
        return edm(lambda x, noise: network.apply(params, x, noise), prior.sigma_data, prior.mean)

    return make


def loss(prior: configs.Prior, spec: configs.Spec) -> Loss:
    """The loss that `spec` names, of the config's denoiser; it is given the prior's sigma_data where it takes one."""
    offered = configs.taken(spec, {"sigma_data": prior.sigma_data})
    return configs.build(configs.Spec(spec.name, offered | spec.args), denoiser(prior))
