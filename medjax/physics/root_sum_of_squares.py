"""Magnitude over coils."""

import jax.numpy as jnp


def root_sum_of_squares(images, axis=0):
    r"""Combine coil images to a magnitude, without knowing the coils.

    .. math::
        m = \sqrt{\sum_c |m_c|^2}

    Optimal only up to the coils' own shading, and biased upwards by noise where the signal is weak. Its gradient at 0 is 0.

    Args:
      images: `[c, ...]`, real or complex; whitened, so that all coils have unit noise.
      axis: of the coils.

    Returns:
      `[...]` real.

    Reference:
      Roemer et al. (1990), The NMR phased array, https://doi.org/10.1002/mrm.1910160203
    """
    square = jnp.sum(jnp.real(images) ** 2 + jnp.imag(images) ** 2, axis=axis)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)
