"""Vectors of a bounded length."""

import jax.numpy as jnp


def shortened(p, radius, axes=()):
    """p with its vectors along `axes`, single numbers where there are none, made at most `radius` > 0 long; its derivative at 0 is finite."""
    square = jnp.real(p) ** 2 + jnp.imag(p) ** 2
    square = jnp.sum(square, axes, keepdims=True) if axes else square
    return p * jnp.minimum(1, radius / jnp.sqrt(jnp.maximum(square, jnp.finfo(square.dtype).tiny)))
