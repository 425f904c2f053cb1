"""Denoising score matching with the weights of EDM."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from medjax.typing import Loss


def score_matching(denoiser: Callable, sigma_data: float, mean_log_sigma: float = -1.2, std_log_sigma: float = 1.2) -> Loss:
    r"""Denoising score matching over log-normal noise levels.

    .. math::
        E_{x, n, \sigma} \; \lambda(\sigma) \| D_\theta(x + \sigma n, \sigma) - x \|^2, \quad
        \lambda(\sigma) = \frac{\sigma^2 + \sigma_d^2}{\sigma^2 \sigma_d^2}, \; \ln \sigma \sim N(P_{mean}, P_{std}^2)

    The noise levels of a batch are stratified (one in each quantile), which leaves their law and lowers the variance.

    Args:
      denoiser: `params -> Denoiser`.
      sigma_data: standard deviation of the data.
      mean_log_sigma: P_mean.
      std_log_sigma: P_std.

    Returns:
      A `Loss` over batches `[b, ...]`; a value of 1 is what the zero network reaches.

    Reference:
      Karras et al. (2022), eq. 8 and table 1, https://arxiv.org/abs/2206.00364; stratified levels as in Kingma et al. (2021).
    """

    def loss_fn(params, key, batch):
        denoise = denoiser(params)
        key_offset, key_noise = jax.random.split(key)
        num = batch.shape[0]
        quantiles = (jnp.arange(num) + jax.random.uniform(key_offset, (num,))) / num
        normal = jax.scipy.special.ndtri(jnp.clip(quantiles, 1e-6, 1 - 1e-6))
        sigmas = jnp.exp(mean_log_sigma + std_log_sigma * normal).astype(batch.dtype)

        def one(x, sigma, key):
            noisy = x + sigma * jax.random.normal(key, x.shape, x.dtype)
            return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2 * jnp.mean((denoise(noisy, sigma) - x) ** 2)

        losses = jax.vmap(one)(batch, sigmas, jax.random.split(key_noise, num))
        metrics = {"loss_low_noise": jnp.mean(losses[: (num + 1) // 2]), "loss_high_noise": jnp.mean(losses[num // 2 :])}
        return jnp.mean(losses), metrics

    return loss_fn
