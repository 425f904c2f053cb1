"""The levels of split Gibbs sampling."""

import jax.numpy as jnp

from medjax import checks


def coupling(num_steps: int, sigma_min, sigma_max, share: float = 0.5):
    r"""Couplings that fall geometrically from sigma_max to sigma_min in the first steps, then by a tenth over the others, then 0.

    For `pnp_dm`, whose law does not depend on the coupling below :math:`1 / \|\Sigma_y^{-1/2} A\|`: the steps there let the chain forget how it came.

    Args:
      num_steps: N >= 2.
      sigma_min: where the fall slows, a little below 1 / ||A / sigma_y||; may be traced.
      sigma_max: first level, above the standard deviation of the prior in any direction.
      share: of the steps above sigma_min.

    Returns:
      `[N + 1]` decreasing levels, the last one 0.

    Raises:
      ValueError: for fewer than 2 steps, or levels that are known and not in 0 < sigma_min < sigma_max.
    """
    if num_steps < 2:
        raise ValueError(f"coupling needs at least 2 steps, got {num_steps}")
    if checks.is_concrete(sigma_min, sigma_max) and not 0 < sigma_min < sigma_max:
        raise ValueError(f"coupling needs 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    high = min(max(1, round(share * num_steps)), num_steps - 1)
    fall = sigma_max * (sigma_min / sigma_max) ** (jnp.arange(high) / high)
    slow = sigma_min * 0.9 ** (jnp.arange(num_steps - high) / (num_steps - high))
    return jnp.concatenate([fall, slow, jnp.zeros(1)])
