"""Decomposed diffusion sampling of volumes."""

import jax
import jax.numpy as jnp

from medjax import checks
from medjax.samplers.tv_admm import tv_admm
from medjax.typing import Kernel, Operator


def dds_volume(A: Operator, y, sigma_y=1.0, *, strength=0.04, rho=10.0, num_admm: int = 1, num_krylov: int = 5, eta: float = 0.85) -> Kernel:
    r"""DDS for volumes: the denoised slices are pulled to the data and to agreement with each other.

    .. math::
        D = D(x, \sigma), \quad
        \hat D \approx \arg\min_v \; \tfrac12 \| (y - A v) / \sigma_y \|^2 + \lambda \| D_z v \|_1 \;\text{ from } D, \quad
        x' = \hat D + \sigma' \Bigl(\sqrt{1 - \eta^2} \, \frac{x - D}{\sigma} + \eta n\Bigr)

    by `tv_admm`, whose z and w are kept over the noise levels. The steps are those of `diffusion_mbir`, on the denoised instead of the noisy volume.
    Meant for the denoiser `slicewise(denoise)`. The noise that x' keeps is that of the denoiser, not (x - D^) / sigma as with the guide `dds`.

    Args:
      A: operator of volumes, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      strength: lambda >= 0 of the total variation between slices; 0.04 is the paper's, for sigma_y = 1.
      rho: penalty of ADMM > 0, 10 in the paper.
      num_admm: steps of ADMM a noise level.
      num_krylov: conjugate gradient steps in each.
      eta: share of fresh noise, in [0, 1].

    Returns:
      A `Kernel`, one denoiser call a step; its state holds two arrays like x, and its memory is a few more.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Chung, Lee & Ye (2024), decomposed diffusion sampler, 3-D, by the authors' code, https://arxiv.org/abs/2303.05754
    """
    checks.fraction(eta, "eta")
    refine = tv_admm(A, y, sigma_y, strength=strength, rho=rho, num_admm=num_admm, num_krylov=num_krylov)

    def step(key, x, state, sigma, sigma_next, denoise):
        denoised = denoise(x, sigma)
        refined, state = refine.step(key, denoised, state, sigma, sigma_next, denoise)
        noise = jnp.sqrt(1 - jnp.asarray(eta, x.dtype) ** 2) * (x - denoised) / sigma + eta * jax.random.normal(key, x.shape, x.dtype)
        return refined + sigma_next * noise, state

    return Kernel(refine.init, step)
