"""The one sampling loop."""

import jax
import jax.numpy as jnp

from medjax.typing import Denoiser, Kernel


def sample(key, kernel: Kernel, denoise: Denoiser, sigmas, x):
    """Carry `x` from noise level `sigmas[0]` to `sigmas[-1]` by one kernel step for each neighbouring pair.

    One `lax.scan` that carries x and the kernel's state and stacks nothing, so memory does not grow with the number of steps. Step i
    draws from `fold_in(key, i)`.

    Args:
      key: typed key.
      kernel: a `Kernel`.
      denoise: denoiser of the prior, or of the posterior when a guide has been applied.
      sigmas: `[num_steps + 1]` decreasing noise levels, the last one may be 0.
      x: start, one example at noise level `sigmas[0]`; `vmap` over `key` and `x` for many.

    Returns:
      x at noise level `sigmas[-1]`, of the shape of x.
    """

    def body(carry, inputs):
        x, state = carry
        step, sigma, sigma_next = inputs
        return kernel.step(jax.random.fold_in(key, step), x, state, sigma, sigma_next, denoise), None

    inputs = (jnp.arange(len(sigmas) - 1), sigmas[:-1], sigmas[1:])
    (x, _), _ = jax.lax.scan(body, (x, kernel.init(x)), inputs)
    return x
