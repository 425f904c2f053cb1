"""White Gaussian noise of known strength."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax.typing import Noise


def gaussian_noise(sigma, support=None):
    r"""y = z + M n with white n; of complex data the real and the imaginary part each have standard deviation sigma.

    .. math::
        \log p(y \mid z) = - \frac{\|M (y - z)\|^2}{2 \sigma^2} + \mathrm{const}

    Args:
      sigma: standard deviation of each real component, scalar > 0, in the unit of the data; may be traced.
      support: mask M of zeros and ones that broadcasts against the data, where anything is measured; None for everywhere.

    Returns:
      A `Noise` whose `sigma(y)` is the scalar given here.

    Raises:
      ValueError: when sigma is known and not positive.
    """
    if not isinstance(sigma, Tracer) and not np.all(np.asarray(sigma) > 0):
        raise ValueError(f"gaussian_noise needs sigma > 0, got {sigma}")

    def masked(a):
        return a if support is None else jnp.broadcast_to(support, a.shape) * a

    def sample(key, z):
        if not jnp.iscomplexobj(z):
            return z + sigma * masked(jax.random.normal(key, z.shape, z.dtype))
        real, imaginary = jax.random.normal(key, (2, *z.shape), jnp.real(z).dtype)
        return z + sigma * masked(jax.lax.complex(real, imaginary))

    def log_likelihood(y, z):
        residual = masked(y - z)
        return -jnp.sum(jnp.real(residual) ** 2 + jnp.imag(residual) ** 2) / (2 * sigma**2)

    return Noise(sample, lambda y: sigma, log_likelihood)
