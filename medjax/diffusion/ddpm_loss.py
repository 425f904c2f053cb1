"""The loss of denoising diffusion probabilistic models."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from medjax.diffusion.ddpm import ddpm_levels
from medjax.diffusion.denoising_loss import denoising_loss
from medjax.typing import Loss


def ddpm_loss(denoiser: Callable, betas) -> Loss:
    r"""The loss of Algorithm 1, of the noise that a network of a discrete path predicts.

    .. math::
        E_{i, x_0, n} \; \frac1d \| n - \epsilon_\theta(\sqrt{\bar\alpha_i} x_0 + \sqrt{1 - \bar\alpha_i} n, i) \|^2
        = E \; \frac1d \| x_0 - D_\theta(x_0 + s_i n, s_i) \|^2 / s_i^2, \quad i \sim U\{0, \ldots, T - 1\}

    The right hand side is computed, with s_i^2 = 1 / alpha_bar_i - 1, so any network can be trained. The indices of a batch are stratified.

    Args:
      denoiser: `params -> Denoiser`, for the network of the paper `params -> from_eps(network(params), ddpm(betas))`.
      betas: `[T]`, as `ddpm.linear_betas`.

    Returns:
      A `Loss` over batches `[b, ...]`; a value of 1 is what eps = 0 reaches.

    Raises:
      ValueError: for betas that are not in (0, 1).

    Reference:
      Ho, Jain & Abbeel (2020), algorithm 1 and eq. 14, https://arxiv.org/abs/2006.11239; the mean over the d pixels, not their sum.
    """
    table = ddpm_levels(betas)[-2::-1]

    def draw_levels(key, num):
        quantiles = (jnp.arange(num) + jax.random.uniform(key, (num,))) / num
        return table[jnp.minimum(jnp.floor(quantiles * len(table)).astype(int), len(table) - 1)]

    return denoising_loss(denoiser, draw_levels, lambda sigma: sigma**-2)
