"""The loss that all training of denoisers is: a law of noise levels and a weight."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from medjax.typing import Loss


def denoising_loss(denoiser: Callable, draw_levels: Callable, weight: Callable) -> Loss:
    r"""Weighted mean square error of a denoiser.

    .. math::
        E_{x, n, \sigma} \; \frac{w(\sigma)}{d} \| D_\theta(x + \sigma n, \sigma) - x \|^2

    Args:
      denoiser: `params -> Denoiser`.
      draw_levels: `(key, num) -> [num]` noise levels.
      weight: sigma -> w.

    Returns:
      A `Loss` over batches `[b, ...]`, whose metrics are its means over the lower and the upper half of the levels. What the denoiser takes after the
      noise level (positions of a patch, a class) comes with the images: batches `(images, *given)`.

    Reference:
      Karras et al. (2022), section 5, https://arxiv.org/abs/2206.00364
    """

    def loss_fn(params, key, batch):
        denoise = denoiser(params)
        key_levels, key_noise = jax.random.split(key)
        images, *given = batch if isinstance(batch, tuple) else (batch,)
        num = images.shape[0]
        sigmas = draw_levels(key_levels, num).astype(images.dtype)

        def one(x, sigma, key, *given):
            noisy = x + sigma * jax.random.normal(key, x.shape, x.dtype)
            return weight(sigma) * jnp.mean((denoise(noisy, sigma, *given) - x) ** 2)

        losses = jax.vmap(one)(images, sigmas, jax.random.split(key_noise, num), *given)
        ordered = losses[jnp.argsort(sigmas)]
        metrics = {"loss_low_noise": jnp.mean(ordered[: (num + 1) // 2]), "loss_high_noise": jnp.mean(ordered[num // 2 :])}
        return jnp.mean(losses), metrics

    return loss_fn
