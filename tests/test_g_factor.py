"""Noise of parallel imaging: closed form, Jacobian and replicas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.linalg import conjugate_gradient
from medjax.physics.birdcage import birdcage
from medjax.physics.equispaced_lines import equispaced_lines
from medjax.physics.g_factor import g_factor
from medjax.physics.g_factor_jacobian import g_factor_jacobian
from medjax.physics.noise_covariance import noise_covariance
from medjax.physics.noise_map import noise_map

SHAPE, COILS = (8, 12), 5


def dft(n):
    """Centred orthonormal DFT matrix."""
    k = np.arange(n) - n // 2
    return np.exp(-2j * np.pi * np.outer(k, k) / n) / np.sqrt(n)


def sense_matrix(maps, mask):
    """Masked k-space of all coils from an image, dense."""
    fourier = np.kron(*map(dft, maps.shape[1:])) * np.asarray(mask).reshape(-1, 1)
    return np.concatenate([fourier * m.ravel()[None] for m in np.asarray(maps)])


def dense_g(maps, mask, acceleration, psi=None):
    """sqrt([(E^H P^-1 E)^-1]_ii [S^H psi^-1 S]_ii / R) through the dense encoding matrix."""
    E = sense_matrix(maps, mask)
    psi = np.eye(len(maps)) if psi is None else np.asarray(psi)
    inverse = np.kron(np.linalg.inv(psi), np.eye(E.shape[1]))
    noise = np.diagonal(np.linalg.inv(E.conj().T @ inverse @ E)).real
    full = np.einsum("cn,cd,dn->n", np.conj(maps.reshape(len(maps), -1)), np.linalg.inv(psi), maps.reshape(len(maps), -1)).real
    return np.sqrt(noise * full / acceleration).reshape(maps.shape[1:])


def cg_sense(maps, mask, num_steps=60):
    """Least squares by conjugate gradients, as a function of k-space; its derivative is that of the solution, not of the iterations."""
    left, right = (jnp.asarray(dft(n)) for n in maps.shape[1:])

    def forward(x):
        return mask[None] * (left[None] @ (maps * x[None]) @ right[None])

    def adjoint(y):
        return jnp.sum(maps.conj() * (left.conj()[None] @ (mask[None] * y) @ right.conj()[None]), axis=0)

    def normal(x):
        return adjoint(forward(x))

    def solve(matvec, b):
        return conjugate_gradient(matvec, b, num_steps=num_steps, tolerance=1e-12)

    return lambda y: jax.lax.custom_linear_solve(normal, adjoint(y), solve, lambda _, b: solve(normal, b.conj()).conj())


@pytest.mark.parametrize("acceleration", [2, 3, (2, 2), (1, 4)])
def test_equals_the_dense_inverse(key, acceleration):
    """With coloured noise, and with an offset comb, which only turns phases."""
    maps = np.asarray(birdcage(SHAPE, COILS))
    rows, columns = (1, acceleration) if isinstance(acceleration, int) else acceleration
    mask = np.zeros(SHAPE)
    mask[1 % rows :: rows, 1 % columns :: columns] = 1
    a = jax.random.normal(key, (COILS, 3 * COILS), jnp.complex128)
    psi = noise_covariance(a)
    assert np.allclose(g_factor(jnp.asarray(maps), acceleration), dense_g(maps, mask, rows * columns), rtol=1e-9)
    assert np.allclose(g_factor(jnp.asarray(maps), acceleration, psi), dense_g(maps, mask, rows * columns, psi), rtol=1e-9)


def test_without_tissue_nothing_folds():
    """Air is left out: a pixel whose aliases are all air has g = 1; air itself has 0."""
    maps = birdcage(SHAPE, COILS).at[:, :, 6:].set(0)
    g = g_factor(maps, 2)
    assert np.allclose(g[:, :6], 1, rtol=1e-12) and np.array_equal(g[:, 6:], np.zeros((8, 6)))
    assert np.all(jnp.isfinite(jax.grad(lambda m: jnp.sum(g_factor(m, 2)))(maps)))


def test_folds_that_cannot_be_told_apart():
    """Two pixels with the same map are lost whatever the rounding; their neighbours are not, and gradients stay finite."""
    maps = birdcage(SHAPE, COILS)
    same = maps.at[:, 2, 7].set((0.3 - 2j) * maps[:, 2, 1])
    wanted = np.array(g_factor(maps, 2))
    wanted[2, [1, 7]] = np.inf
    assert np.allclose(g_factor(same, 2), wanted, rtol=1e-12)
    assert np.all(jnp.isfinite(jax.grad(lambda m: jnp.sum(g_factor(m, 2)))(same)))


def test_jacobian_is_exact_where_blocks_separate_aliases(key):
    """One probe for each of R blocks of an equispaced comb; one for each pixel with calibration lines as well."""
    maps = birdcage(SHAPE, COILS)
    y = jnp.ones((COILS, *SHAPE), complex)
    comb = equispaced_lines(SHAPE, 3, center_fraction=0.0)
    run = jax.jit(lambda mask, blocks: g_factor_jacobian(key, cg_sense(maps, mask), y, jnp.ones(SHAPE), 3, 1, blocks), static_argnums=1)
    assert np.allclose(run(comb, (1, 3)), g_factor(maps, 3), rtol=1e-6)
    assert np.abs(run(comb, (1, 1)) / g_factor(maps, 3) - 1).max() > 0.01
    mask = equispaced_lines(SHAPE, 3, center_fraction=0.3)
    assert np.allclose(run(mask, SHAPE), dense_g(np.asarray(maps), mask, 3), rtol=1e-6)


@pytest.mark.parametrize("blocks", [None, (2, 3)])
def test_probes_reach_their_stated_accuracy(key, blocks):
    """Against the dense covariance, with coloured noise: forward 1 / (2 sqrt P), blocks by the correlations within them."""
    maps, psi = np.asarray(birdcage(SHAPE, COILS)), noise_covariance(jax.random.normal(key, (COILS, 3 * COILS), jnp.complex128))
    E = sense_matrix(maps, equispaced_lines(SHAPE, 3, center_fraction=0.3))
    J = np.linalg.solve(E.conj().T @ E + 0.1 * np.eye(E.shape[1]), E.conj().T)
    C = J @ np.kron(psi, np.eye(E.shape[1])) @ J.conj().T
    wanted = np.sqrt(np.diagonal(C).real).reshape(SHAPE)
    probes = 200
    found = jax.jit(lambda y: noise_map(key, lambda y: (jnp.asarray(J) @ y.ravel()).reshape(SHAPE), y, probes, blocks, psi))(
        jnp.zeros((COILS, *SHAPE), complex)
    )
    error = np.asarray(found / wanted - 1).ravel()
    if blocks is None:
        spread = np.full(error.shape, 1 / (2 * np.sqrt(probes)))
    else:
        block = (np.arange(8) * 2 // 8)[:, None] * 3 + (np.arange(12) * 3 // 12)[None]
        same = block.ravel()[:, None] == block.ravel()[None]
        off = np.abs(C * same * (1 - np.eye(len(C)))) ** 2
        spread = np.sqrt(off.sum(1) / (2 * probes)) / np.diagonal(C).real / 2
    assert np.abs(error / spread).max() < 4.5 and 0.8 < np.std(error / spread) < 1.2


@pytest.mark.parametrize("blocks", [None, (4, 4)])
def test_real_and_nonlinear_images(key, blocks):
    """The magnitude of an image far above noise has half the noise of the complex image, in variance; J is that of this very image."""
    y = 3 * jnp.exp(1j * jnp.arange(16.0).reshape(1, 4, 4))
    square = noise_map(key, lambda y: jnp.abs(y[0]) ** 2, y, 2000, blocks)
    # |y|^2: derivative 2 |y| along y, of a component of variance 1/2; forward probes err by 1 / sqrt(2 P)
    assert np.allclose(square, 6 / np.sqrt(2), rtol=1e-12 if blocks else 4.5 / np.sqrt(4000))
    conjugate = noise_map(key, lambda y: jnp.conj(y[0]) + 2 * y[0], y, 2000, blocks)
    # variance |2 n + conj n|^2 = (9 + 1) / 2; random phases see it as 5 + 4 cos(2 phase)
    assert np.allclose(conjugate, np.sqrt(5), rtol=4.5 / np.sqrt(4000) if blocks is None else 4.5 * 0.4 * np.sqrt(2) / np.sqrt(2000))


def test_jacobian_against_replicas(key):
    """400 reconstructions of noise, as Robson et al.; both have errors, of 1 / (2 sqrt 400) and zero."""
    maps = birdcage(SHAPE, COILS)
    reconstruct = cg_sense(maps, equispaced_lines(SHAPE, 2, center_fraction=0.0))
    noise = jax.random.normal(key, (400, COILS, *SHAPE), jnp.complex128)
    replicas = jax.jit(lambda n: jax.lax.map(reconstruct, n))(noise)
    spread = np.sqrt(np.mean(np.abs(replicas) ** 2, axis=0) / 2)
    found = jax.jit(lambda y: g_factor_jacobian(key, reconstruct, y, jnp.ones(SHAPE), 2, 1, (1, 2)))(noise[0])
    # the mean has 1/40 / sqrt(96), and somewhat more for aliases go together
    assert np.abs(found / spread - 1).max() < 4.5 / 40 and abs(np.mean(found / spread) - 1) < 0.01


@pytest.mark.parametrize(
    "build",
    [
        lambda: g_factor(birdcage((8, 9), 4), 2),
        lambda: g_factor(birdcage((9, 8), 4), (2, 1)),
        lambda: g_factor(birdcage((8, 8), 3), (2, 2)),
        lambda: g_factor(birdcage((8, 8), 3), 0),
        lambda: g_factor(birdcage((8, 10), 3), 2.5),
        lambda: g_factor(birdcage((8, 8), 3), np.nan),
        lambda: noise_map(jax.random.key(0), lambda y: y[0], jnp.ones((2, 4, 4))),
        lambda: noise_map(jax.random.key(0), lambda y: y[0], jnp.ones((2, 4, 4), complex), 1, (5, 1)),
        lambda: g_factor_jacobian(jax.random.key(0), lambda y: y[0], jnp.ones((2, 4, 4), complex), jnp.ones((4, 4)), 0.0),
    ],
)
def test_refuses_what_cannot_be(build):
    with pytest.raises(ValueError, match="needs"):
        build()
