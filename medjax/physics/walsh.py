"""Coil maps from coil images."""

import jax.numpy as jnp
from jax import lax

from medjax import linalg
from medjax.physics.dominant_eigenvectors import dominant_eigenvectors
from medjax.physics.phase_reference import phase_reference


def walsh(images, block=5, num_steps=30, reference=None):
    r"""Relative coil maps as the dominant eigenvector of the local covariance of coil images.

    .. math::
        R_{cc'}(n) = \sum_{m \in B(n)} m_c(m) \, \overline{m_{c'}(m)}, \qquad R(n) \, s(n) = \lambda(n) \, s(n), \quad \|s(n)\| = 1

    It is the filter of greatest signal to noise ratio over the block, the noise being white: whiten first.

    Args:
      images: `[c, h, w]` complex, one image a coil.
      block: width of the square B in pixels, odd: wider averages more noise, narrower follows the maps better.
      num_steps: of the power iteration.
      reference: `[c]`, weights of the virtual coil whose phase is taken as zero; by default the principal component of the images.

    Returns:
      `[c, h, w]` of unit root sum of squares, real if images and reference are; 0 where all images are 0 over the block.

    Raises:
      ValueError: when the images are not of rank 3 or the block is not odd and positive.

    Reference:
      Walsh, Gmitro & Marcellin (2000), Adaptive reconstruction of phased array MR imagery,
      https://doi.org/10.1002/(SICI)1522-2594(200005)43:5<682::AID-MRM10>3.0.CO;2-G
    """
    if images.ndim != 3:
        raise ValueError(f"walsh needs images [c, h, w], got shape {images.shape}")
    if block < 1 or block % 2 == 0:
        raise ValueError(f"walsh needs an odd block of at least 1, got {block}")
    images = linalg.inexact(images)
    scale = jnp.max(jnp.abs(images))
    unit = images / jnp.where(scale > 0, scale, 1)
    products = unit[:, None] * unit.conj()[None]
    zero = jnp.zeros((), products.dtype)
    half = block // 2
    for axis in (2, 3):
        window = tuple(block if i == axis else 1 for i in range(4))
        padding = tuple((half, half) if i == axis else (0, 0) for i in range(4))
        products = lax.reduce_window(products, zero, lax.add, window, (1, 1, 1, 1), padding)
    maps = dominant_eigenvectors(products, 1, num_steps)[0][0]
    if reference is None:
        samples = unit.reshape(images.shape[0], -1)
        reference = dominant_eigenvectors(samples @ samples.conj().T)[0][0]
    dtype = jnp.result_type(images, jnp.complex64) if jnp.iscomplexobj(reference) else images.dtype
    return phase_reference(maps, jnp.asarray(reference, dtype))
