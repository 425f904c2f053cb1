"""Maps of each pixel: values and derivatives of all orders, and what the gradient keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from medjax.networks.pointwise import Dense, silu


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
