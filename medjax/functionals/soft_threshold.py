"""Vectors made shorter by a threshold."""

import jax.numpy as jnp

from medjax.functionals.length import length


def soft_threshold(v, threshold, axes=()):
    r""":math:`v \max(0, 1 - t / \|v\|)`, with the length over `axes`, or of each number where there are none.

    Args:
      v: real or complex array.
      threshold: t >= 0, scalar or like the lengths, which keep their axes with size 1.
      axes: tuple.

    Returns:
      Like v.
    """
    if not jnp.iscomplexobj(v) and not axes:
        return v - jnp.clip(v, -threshold, threshold)
    longest = jnp.maximum(jnp.maximum(length(v, axes), threshold), jnp.finfo(v.dtype).tiny)
    return v * (1 - threshold / longest)
