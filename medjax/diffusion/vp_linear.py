"""The variance-preserving path with a linear rate."""

import jax.numpy as jnp

from medjax import checks
from medjax.typing import Schedule


def vp_linear(beta_min=0.1, beta_max=20.0) -> Schedule:
    r"""Variance-preserving path of rate beta(t) = beta_min + t (beta_max - beta_min), the limit of DDPM's.

    .. math::
        \alpha(t) = e^{-B(t) / 2}, \quad \sigma(t)^2 = 1 - e^{-B(t)}, \quad B(t) = \beta_{min} t + \tfrac12 (\beta_{max} - \beta_{min}) t^2

    Args:
      beta_min: rate at t = 0.
      beta_max: rate at t = 1.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: for a rate that is not positive.

    Reference:
      Song et al. (2021), eq. 29 and appendix C, https://arxiv.org/abs/2011.13456
    """
    checks.positive(beta_min, "beta_min")
    checks.positive(beta_max, "beta_max")
    rise = beta_max - beta_min

    def integral(t):
        return t * (beta_min + rise * t / 2)

    def time(sigma):
        total = jnp.log1p(sigma**2)
        return 2 * total / (beta_min + jnp.sqrt(beta_min**2 + 2 * rise * total))

    return Schedule(lambda t: jnp.exp(-integral(t) / 2), lambda t: jnp.sqrt(-jnp.expm1(-integral(t))), time)
