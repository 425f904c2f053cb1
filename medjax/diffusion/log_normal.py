"""Noise levels to train at."""

import jax
import jax.numpy as jnp


def log_normal(key, num: int, mean_log_sigma=-1.2, std_log_sigma=1.2):
    r"""Log-normal noise levels, stratified: one in each of `num` quantiles, in random order: their law, less variance of a loss.

    .. math::
        \ln \sigma_i = P_{mean} + P_{std} \Phi^{-1}((\pi(i) + u_i) / num), \quad u_i \sim U(0, 1)

    On `rectified_flow` sigma = t / (1 - t), so this is the logit-normal law of t.

    Args:
      key: typed key.
      num: number of levels.
      mean_log_sigma: P_mean.
      std_log_sigma: P_std.

    Returns:
      `[num]` levels, each by itself log-normal.

    Reference:
      Karras et al. (2022), table 1, https://arxiv.org/abs/2206.00364; stratified as in Kingma et al. (2021), https://arxiv.org/abs/2107.00630
    """
    key_order, key_place = jax.random.split(key)
    quantiles = (jax.random.permutation(key_order, num) + jax.random.uniform(key_place, (num,))) / num
    normal = jax.scipy.special.ndtri(jnp.clip(quantiles, 1e-6, 1 - 1e-6))
    return jnp.exp(mean_log_sigma + std_log_sigma * normal)
