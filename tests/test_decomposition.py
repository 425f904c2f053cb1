"""Operators that know their singular value decomposition, and the sampler that needs one, coefficient by coefficient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_matrix import Dense

from medjax import linalg
from medjax.operators.algebra import compose, scale
from medjax.operators.blur import blur
from medjax.operators.complex_channels import complex_channels
from medjax.operators.decomposed import decomposed
from medjax.operators.inpaint import inpaint
from medjax.operators.masked_fourier import masked_fourier
from medjax.samplers.ddrm import ddrm

SIGMA, BELOW, SIGMA_Y = 0.7, 0.4, 0.3


def tall(key):
    """A matrix of rank 5 from 6 numbers to 9."""
    keys = jax.random.split(key)
    return jax.random.normal(keys[0], (9, 5)) @ jax.random.normal(keys[1], (5, 6))


# name -> (key -> operator, shape of x)
OPERATORS = {
    "inpaint": (lambda key: inpaint(jnp.array([[1.0, 0.0, -2.0], [0.5, 1.0, 0.0]])), (2, 3)),
    "inpaint_channels": (lambda key: inpaint(jnp.array([[True, False, True], [False, True, True]])), (2, 3, 2)),
    "fourier": (lambda key: compose(masked_fourier(jnp.array([[1.0, 0.0, -2.0], [0.5, 1.0, 0.0]])), complex_channels()), (2, 3, 2)),
    "blur": (lambda key: blur(jax.random.normal(key, (3, 2)), (5, 4)), (5, 4)),
    "decomposed_wide": (lambda key: decomposed(Dense(jax.random.normal(key, (4, 7))), (7,)), (7,)),
    "decomposed_tall": (lambda key: decomposed(Dense(tall(key)), (6,)), (6,)),
    "decomposed_complex": (lambda key: decomposed(Dense(jax.random.normal(key, (3, 7), complex)), (7,)), (7,)),
}
operators = pytest.mark.parametrize("make, shape", OPERATORS.values(), ids=OPERATORS)


@operators
def test_svd_is_that_of_the_operator(key, make, shape):
    """V is isometric and onto; in its coefficients A and A^H are products with the values; U is isometric on the range, and 0 off it."""
    x = jax.random.normal(jax.random.fold_in(key, 1), shape)

    def parts(key, x):
        A = make(key)
        svd, y = A.svd(), A(x)
        y = y + jax.random.normal(jax.random.fold_in(key, 2), y.shape, y.dtype)
        c = svd.analyse(x)
        return svd.values, c, svd.synthesise(c), A(x), svd.project(A(x)), svd.project(y), svd.analyse(A.adjoint(y))

    values, c, back, clean, seen, projected, adjoint = jax.jit(parts)(key, x)
    values = np.broadcast_to(np.reshape(values, values.shape + (1,) * (c.ndim - values.ndim)), c.shape)
    assert np.all(values >= 0) and np.isrealobj(values) and np.sum(values > 0) > 0
    assert np.allclose(np.linalg.norm(c), np.linalg.norm(x), rtol=1e-12)
    assert back.dtype == x.dtype and np.allclose(back, x, rtol=0, atol=1e-12)
    assert np.allclose(seen, values * c, rtol=0, atol=1e-10)
    assert np.allclose(adjoint, values * projected, rtol=0, atol=1e-10)
    assert np.allclose(np.linalg.norm(seen), np.linalg.norm(clean), rtol=1e-10)
    assert np.all(projected[values == 0] == 0)


@pytest.mark.parametrize("name", ["inpaint_channels", "fourier", "blur", "decomposed_wide"])
def test_ddrm_is_its_formula(key, name):
    """Steps coefficient by coefficient, by a loop over the singular values; the last one is finite under derivatives, too."""
    (make, shape), keys = OPERATORS[name], jax.random.split(key, 3)
    x, noise = jax.random.normal(keys[0], shape), jax.random.normal(keys[2], shape)

    def denoise(x, sigma):
        return x / (1 + sigma**2)

    def parts(key):
        A = make(key)
        y, svd = A(jax.random.normal(keys[1], shape)), A.svd()
        return A, y, svd.values, svd.analyse(x), svd.analyse(denoise(x, SIGMA)), svd.analyse(noise), svd.project(y)

    def step(A, y, sigma_y, eta, eta_b, sigma_next):
        return ddrm(A, y, sigma_y, eta=eta, eta_b=eta_b).step(keys[2], x, (), SIGMA, sigma_next, denoise)[0]

    A, y, values, *rows = jax.jit(parts)(key)
    values = np.broadcast_to(np.reshape(values, values.shape + (1,) * (rows[0].ndim - values.ndim)), rows[0].shape).ravel()
    derivative = jax.jit(lambda A, y, *numbers: jax.jvp(lambda s: step(A, y, s, *numbers[1:]), numbers[:1], (1.0,)))
    for eta, eta_b, sigma_next in ((0.85, 1.0, BELOW), (0.3, 0.6, BELOW), (0.85, 1.0, 0.0)):
        expected, keep = [], np.sqrt(1 - eta**2)
        for s, now, D, n, data in zip(values, *(np.ravel(a) for a in rows), strict=True):
            if s == 0:
                new = D + keep * sigma_next * (now - D) / SIGMA + eta * sigma_next * n
            elif sigma_next < SIGMA_Y / s:
                new = D + keep * sigma_next * (data / s - D) / (SIGMA_Y / s) + eta * sigma_next * n
            else:
                new = (1 - eta_b) * D + eta_b * data / s + np.sqrt(sigma_next**2 - (eta_b * SIGMA_Y / s) ** 2) * n
            expected.append(new)
        expected = A.svd().synthesise(jnp.array(expected).reshape(rows[0].shape))
        got, slope = derivative(A, y, SIGMA_Y, eta, eta_b, sigma_next)
        assert np.allclose(got, expected, rtol=0, atol=1e-10)
        assert jnp.all(jnp.isfinite(slope)) and (sigma_next == 0 or jnp.any(slope != 0))


def test_ddrm_with_eta_b_one_is_ddnm_plus(key):
    """Its Sigma_t on the correction and Phi_t on the noise, from the paper's VP coordinates, with a = sqrt(alpha_bar) of the next level."""
    A = jax.jit(lambda A: decomposed(A, (7,)))(Dense(jax.random.normal(key, (5, 7)) * jnp.geomspace(0.2, 2.0, 5)[:, None]))
    x, y, eta = jax.random.normal(key, (7,)), jnp.arange(5.0), 0.85
    u, s, vh = np.linalg.svd(A.inner.matrix, full_matrices=True)
    s = np.append(s, [0, 0])
    D, a = np.asarray(x / (1 + SIGMA**2)), 1 / np.sqrt(1 + BELOW**2)
    sigma_t, inverse = BELOW * a, np.where(s > 0, 1 / np.where(s > 0, s, 1), 0)
    low = sigma_t < a * SIGMA_Y * inverse
    scaling = np.where(low, s * sigma_t * np.sqrt(1 - eta**2) / (a * SIGMA_Y), 1)
    corrected = D - vh.T @ (scaling * (vh @ (np.linalg.pinv(A.inner.matrix) @ (A.inner.matrix @ D - y))))
    fresh = np.where(low | (s == 0), sigma_t * eta, np.sqrt(np.maximum(sigma_t**2 - (a * SIGMA_Y * inverse) ** 2, 0)))
    old = np.where(s == 0, sigma_t * np.sqrt(1 - eta**2), 0)
    noise = np.asarray(jax.random.normal(key, (7,)))
    expected = (a * corrected + vh.T @ (fresh * (vh @ noise)) + vh.T @ (old * (vh @ np.asarray((x - D) / SIGMA)))) / a
    got, _ = ddrm(A, y, SIGMA_Y, eta=eta).step(key, x, (), SIGMA, BELOW, lambda x, sigma: x / (1 + sigma**2))
    assert 0 < low.sum() < 5 and np.allclose(got, expected, rtol=0, atol=1e-10)


