"""The force of the data, Gaussian or of any noise."""

from collections.abc import Callable

import jax.numpy as jnp

from medjax import checks, linalg


def likelihood_gradient(y, root, log_likelihood: Callable | None = None) -> Callable:
    r"""The gradient of log p(y | z) for the exact data z.

    Args:
      y: data, 0 where nothing was measured.
      root: 1 / sigma_y, 0 there.
      log_likelihood: `(y, z) -> log p(y | z)`, that of a `Noise`; Gaussian with sigma_y if None.

    Returns:
      `z -> gradient`, like y, 0 where nothing was measured.

    Raises:
      ValueError: where the likelihood of known data is 0 at -(1 + max |y|): a sampler's images are negative somewhere, and where the likelihood ends
        nothing pulls them back.
    """
    if log_likelihood is None:
        return lambda z: root**2 * (y - z)
    if checks.is_concrete(y, root):
        with checks.known_now(y, root):
            lowest = log_likelihood(y, jnp.where(root > 0, -(1 + jnp.max(jnp.abs(y))), y))
        if not jnp.isfinite(lowest):
            raise ValueError(f"log_likelihood is {lowest} at negative values, where samples are, too: emission_counts(floor=1) goes on there")
    return lambda z: (root > 0) * linalg.gradient(lambda z: log_likelihood(y, z))(jnp.where(root > 0, z, y))
