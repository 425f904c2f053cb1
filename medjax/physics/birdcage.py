"""Receive coils of a simulated birdcage."""

import math

import jax.numpy as jnp
from jax.core import Tracer


def birdcage(shape, num_coils, radius=1.5, coils_per_ring=None):
    r"""Complex sensitivities of coils on one or several rings, normalised to unit root sum of squares.

    With the field of view as [-1, 1]^d, coil c of a ring of n at :math:`(x_c, y_c) = \text{radius} \, (\cos, \sin)(2 \pi c / n)` and, in 3-D, height
    :math:`z_c`,

    .. math::
        s_c(r) \propto \frac{1}{|r - r_c|} \exp i \Bigl( \operatorname{atan2}(x - x_c, y_c - y) - \frac{2 \pi c}{n} \Bigr), \quad \sum_c |s_c|^2 = 1

    Rings are one unit (half a field of view) apart and centred; coil c of ring m has the further phase -2 pi m / n. x runs along the last axis, y
    along the one before it, both with their origin at index n // 2.

    Args:
      shape: (h, w) or (d, h, w).
      num_coils: number of coils c.
      radius: of the ring, in units of half the field of view, > 1; may be traced and differentiated.
      coils_per_ring: n; by default `num_coils` in 2-D and 8 in 3-D.

    Returns:
      `[c, *shape]` complex.

    Raises:
      ValueError: when the shape is not of 2 or 3 sizes, a count is below 1, a 2-D shape asks for several rings, or a known radius is at most 1.

    Reference:
      The formula is that of sigpy's `birdcage_maps`, https://sigpy.readthedocs.io, whose origin n / 2 is ours for even n.
    """
    if len(shape) not in (2, 3):
        raise ValueError(f"birdcage needs a shape (h, w) or (d, h, w), got {shape}")
    per_ring = (num_coils if len(shape) == 2 else 8) if coils_per_ring is None else coils_per_ring
    if num_coils < 1 or per_ring < 1 or (len(shape) == 2 and per_ring < num_coils):
        raise ValueError(f"birdcage needs at least one coil, and one ring in 2-D, got {num_coils} coils, {per_ring} a ring, shape {shape}")
    if not isinstance(radius, Tracer) and not radius > 1:
        raise ValueError(f"birdcage needs coils outside the field of view, radius > 1, got {radius}")
    coil = jnp.arange(num_coils)
    ring, angle = coil // per_ring, (2 * math.pi / per_ring) * coil
    height = ring - 0.5 * (math.ceil(num_coils / per_ring) - 1)
    centres = jnp.stack([height, radius * jnp.sin(angle), radius * jnp.cos(angle)])[-len(shape) :]
    phase = -angle - (2 * math.pi / per_ring) * ring

    def offset(axis, n):
        spread = [1] * (len(shape) + 1)
        spread[axis + 1] = n
        grid = ((jnp.arange(n) - n // 2) / (n / 2)).reshape(spread)
        return grid - centres[axis].reshape(-1, *[1] * len(shape))

    offsets = [offset(axis, n) for axis, n in enumerate(shape)]
    y, x = offsets[-2:]
    in_plane = x**2 + y**2
    distance = in_plane if len(shape) == 2 else in_plane + offsets[0] ** 2
    # e^{i atan2(x, -y)} = (-y + i x) / sqrt(x^2 + y^2), smooth in the radius
    turn = jnp.exp(1j * phase).reshape(-1, *[1] * len(shape))
    maps = turn * (-y + 1j * x) / jnp.sqrt(jnp.maximum(distance * in_plane, 1e-12))
    return maps / jnp.sqrt(jnp.sum(maps.real**2 + maps.imag**2, axis=0, keepdims=True))
