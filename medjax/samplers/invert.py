"""From an image back to the noise that it comes from."""

import functools

import jax
import numpy as np

from medjax import checks
from medjax.samplers.heun import heun
from medjax.samplers.sample import recorded
from medjax.typing import Denoiser, Kernel


def invert(denoise: Denoiser, sigmas, x, kernel: Kernel | None = None):
    r"""The probability-flow ODE from low to high noise: `sample` over the reversed levels.

    `sample` from the result, with the same levels and kernel, gives x back up to the error of the integrator. The result is a latent: close images
    have close ones, and for the exact denoiser it is distributed as x0 + sigma_max n.

    Args:
      denoise: a `Denoiser`.
      sigmas: decreasing noise levels as `sample` takes them. A last level of 0, which must be known, is left out: an image without noise counts as
        one at the last level above 0.
      x: an image at the last level.
      kernel: deterministic: `heun()` by default, `ddim(0.0)`, `dpmpp_2m()`, `unipc()` or `runge_kutta()`.

    Returns:
      x at noise level `sigmas[0]`, of the shape of x.

    Raises:
      ValueError: as `sample`, and for a kernel that draws noise.

    Reference:
      Song, Meng & Ermon (2021), section 4.3 and eq. 14, https://arxiv.org/abs/2010.02502, there by Euler's method, `ddim(0.0)`.
    """
    if checks.is_concrete(sigmas):
        sigmas = np.asarray(sigmas)
        sigmas = sigmas[:-1] if sigmas.ndim and len(sigmas) and sigmas[-1] == 0 else sigmas
    kernel = kernel or heun()
    if kernel.particles or "random_bits" in str(jax.make_jaxpr(functools.partial(_step, kernel))(jax.random.key(0), x)):
        raise ValueError("invert needs a deterministic kernel, this one draws noise")
    return recorded(jax.random.key(0), kernel, denoise, sigmas[::-1], x, lambda x: None, rising=True)[0]


def _step(kernel, key, x):
    """One step towards more noise, to see what it draws."""
    return kernel.step(key, x, kernel.init(x), 1.0, 2.0, lambda x, sigma: x)