def test_a_method_that_needs_a_decomposition_says_so():
    """One line with the operator and the way out."""
    with pytest.raises(ValueError, match=r"ddrm needs a singular value decomposition, Dense has none: `decomposed\(A, shape\)`"):
        ddrm(Dense(jnp.eye(7)), jnp.zeros(7), 0.1)
    with pytest.raises(ValueError, match="zeros outside has no singular value decomposition"):
        ddrm(blur(jnp.ones((3, 3)), (5, 4), "zero"), jnp.zeros((5, 4)), 0.1)
    with pytest.raises(ValueError, match=r"needs one noise level, sigma_y is \[7\]"):
        ddrm(jax.jit(lambda A: decomposed(A, (7,)))(Dense(jnp.eye(7))), jnp.zeros(7), jnp.ones(7))
    with pytest.raises(ValueError, match="eta is 1.5, a number from 0 to 1"):
        ddrm(inpaint(jnp.ones(3)), jnp.zeros(3), 0.1, eta=1.5)
    assert not hasattr(compose(inpaint(jnp.ones(7)), scale(2.0, inpaint(jnp.ones(7)))), "svd")


@pytest.mark.parametrize("name", ["tall", "complex", "equal"])
def test_derivatives_through_a_decomposition(key, name):
    """Of functions of A^H A and A^H y, by central differences: distinct values, a null space, complex data, equal values that stay equal."""
    circulant = jnp.array([[2.0, 1, 0, 1], [1, 2, 1, 0], [0, 1, 2, 1], [1, 0, 1, 2]])
    matrix = {"tall": tall(key), "complex": jax.random.normal(key, (3, 7), complex), "equal": circulant}[name]
    change = {"tall": tall(key)[:, ::-1] + tall(key) ** 2, "complex": matrix[::-1] ** 2, "equal": circulant @ circulant}[name]
    change = change @ jnp.linalg.pinv(matrix) @ matrix if name == "tall" else change  # keeps the rank
    x, weights = jax.random.normal(key, matrix.shape[1:]), jnp.cos(jnp.arange(matrix.shape[1]))
    y = matrix @ weights + jnp.sin(jnp.arange(matrix.shape[0]))

    def value(t):
        svd = decomposed(Dense(matrix + t * change), x.shape).svd()
        seen = svd.values > 0
        c = jnp.exp(-svd.values) * svd.analyse(x) + jnp.where(seen, svd.project(y) / jnp.where(seen, 1 + svd.values**3, 1), 0)
        return weights @ svd.synthesise(c)

    run = jax.jit(jax.value_and_grad(value))
    assert np.isclose(run(0.0)[1], (run(1e-5)[0] - run(-1e-5)[0]) / 2e-5, rtol=1e-5)  # central differences in f64


def test_a_decomposed_operator_of_unequal_noise(key):
    """Whitening first makes one noise level of several, as the message says."""
    A, sigma_y = Dense(jax.random.normal(key, (4, 6))), jnp.array([0.1, 0.2, 0.3, 0.4])
    white = jax.jit(lambda A: decomposed(linalg.Weighted(A, 1 / sigma_y), (6,)))(A)
    x = jax.random.normal(key, (6,))
    assert np.allclose(white.svd().project(A(x) / sigma_y), white.svd().values * white.svd().analyse(x), rtol=0, atol=1e-10)
    assert np.allclose(white.normal(x), A.adjoint(A(x) / sigma_y**2), rtol=0, atol=1e-10)
