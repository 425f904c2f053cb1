"""Maps whose free phase is fixed by one virtual coil."""

import jax.numpy as jnp


def phase_reference(maps, weights):
    r"""Turn the phase of coil maps, pixel by pixel, until a virtual coil is real and positive.

    .. math::
        s \leftarrow s \, \frac{\overline{p}}{|p|}, \quad p = \sum_c \overline{w_c} s_c

    Maps of an eigenvector method know neither phase nor sign. Weights of the principal component of the calibration data give a phase without jumps
    wherever there is signal; a unit vector takes one coil as the reference, which jumps where that coil is dark.

    Args:
      maps: s `[..., c, h, w]` complex.
      weights: w `[c]` complex, the virtual coil.

    Returns:
      Maps of the same shape; unchanged where p is 0.

    Raises:
      ValueError: when the number of coils differs.
    """
    if weights.shape != maps.shape[-3:-2]:
        raise ValueError(f"phase_reference needs one weight for each of {maps.shape[-3]} coils, got shape {weights.shape}")
    p = jnp.sum(weights.conj()[:, None, None].reshape((1,) * (maps.ndim - 3) + (-1, 1, 1)) * maps, axis=-3, keepdims=True)
    square = jnp.real(p) ** 2 + jnp.imag(p) ** 2
    positive = square > 0
    return maps * jnp.where(positive, p.conj() / jnp.sqrt(jnp.where(positive, square, 1)), 1)
