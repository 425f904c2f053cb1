"""Editing by noise: an image is noised part of the way and sampled back."""

import jax
import numpy as np

from medjax import checks
from medjax.samplers.sample import sample
from medjax.typing import Denoiser, Kernel


def sdedit(key, kernel: Kernel, denoise: Denoiser, sigmas, x, strength: float = 0.5):
    r"""SDEdit: what is finer than the noise level is drawn anew, what is coarser stays.

    .. math::
        x_i = x + \sigma_i n, \quad i = N - \mathrm{round}(s N)

    and `sample` from there over the levels that are left.

    Args:
      key: typed key.
      kernel: a `Kernel`.
      denoise: a `Denoiser`, of the prior or of a posterior.
      sigmas: `[N + 1]` decreasing noise levels.
      x: a guide, such as a coarse drawing or an image to be changed, without noise.
      strength: s, share of the steps that are taken, in (0, 1]; of the N steps at least one. 1 starts at `sigmas[0]`.

    Returns:
      A sample, of the shape of x.

    Raises:
      ValueError: for a strength that is out of range, or as `sample`.

    Reference:
      Meng et al. (2022), algorithm 1 (variance exploding), https://arxiv.org/abs/2108.01073. Its start is a time t0, here one of the levels; any
      kernel takes the place of its Euler-Maruyama.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength is {strength}, a number above 0 and at most 1 is needed")
    levels = np.asarray(sigmas) if checks.is_concrete(sigmas) else sigmas
    num = len(levels) - 1
    levels = levels[num - max(round(strength * num), 1) :]
    key_start, key_run = jax.random.split(key)
    start = x + levels[0].astype(x.dtype) * jax.random.normal(key_start, x.shape, x.dtype)
    return sample(key_run, kernel, denoise, levels, start)
