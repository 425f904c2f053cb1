"""Noise levels to train at."""

import jax
import jax.numpy as jnp


def log_normal(key, num: int, mean_log_sigma=-1.2, std_log_sigma=1.2):
    r"""Log-normal noise levels, stratified: one in each quantile, which leaves their law and lowers the variance of a loss.

    .. math::
        \ln \sigma_i = P_{mean} + P_{std} \Phi^{-1}((i + u) / num), \quad u \sim U(0, 1)

    On `rectified_flow` sigma = t / (1 - t), so this is the logit-normal law of t.

    Args:
      key: typed key.
      num: number of levels.
      mean_log_sigma: P_mean.
      std_log_sigma: P_std.

    Returns:
      `[num]` increasing levels, each by itself log-normal.

    Reference:
      Karras et al. (2022), table 1, https://arxiv.org/abs/2206.00364; stratified as in Kingma et al. (2021), https://arxiv.org/abs/2107.00630
    """
    quantiles = (jnp.arange(num) + jax.random.uniform(key, (num,))) / num
    normal = jax.scipy.special.ndtri(jnp.clip(quantiles, 1e-6, 1 - 1e-6))
    return jnp.exp(mean_log_sigma + std_log_sigma * normal)
