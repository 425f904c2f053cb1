"""The sub-variance-preserving path."""

import jax.numpy as jnp

from medjax.diffusion.vp_linear import vp_linear
from medjax.typing import Schedule


def sub_vp(beta_min=0.1, beta_max=20.0) -> Schedule:
    r"""Path with the data of `vp_linear` and less noise, for better likelihoods.

    .. math::
        \alpha(t) = e^{-B(t) / 2}, \quad \sigma(t) = 1 - e^{-B(t)}

    with B of `vp_linear`, so that sigma / alpha = 2 sinh(B / 2).

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
    vp = vp_linear(beta_min, beta_max)
    return Schedule(vp.alpha, lambda t: vp.sigma(t) ** 2, lambda sigma: vp.time(jnp.sqrt(jnp.expm1(2 * jnp.arcsinh(sigma / 2)))))
