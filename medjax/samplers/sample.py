"""The one sampling loop."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from medjax import checks, linalg
from medjax.typing import Denoiser, Kernel


def sample(key, kernel: Kernel, denoise: Denoiser, sigmas, x):
    """Carry `x` from noise level `sigmas[0]` to `sigmas[-1]` by one kernel step for each neighbouring pair.

    One `lax.scan` that carries x and the kernel's state and stacks nothing, so memory does not grow with the number of steps. Step i
    draws from `fold_in(key, i)`.

    Args:
      key: typed key.
      kernel: a `Kernel`.
      denoise: denoiser of the prior, or of the posterior when a guide has been applied.
      sigmas: `[num_steps + 1]` strictly decreasing noise levels, the last one may be 0, in the precision of x; `invert` leads back to noise.
      x: start, one example at noise level `sigmas[0]`; `vmap` over `key` and `x` for many.

    Returns:
      x at noise level `sigmas[-1]`, of the shape of x.

    Raises:
      ValueError: for known levels that are not so, fewer than two, or a last one above 0 for a kernel that needs 0.
    """
    return recorded(key, kernel, denoise, sigmas, x, lambda x: None)[0]


def recorded(key, kernel: Kernel, denoise: Denoiser, sigmas, x, record: Callable, rising: bool = False):
    """`sample`, and what `record(x)` gives after each step: `(x, rows)`, rows of `[num_steps, ...]`. Rising levels, above 0, lead back to noise."""
    x = linalg.inexact(x)
    levels = _checked(sigmas, linalg.real_dtype(x), kernel, rising)

    def body(carry, inputs):
        x, state = carry
        step, sigma, sigma_next = inputs
        x, state = kernel.step(jax.random.fold_in(key, step), x, state, sigma, sigma_next, denoise)
        return (x, state), record(x)

    inputs = (jnp.arange(len(levels) - 1), levels[:-1], levels[1:])
    (x, _), rows = jax.lax.scan(body, (x, kernel.init(x)), inputs)
    return x, rows


def _checked(sigmas, dtype, kernel, rising):
    """`sigmas` in the precision of x, refused where they are known and lead nowhere."""
    if jnp.ndim(sigmas) != 1 or len(sigmas) < 2:
        raise ValueError(f"sigmas is {list(jnp.shape(sigmas))}, a vector of at least 2 noise levels is needed")
    if checks.is_concrete(sigmas):
        levels = np.asarray(sigmas, dtype)
        if not np.all(np.isfinite(levels) & (levels >= 0)):
            raise ValueError(f"sigmas hold {levels[~(np.isfinite(levels) & (levels >= 0))][0]}, finite noise levels of at least 0 are needed")
        wrong = np.flatnonzero((np.diff(levels) <= 0) | (levels[:-1] == 0) if rising else np.diff(levels) >= 0)
        if len(wrong):
            found = f"sigmas go from {levels[wrong[0]]:.4g} to {levels[wrong[0] + 1]:.4g} at step {wrong[0]}"
            raise ValueError(f"{found}; strictly {'increasing noise levels above 0' if rising else 'decreasing noise levels'} are needed")
        if kernel.ends_at_zero and levels[-1] > 0:
            raise ValueError(f"sigmas end at {levels[-1]:.4g}; this kernel weighs its particles for the last time at 0, which is needed")
    return jnp.asarray(sigmas, dtype)
