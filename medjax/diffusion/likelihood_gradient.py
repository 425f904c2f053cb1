"""The force of the data, Gaussian or of any noise."""

from collections.abc import Callable

import jax.numpy as jnp

from medjax import linalg


def likelihood_gradient(y, root, log_likelihood: Callable | None = None) -> Callable:
    r"""The gradient of log p(y | z) for the exact data z.

    Args:
      y: data, 0 where nothing was measured.
      root: 1 / sigma_y, 0 there.
      log_likelihood: `(y, z) -> log p(y | z)`, that of a `Noise`; Gaussian with sigma_y if None.

    Returns:
      `z -> gradient`, like y, 0 where nothing was measured.
    """
    if log_likelihood is None:
        return lambda z: root**2 * (y - z)
    return lambda z: (root > 0) * linalg.gradient(lambda z: log_likelihood(y, z))(jnp.where(root > 0, z, y))
