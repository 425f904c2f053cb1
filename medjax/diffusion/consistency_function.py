"""The end of the probability flow that a consistency model learns."""

import jax.numpy as jnp

from medjax import checks
from medjax.diffusion.probability_flow import probability_flow
from medjax.typing import Denoiser


def consistency_function(denoise: Denoiser, sigmas, *, mean=0.0, variance=1.0):
    r"""f(x, sigma) = the image at which the probability flow through (x, sigma) ends, the same for all points of one path.

    Integrated by `probability_flow` over those of the levels that are below sigma, then D(x, sigma) at the last, which leaves O(sigma_last^2). It is
    what a consistency model is trained towards, not a fast sampler.

    Args:
      denoise: a `Denoiser`.
      sigmas: `[num]` decreasing noise levels > 0.
      mean: m of the data, as in `probability_flow`.
      variance: v of the data, as there.

    Returns:
      `(x, sigma) -> x0`.

    Raises:
      ValueError: for levels that are not positive.

    Reference:
      Song et al. (2023), consistency models, section 3, https://arxiv.org/abs/2303.01469
    """

    if jnp.ndim(sigmas) != 1 or not len(sigmas):
        raise ValueError(f"sigmas is {list(jnp.shape(sigmas))}, a vector of noise levels above 0 is needed")
    checks.positive(sigmas, "the last of sigmas")

    def consistent(x, sigma):
        sigma = jnp.asarray(sigma, x.dtype)
        below = jnp.minimum(jnp.asarray(sigmas, x.dtype), sigma)  # steps of no length above sigma
        end = probability_flow(denoise, jnp.concatenate([sigma[None], below]), x, mean=mean, variance=variance)
        return denoise(end, below[-1])

    return consistent
