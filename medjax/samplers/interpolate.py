"""Images between two images, by their latents."""

import jax
import jax.numpy as jnp

from medjax.linalg import norm, vdot
from medjax.samplers.heun import heun
from medjax.samplers.invert import invert
from medjax.samplers.sample import sample
from medjax.typing import Denoiser, Kernel


def interpolate(denoise: Denoiser, sigmas, x_a, x_b, weights, kernel: Kernel | None = None):
    r"""Both images are inverted, the latents interpolated on their great circle, and these sampled from.

    .. math::
        z_w = \frac{\sin((1 - w) \theta)}{\sin \theta} z_a + \frac{\sin(w \theta)}{\sin \theta} z_b, \quad
        \cos \theta = \frac{\langle z_a, z_b \rangle}{\|z_a\| \|z_b\|}

    A straight line would pass latents that are shorter than noise is. Latents of one direction are interpolated on it; opposite ones have no circle.

    Args:
      denoise: a `Denoiser`.
      sigmas: decreasing noise levels, the first far above the images' own scale; see `invert` for the last.
      x_a: an image.
      x_b: another one of its shape.
      weights: `[n]` w; 0 gives x_a, 1 gives x_b.
      kernel: deterministic, `heun()` by default.

    Returns:
      `[n, ...]` images.

    Raises:
      ValueError: as `sample`.

    Reference:
      Song, Meng & Ermon (2021), section 5.3, https://arxiv.org/abs/2010.02502
    """
    kernel = kernel or heun()
    z_a, z_b = (invert(denoise, sigmas, x, kernel) for x in (x_a, x_b))
    cosine = vdot(z_a, z_b) / (norm(z_a) * norm(z_b))
    apart = 1 - jnp.abs(cosine) > 10 * jnp.finfo(cosine.dtype).eps
    theta = jnp.arccos(jnp.where(apart, cosine, 0))

    def one(w):
        a, b = (jnp.where(apart, jnp.sin(v * theta) / jnp.sin(theta), v) for v in (1 - w, w))
        return sample(jax.random.key(0), kernel, denoise, sigmas, a * z_a + b * z_b)

    return jax.vmap(one)(jnp.asarray(weights, cosine.dtype))
