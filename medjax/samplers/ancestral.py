"""Ancestral sampling, the sampler of denoising diffusion probabilistic models."""

import jax
import jax.numpy as jnp

from medjax.samplers.ddim import ddim
from medjax.typing import Kernel


def ancestral(variance: str = "posterior") -> Kernel:
    r"""DDPM in variance-exploding coordinates.

    .. math::
        x' = D + \frac{\sigma'^2}{\sigma^2} (x - D) + \sqrt{v} \, n, \quad
        v = \frac{\sigma'^2 (\sigma^2 - \sigma'^2)}{\sigma^2} \;\text{or}\; \frac{(\sigma^2 - \sigma'^2) (1 + \sigma'^2)}{1 + \sigma^2}

    with D = D(x, sigma): the mean of x' given x and x0 = D. The first v is its variance, right for an x0 that is one image, and the kernel is
    `ddim(1.0)`; the second is the variance of a forward step, right for x0 ~ N(0, I), so it wants images of that scale. No noise is added where
    sigma' = 0.

    Args:
      variance: "posterior" or "forward", the paper's beta tilde and beta.

    Returns:
      A `Kernel` without state, one denoiser call a step.

    Raises:
      ValueError: for another variance.

    Reference:
      Ho, Jain & Abbeel (2020), algorithm 2 and section 3.2, https://arxiv.org/abs/2006.11239, after x -> x / sqrt(alpha bar).
    """
    if variance not in ("posterior", "forward"):
        raise ValueError(f"variance is {variance!r}; posterior or forward is needed")
    if variance == "posterior":
        return ddim(1.0)

    def step(key, x, state, sigma, sigma_next, denoise):
        denoised = denoise(x, sigma)
        spread = jnp.sqrt((sigma**2 - sigma_next**2) * (1 + sigma_next**2) / (1 + sigma**2))
        noise = jnp.where(sigma_next > 0, spread, 0) * jax.random.normal(key, x.shape, x.dtype)
        return denoised + (sigma_next / sigma) ** 2 * (x - denoised) + noise, state

    return Kernel(lambda x: (), step)
