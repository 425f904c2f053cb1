"""The 3 x 3 convolution, whose adjoints are written out, against the convolution that autodiff differentiates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from medjax.networks import conv3x3 as module
from medjax.networks.conv3x3 import conv3x3, per_channel


def plain(h, kernel):
    """The same map, left to autodiff."""
    return lax.conv_general_dilated(h[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]


@pytest.fixture(params=[(7, 9, 3, 4), (5, 6, 4, 3), (1, 1, 2, 2), (6, 5, 4, 3), (12, 5, 5, 7), (3, 40, 1, 6)], ids=str)
def drawn(request, key, monkeypatch):
    """h, kernel, a tangent of each and a cotangent, f64; strips so small that there is none, one, several, an incomplete last, the most."""
    monkeypatch.setattr(module, "_STRIP", 16)
    monkeypatch.setattr(module, "_STRIPS", 4)
    monkeypatch.setattr(module, "_SMALL", 1 if request.param[0] == 5 else 30)
    jax.clear_caches()
    rows, width, c, features = request.param
    shapes = ((rows, width, c), (3, 3, c, features)) * 2 + ((rows, width, features),)
    yield [jax.random.normal(k, shape, jnp.float64) for k, shape in zip(jax.random.split(key, 5), shapes, strict=True)]
    jax.clear_caches()  # traces with such strips


def test_derivatives_are_those_of_the_plain_convolution(drawn):
    """Forward, reverse, and reverse over forward, for the image and for the kernel; a batch as its members."""
    h, kernel, h_dot, kernel_dot, g = drawn

    def derivatives(convolve):
        value, tangent = jax.jvp(convolve, (h, kernel), (h_dot, kernel_dot))
        adjoints = jax.vjp(convolve, h, kernel)[1](g)

        def curved(h, kernel):
            return jnp.vdot(g, convolve(h, kernel) ** 3)

        second = jax.jvp(jax.grad(curved, (0, 1)), (h, kernel), (h_dot, kernel_dot))[1]
        batch = jax.vmap(jax.grad(curved, (0, 1)), (0, None))(jnp.stack([h, h_dot]), kernel)
        return value, tangent, adjoints, second, batch

    for ours, theirs in zip(jax.tree.leaves(derivatives(conv3x3)), jax.tree.leaves(derivatives(plain)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * float(jnp.abs(theirs).max()))


def test_per_channel_is_a_broadcast(key):
    """In value, gradient and batch."""
    v, g = jax.random.normal(key, (3,), jnp.float64), jax.random.normal(key, (2, 4, 5, 3), jnp.float64)
    value, adjoint = jax.vjp(lambda v: jax.vmap(lambda g: g * per_channel(v, (4, 5)))(g), v)
    np.testing.assert_allclose(value, np.asarray(g) * np.asarray(v), rtol=1e-12)
    np.testing.assert_allclose(adjoint(g)[0], jnp.sum(g**2, (0, 1, 2)), rtol=1e-12)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_convolve_a_batch_at_once(platform):
    """A training's three convolutions take all examples: none in groups, as gradients of kernels example by example are, and no loop."""

    def loss(h, kernel):
        return jnp.sum(jax.vmap(conv3x3, (0, None))(h, kernel) ** 2)

    h, kernel = jax.ShapeDtypeStruct((5, 24, 24, 4), jnp.float32), jax.ShapeDtypeStruct((3, 3, 4, 6), jnp.float32)
    lines = jax.jit(jax.grad(loss, (0, 1))).trace(h, kernel).lower(lowering_platforms=(platform,)).as_text().splitlines()
    convolutions = [line for line in lines if "stablehlo.convolution" in line]
    assert len(convolutions) == 3
    assert all("batch_group_count = 1 " in line and "feature_group_count = 1 " in line for line in convolutions)
    assert not any("stablehlo.while" in line for line in lines)
