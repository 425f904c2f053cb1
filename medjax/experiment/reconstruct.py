"""One measurement, every answer: direct, total variation, posterior samples."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from medjax import config as configs
from medjax.diffusion.karras import karras
from medjax.experiment.prior import denoiser
from medjax.iterate import iterate
from medjax.samplers.sample import sample
from medjax.solvers.tv_reconstruction import tv_reconstruction
from medjax.typing import Kernel


def checked_method(config: configs.Config, method: str, num_samples: int) -> tuple[str, int]:
    """`(method, num_samples)`, those of the config where they are empty and 0.

    Raises:
      ConfigError: for an unknown method, a guide whose data are set by hand, or no samples.
    """
    method, num_samples = method or config.method, num_samples or config.num_samples
    if method not in config.methods:
        raise configs.ConfigError(f"no method {method!r} in config {config.name}; {configs.nearest(method, config.methods)}")
    reserved = {"A", "y", "sigma_y"} & set(config.methods[method].guide.args)
    if reserved:
        raise configs.ConfigError(f"methods.{method}.guide.{min(reserved)} cannot be set; it comes from the measurement")
    if num_samples < 1:
        raise configs.ConfigError(f"--num-samples needs at least 1, got {num_samples}")
    return method, num_samples


def direct(config: configs.Config) -> Callable:
    """`(A, y) -> x` of the config's direct inverse."""
    fn = configs.bind(config.classical.direct)
    return lambda A, y: fn(A, y)


def total_variation(config: configs.Config) -> Callable:
    """`(A, y, sigma_y, x0) -> x` of the config's total variation."""
    classical = config.classical

    def fn(A, y, sigma_y, x0):
        solver = tv_reconstruction(A, y, sigma_y, classical.tv_strength, nonnegative=classical.nonnegative)
        return iterate(solver, x0, classical.tv_steps).x

    return fn


def posterior(config: configs.Config, method: str, num_samples: int, on_step: Callable | None = None) -> Callable:
    """`(params, key, A, y, sigma_y) -> samples [num_samples, ...]`, all in one program by `vmap`.

    Args:
      config: with the prior and the methods.
      method: key of `config.methods`; empty for the config's own.
      num_samples: how many samples; 0 for the config's number.
      on_step: called on the host, without arguments, once for each step of each sample; None costs nothing.

    Raises:
      ConfigError: as in `checked_method`.
    """
    method, num_samples = checked_method(config, method, num_samples)
    settings, prior, make_denoiser = config.methods[method], config.prior, denoiser(config.prior)
    sigmas = karras(settings.num_steps, settings.sigma_min, settings.sigma_max)
    kernel = _observed(configs.build(settings.kernel), on_step) if on_step else configs.build(settings.kernel)

    def fn(params, key, A, y, sigma_y):
        guided = configs.build(settings.guide, A, y, sigma_y)(make_denoiser(params))

        def one(key):
            key_start, key_run = jax.random.split(key)
            start = prior.mean + sigmas[0] * jax.random.normal(key_start, prior.shape)
            return sample(key_run, kernel, guided, sigmas, start)

        return jax.vmap(one)(jax.random.split(key, num_samples))

    return fn


def _observed(kernel: Kernel, on_step: Callable) -> Kernel:
    """`kernel`, with `on_step` called on the host after each step."""

    def step(key, x, state, sigma, sigma_next, denoise):
        x, state = kernel.step(key, x, state, sigma, sigma_next, denoise)
        jax.debug.callback(lambda _: on_step(), x.ravel()[0])
        return x, state

    return Kernel(kernel.init, step)


def residual(A, x, y, sigma_y):
    """Root mean square of (y - A x) / sigma_y, over measured entries: 1 where the fit is as good as the noise allows."""
    error = (y - A(x)) / sigma_y
    measured = jnp.abs(y) > 0 if jnp.iscomplexobj(y) else jnp.ones(y.shape, bool)  # k-space is exactly 0 where the mask is
    components = 2 if jnp.iscomplexobj(y) else 1
    return jnp.sqrt(jnp.sum(jnp.abs(error) ** 2 * measured) / (components * jnp.maximum(jnp.sum(measured), 1)))
