"""Annealed Langevin dynamics, the sampler of score networks."""

import jax
import jax.numpy as jnp

from medjax import checks
from medjax.typing import Kernel


def annealed_langevin(step_size: float = 0.2, num_steps: int = 100) -> Kernel:
    r"""Langevin steps at the next noise level, from where the last one ended.

    .. math::
        x \leftarrow x + \frac{\alpha}{2} \frac{D(x, \sigma') - x}{\sigma'^2} + \sqrt{\alpha} \, n, \quad \alpha = \epsilon \sigma'^2

    Where sigma' = 0 it denoises, x' = D(x, sigma): the paper's samples keep the noise of its last level.

    Args:
      step_size: epsilon, in (0, 4); the paper's epsilon / sigma_L^2. The variance is too large by about epsilon / 4 of the noise's.
      num_steps: T, Langevin steps a level, one denoiser call each.

    Returns:
      A `Kernel` without state.

    Raises:
      ValueError: for a step size that is out of range, or no steps.

    Reference:
      Song & Ermon (2019), algorithm 1, https://arxiv.org/abs/1907.05600, its levels being those after the first, at which x is given.
      The last step: Jolicoeur-Martineau et al. (2021), https://arxiv.org/abs/2009.05475
    """
    checks.count(num_steps, "num_steps")
    if checks.is_concrete(checks.positive(step_size, "step_size")) and step_size >= 4:
        raise ValueError(f"step_size is {step_size}, less than 4 is needed: beyond, Langevin steps diverge")

    def step(key, x, state, sigma, sigma_next, denoise):
        level = jnp.where(sigma_next > 0, sigma_next, sigma)

        def one(x, i):
            noise = jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
            return x + step_size / 2 * (denoise(x, level) - x) + jnp.sqrt(step_size) * level * noise, None

        x = jax.lax.cond(sigma_next > 0, lambda x: jax.lax.scan(one, x, jnp.arange(num_steps))[0], lambda x: denoise(x, level), x)
        return x, state

    return Kernel(lambda x: (), step)
