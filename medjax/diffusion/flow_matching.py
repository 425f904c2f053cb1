"""Conditional flow matching on the straight path."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from medjax.diffusion.denoising_loss import denoising_loss
from medjax.diffusion.log_normal import log_normal
from medjax.typing import Loss


def flow_matching(denoiser: Callable, *, mean_logit: float = 0.0, std_logit: float | None = 1.0) -> Loss:
    r"""The loss of the velocity that a network of `rectified_flow` predicts.

    .. math::
        E_{t, x_0, n} \; \frac1d \| n - x_0 - u_\theta((1 - t) x_0 + t n, t) \|^2
        = E \; \frac1d \| x_0 - D_\theta(x_0 + s n, s) \|^2 / t^2, \quad s = \frac{t}{1 - t}

    The right hand side is computed, so any network can be trained. The law of t is logit-normal, logit t ~ N(m, S^2), which is a log-normal
    noise level s, or uniform. The times of a batch are stratified.

    Args:
      denoiser: `params -> Denoiser`, for the network of the paper `params -> from_velocity(network(params), rectified_flow())`.
      mean_logit: m, the middle of the noise levels at exp(m).
      std_logit: S, or None for uniform t.

    Returns:
      A `Loss` over batches `[b, ...]`.

    Reference:
      Lipman et al. (2023), eq. 23 with sigma_min = 0, https://arxiv.org/abs/2210.02747; Esser et al. (2024), section 3.1 (logit-normal),
      https://arxiv.org/abs/2403.03206
    """

    def draw_levels(key, num):
        if std_logit is not None:
            return log_normal(key, num, mean_logit, std_logit)
        times = (jnp.arange(num) + jnp.clip(jax.random.uniform(key, (num,)), 1e-3, 1 - 1e-3)) / num  # inside (0, 1)
        return times / (1 - times)

    return denoising_loss(denoiser, draw_levels, lambda sigma: (1 + 1 / sigma) ** 2)
