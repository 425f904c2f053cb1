"""The preconditioning of EDM: a raw network becomes a denoiser."""

from collections.abc import Callable

import jax.numpy as jnp

from medjax import checks
from medjax.typing import Denoiser


def edm(network: Callable, sigma_data, mean=0.0) -> Denoiser:
    r"""Denoiser from a raw network F, with unit-variance input, output and training target at every noise level.

    .. math::
        D(x, \sigma) = m + c_{skip} (x - m) + c_{out} F(c_{in} (x - m), \tfrac14 \ln \sigma)

    with :math:`c_{skip} = \sigma_d^2 / (\sigma^2 + \sigma_d^2)`, :math:`c_{out} = \sigma \sigma_d / \sqrt{\sigma^2 + \sigma_d^2}`,
    :math:`c_{in} = 1 / \sqrt{\sigma^2 + \sigma_d^2}`. The paper has m = 0; medical images are not centred, and the mean costs nothing.

    Args:
      network: `(x, noise) -> array of the shape of x`.
      sigma_data: standard deviation of the data about `mean`.
      mean: mean of the data, scalar.

    Returns:
      A `Denoiser`.

    Raises:
      ValueError: for a sigma_data that is not positive.

    Reference:
      Karras et al. (2022), eq. 7 and table 1, https://arxiv.org/abs/2206.00364
    """

    checks.positive(sigma_data, "sigma_data")

    def denoise(x, sigma):
        sigma = jnp.asarray(sigma, x.dtype)
        total = sigma**2 + sigma_data**2
        c_skip, c_out, c_in = sigma_data**2 / total, sigma * sigma_data / jnp.sqrt(total), 1 / jnp.sqrt(total)
        return mean + c_skip * (x - mean) + c_out * network(c_in * (x - mean), jnp.log(sigma) / 4)

    return denoise
