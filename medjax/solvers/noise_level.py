"""The noise level that a denoiser is asked for."""

import jax.numpy as jnp
import numpy as np

from medjax import checks


def noise_level(sigma, dtype, what: str = "sigma"):
    """sigma, a scalar, as `dtype`.

    Raises:
      ValueError: where it is known and not positive, or its square is 0 or infinite in this precision; `what` names it.
    """
    checks.positive(sigma, what)
    if checks.is_concrete(sigma):
        with np.errstate(over="ignore", under="ignore"):
            square = np.asarray(sigma, dtype) ** 2
        if not 0 < square < np.inf:
            raise ValueError(f"{what} is {float(sigma):.4g}, its square {float(square):.4g} in {jnp.dtype(dtype)}: a number nearer to 1 is needed")
    return jnp.asarray(sigma, dtype)
