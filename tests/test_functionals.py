"""Contract of every functional. A new one adds a row to FUNCTIONALS."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.restoration import denoise_tv_chambolle

from medjax.functionals.total_variation import total_variation

FUNCTIONALS = {  # name -> (functional, shape, accuracy of its prox: 0 for closed forms)
    "total_variation": (total_variation(0.3, num_steps=2000), (9, 8), 1e-5),
    "total_variation_channels": (total_variation(0.3, num_steps=2000), (7, 8, 2), 1e-5),
    "total_variation_nonnegative": (total_variation(0.3, num_steps=2000, nonnegative=True), (9, 8), 1e-5),
}
cases = pytest.mark.parametrize("functional, shape, accuracy", FUNCTIONALS.values(), ids=FUNCTIONALS)
TAU = 0.7


def _objective(functional, v):
    return jax.jit(jax.vmap(lambda x: functional.value(x) + jnp.sum(jnp.abs(x - v) ** 2) / (2 * TAU)))


@cases
def test_prox_is_never_beaten(key, functional, shape, accuracy):
    v = jax.random.normal(key, shape)
    x = functional.prox(v, TAU)
    noise = jax.random.normal(jax.random.fold_in(key, 1), (300, *shape))
    shrink = jnp.geomspace(1e-5, 1, 300).reshape(300, *(1,) * len(shape))
    others = x[None] + shrink * jnp.where(jnp.arange(300).reshape(shrink.shape) % 2 == 0, noise, v[None] - x[None])
    objective = _objective(functional, v)
    assert jnp.isfinite(objective(x[None])[0])
    assert objective(x[None])[0] <= jnp.min(objective(others)) + accuracy**2  # strongly convex: the gap is quadratic in the error


@cases
def test_prox_is_firmly_nonexpansive(key, functional, shape, accuracy):
    u, v = jax.random.normal(key, (2, *shape))
    p, q = functional.prox(u, TAU), functional.prox(v, TAU)
    assert jnp.sum((p - q) ** 2) <= jnp.vdot(p - q, u - v) + accuracy * jnp.linalg.norm(u - v)
    assert jnp.linalg.norm(p - q) > 0.01 * jnp.linalg.norm(u - v)


@cases
def test_moreau_slope_is_a_subgradient(key, functional, shape, accuracy):
    """(v - x) / tau lies in the subdifferential at x: value(z) >= value(x) + <(v - x) / tau, z - x> for all z."""
    v = jax.random.normal(key, shape)
    x = functional.prox(v, TAU)
    z = jnp.abs(jax.random.normal(jax.random.fold_in(key, 2), (200, *shape))) * jnp.geomspace(1e-3, 10, 200).reshape(200, *(1,) * len(shape))
    z = jnp.concatenate([z, 0 * x[None], 2 * x[None]])  # of a norm, these two fix the strength
    bound = functional.value(x) + jnp.sum(((v - x) / TAU)[None] * (z - x[None]), axis=tuple(range(1, z.ndim)))
    assert jnp.all(jax.vmap(functional.value)(z) >= bound - accuracy * jnp.linalg.norm(v))  # the prox is inexact by `accuracy`


@cases
def test_vmap_and_zero_step(key, functional, shape, accuracy):
    v = jnp.abs(jax.random.normal(key, (2, *shape)))
    assert jnp.allclose(jax.vmap(functional.prox, (0, None))(v, TAU)[1], functional.prox(v[1], TAU), rtol=0, atol=1e-9)
    assert jnp.allclose(functional.prox(v[0], 0.0), v[0], rtol=0, atol=0)


def test_total_variation_of_a_square():
    x = jnp.zeros((10, 10)).at[3:6, 4:8].set(2.0)
    corner = np.sqrt(2) - 2  # at the lower right corner both differences share a root
    assert jnp.allclose(total_variation(0.5).value(x), 0.5 * 2 * (2 * 3 + 2 * 4 + corner), rtol=1e-12)
    both = jnp.stack([x, x], axis=-1)
    assert jnp.allclose(total_variation(0.5).value(both), np.sqrt(2) * total_variation(0.5).value(x), rtol=1e-12)
    assert jnp.all(jnp.isfinite(jax.grad(total_variation(1.0).value)(x)))
    assert total_variation(1.0, nonnegative=True).value(-x) == jnp.inf


def test_total_variation_prox_equals_scikit_image(key):
    v = jnp.zeros((32, 32)).at[8:20, 5:17].set(1.0) + 0.1 * jax.random.normal(key, (32, 32))
    x = total_variation(0.1, num_steps=1000).prox(v, 1.0)
    reference = denoise_tv_chambolle(np.asarray(v), weight=0.1, eps=1e-12, max_num_iter=20000)
    assert jnp.max(jnp.abs(x - reference)) < 1e-3  # their method is of first order and stops by its energy


def test_total_variation_prox_of_complex_images_joins_the_parts(key):
    v = jax.random.normal(key, (8, 8), jnp.complex128)
    tv = total_variation(0.3)
    x = tv.prox(jnp.stack([v.real, v.imag], axis=-1), 1.0)
    assert jnp.allclose(tv.prox(v, 1.0), x[..., 0] + 1j * x[..., 1], rtol=0, atol=1e-12)
