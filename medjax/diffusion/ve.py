"""The variance-exploding path with geometric noise levels."""

import jax.numpy as jnp

from medjax.typing import Schedule


def ve(sigma_min: float = 0.01, sigma_max: float = 50.0) -> Schedule:
    r"""Variance-exploding path.

    .. math::
        \alpha(t) = 1, \quad \sigma(t) = \sigma_{min} (\sigma_{max} / \sigma_{min})^t

    Args:
      sigma_min: noise level at t = 0.
      sigma_max: noise level at t = 1.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: for levels not in 0 < sigma_min < sigma_max.

    Reference:
      Song et al. (2021), appendix C, https://arxiv.org/abs/2011.13456
    """
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"ve needs 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    ratio = sigma_max / sigma_min
    return Schedule(
        lambda t: 1.0 * jnp.ones_like(t),
        lambda t: sigma_min * ratio**t,
        lambda sigma: jnp.log(sigma / sigma_min) / jnp.log(ratio),
    )
