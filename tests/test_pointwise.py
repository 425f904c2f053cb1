"""Maps of each pixel, and norms with a modulation: values and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from medjax.networks.pointwise import Dense, silu
from medjax.networks.unet import GroupNorm


@pytest.mark.parametrize("order", range(4))
def test_silu_is_that_of_jax_with_its_derivatives(order):
    found, wanted = silu, jax.nn.silu
    for _ in range(order):
        found, wanted = jax.grad(found), jax.grad(wanted)
    x = jnp.linspace(-30.0, 30.0, 601)
    np.testing.assert_allclose(jax.vmap(found)(x), jax.vmap(wanted)(x), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("x", [-1e30, -1e4, 0.0, 1e4, 1e30])
def test_silu_is_finite_far_out(x):
    value, slope = jax.value_and_grad(silu)(x)
    assert value == jax.nn.silu(x)
    assert slope == (0.5 if x == 0 else float(x > 0))


def test_silu_keeps_the_precision_of_its_input():
    x = jnp.ones(3, jnp.bfloat16)
    assert silu(x).dtype == jax.grad(lambda x: silu(x).sum())(x).dtype == jnp.bfloat16


def test_dense_is_that_of_flax_with_its_weights_and_derivatives():
    x = jax.random.normal(jax.random.key(0), (5, 4, 3))
    ours, theirs = Dense(7), nn.Dense(7)
    params = ours.init(jax.random.key(1), x)
    assert jax.tree.structure(params) == jax.tree.structure(theirs.init(jax.random.key(1), x))

    def curvature(module):
        slope = jax.grad(lambda params, x: jnp.sum(jnp.sin(module.apply(params, x))), argnums=(0, 1))
        return jax.jvp(lambda x: slope(params, x), (x,), (jnp.cos(x),))

    for found, wanted in zip(*map(jax.tree.leaves, map(jax.jit(curvature, static_argnums=0), (ours, theirs))), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_dense_is_named_as_that_of_flax():
    """Weights that were trained before find their layers."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Dense(2)(Dense(2)(x))

    assert set(Network().init(jax.random.key(0), jnp.ones(2))["params"]) == {"Dense_0", "Dense_1"}


def test_a_norm_applies_what_it_is_given_after_its_own():
    """Factor and offset by channel, in value and in all gradients, with scales and shifts that are not 1 and 0."""
    keys = jax.random.split(jax.random.key(2), 5)
    h, params = (
        3 + jax.random.normal(keys[0], (6, 5, 16)),
        {name: jax.random.normal(k, (16,)) for name, k in zip(("scale", "shift"), keys[1:3], strict=True)},
    )
    factor, offset = (jax.random.normal(k, (16,)) for k in keys[3:])

    def plain(params, h, factor, offset):
        groups = h.reshape(6, 5, 2, 8)
        mean, var = groups.mean((0, 1, 3), keepdims=True), groups.var((0, 1, 3), keepdims=True)
        normal = ((groups - mean) / jnp.sqrt(var + 1e-5)).reshape(h.shape)
        return (normal * params["scale"][None, None] + params["shift"][None, None]) * factor[None, None] + offset[None, None]

    def ours(params, h, factor, offset):
        return GroupNorm().apply({"params": params}, h, factor, offset)

    found, wanted = (
        jax.value_and_grad(lambda *args, fn=fn: jnp.sum(jnp.sin(fn(*args))), (0, 1, 2, 3))(params, h, factor, offset) for fn in (ours, plain)
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)
