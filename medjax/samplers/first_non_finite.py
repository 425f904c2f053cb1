"""Which step of a run went out of all numbers."""

import jax.numpy as jnp

from medjax.samplers.sample import recorded
from medjax.typing import Denoiser, Kernel


def first_non_finite(key, kernel: Kernel, denoise: Denoiser, sigmas, x):
    """Replay a run of `sample` and tell where it broke, so that the run itself need not look.

    Args:
      key: as `sample` had it, and so have the others.
      kernel: a `Kernel`.
      denoise: a `Denoiser`.
      sigmas: `[num_steps + 1]` noise levels.
      x: start.

    Returns:
      Index of the first step after which x holds NaN or infinity, counted from 0; num_steps where none does.

    Raises:
      ValueError: as `sample`.
    """
    _, broken = recorded(key, kernel, denoise, sigmas, x, lambda x: ~jnp.all(jnp.isfinite(x)))
    return jnp.where(jnp.any(broken), jnp.argmax(broken), len(sigmas) - 1)
