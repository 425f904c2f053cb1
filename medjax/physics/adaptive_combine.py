"""One image from coil images."""

import jax.numpy as jnp


def adaptive_combine(images, maps):
    r"""The matched filter: the image of greatest signal to noise ratio from whitened coil images and their maps.

    .. math::
        x = \frac{\sum_c \overline{s_c} \, m_c}{\sum_c |s_c|^2}

    With the maps of `walsh(images)` it is the adaptive combination of Walsh et al.; with true maps, the optimal one of Roemer et al.

    Args:
      images: m `[c, ...]` complex, whitened.
      maps: s `[c, ...]`, of `walsh`, `espirit` or `birdcage`; may be traced and differentiated.

    Returns:
      `[...]` complex, 0 where all maps are 0.

    Raises:
      ValueError: when the shapes differ.

    Reference:
      Roemer et al. (1990), The NMR phased array, https://doi.org/10.1002/mrm.1910160203; Walsh, Gmitro & Marcellin (2000).
    """
    if images.shape != maps.shape:
        raise ValueError(f"adaptive_combine needs images and maps of one shape, got {images.shape} and {maps.shape}")
    square = jnp.sum(jnp.real(maps) ** 2 + jnp.imag(maps) ** 2, axis=0)
    seen = square > 0
    return jnp.where(seen, jnp.sum(maps.conj() * images, axis=0) / jnp.where(seen, square, 1), 0)
