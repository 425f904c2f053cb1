"""Contract of every guide with a kernel: mean, covariance and coverage against the closed form for a Gaussian prior and a linear operator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_matrix import Dense

from medjax.diffusion.gaussian import gaussian
from medjax.diffusion.karras import karras
from medjax.guides.dds import dds
from medjax.guides.dps import dps
from medjax.guides.mmps import mmps
from medjax.samplers.ddim import ddim
from medjax.samplers.heun import heun
from medjax.samplers.sample import sample
from medjax.solvers.gaussian_posterior import gaussian_posterior

NUM = 12


PLACES = jnp.arange(NUM)
COVARIANCE = jnp.exp(-jnp.abs(PLACES[:, None] - PLACES[None, :]) / 4.0)
MEAN = jnp.sin(PLACES / 2.0)
OPERATORS = {
    "mask": jnp.eye(NUM)[::2],
    "blur": jnp.exp(-0.5 * (PLACES[:, None] - PLACES[None, :]) ** 2) / 2.5,
    "sums": jnp.kron(jnp.eye(3), jnp.ones((1, 4))),
    "fourier": jnp.fft.fft(jnp.eye(NUM), norm="ortho")[jnp.array([0, 1, 3, 4])],  # complex data of a real image
}
# name -> (guide, kernel, steps, bounds of spread / exact spread, bound of the mean's error in posterior standard deviations).
# mmps is exact for a Gaussian up to the integrator. dds moves the mean without its covariance; dps has a step size without a right value: their
# bounds say what they do here, so that a change is seen, not that it is right.
GUIDES = {
    "mmps_heun": (lambda A, y, s: mmps(A, y, s, num_krylov=NUM), heun(), 50, (0.96, 1.04), 0.1),
    "mmps_ddim": (lambda A, y, s: mmps(A, y, s, num_krylov=NUM), ddim(1.0), 100, (0.90, 1.02), 0.1),
    "dds": (lambda A, y, s: dds(A, y, s, num_krylov=NUM), ddim(0.85), 100, (0.5, 2.0), 1.5),
    "dps": (lambda A, y, s: dps(A, y, s, zeta=0.01), ddim(1.0), 200, (0.5, 1.5), 1.0),
}
EXACT = ("mmps_heun", "mmps_ddim")  # the others are held to their bounds for one operator, in test_posteriors


@pytest.mark.parametrize("matrix", OPERATORS.values(), ids=OPERATORS)
@pytest.mark.parametrize("make, kernel, num_steps, spread, bias", [GUIDES[name] for name in EXACT], ids=EXACT)
def test_posterior(key, matrix, make, kernel, num_steps, spread, bias):
    """Data of unequal noise; 4,000 samples, whose covariance has a relative error of 0.06 by chance."""
    keys = jax.random.split(key, 4)
    sigma_y = jnp.linspace(0.1, 0.3, matrix.shape[0])
    x = MEAN + jnp.linalg.cholesky(COVARIANCE) @ jax.random.normal(keys[0], (NUM,))
    y = matrix @ x + sigma_y * jax.random.normal(keys[1], sigma_y.shape)
    if jnp.iscomplexobj(matrix):
        y = y + 1j * sigma_y * jax.random.normal(keys[3], sigma_y.shape)
    mean, covariance = gaussian_posterior(Dense(matrix), y, sigma_y, prior_mean=MEAN, covariance=COVARIANCE).moments()
    denoise = make(Dense(matrix), y, sigma_y)(gaussian(MEAN, COVARIANCE))
    sigmas = karras(num_steps, 0.005, 30.0)

    def one(key):
        key_start, key_run = jax.random.split(key)
        return sample(key_run, kernel, denoise, sigmas, MEAN + 30.0 * jax.random.normal(key_start, (NUM,)))

    samples = jax.jit(jax.vmap(one))(jax.random.split(keys[2], 4000))
    std = jnp.sqrt(jnp.diag(covariance))
    ratio = samples.std(0).mean() / std.mean()
    error = jnp.max(jnp.abs(samples.mean(0) - mean) / std)
    print(f"spread {ratio:.3f}  bias {error:.3f}")
    assert spread[0] < ratio < spread[1]
    assert error < bias
    if spread[1] < 1.1:
        within = jnp.mean(jnp.abs(samples - mean[None]) < 1.645 * std[None])
        assert abs(within - 0.9) < 0.03  # the spread's tolerance carried over to coverage
        found = jnp.linalg.norm(jnp.cov(samples.T) - covariance) / jnp.linalg.norm(covariance)
        assert found < 0.2, found  # chance, and twice the spread's tolerance


@pytest.mark.parametrize("make", [guide[0] for guide in GUIDES.values()], ids=GUIDES)
def test_exact_fit_leaves_the_denoiser(key, make):
    """Where the denoised image fits the data exactly, nothing moves."""
    denoise, A = gaussian(MEAN, COVARIANCE), Dense(OPERATORS["blur"])
    x = jax.random.normal(key, (NUM,))
    plain = denoise(x, 0.7)
    guided = make(A, A(plain), jnp.full(NUM, 0.2))(denoise)(x, 0.7)
    assert np.allclose(guided, plain, rtol=0, atol=1e-10)


@pytest.mark.parametrize("balance", [0.0, 1.0, 100.0])
def test_mmps_is_the_exact_posterior_mean(key, balance):
    """For a Gaussian prior and rays of unequal noise the guided denoiser is E[x0 | x, y], whatever the preconditioner."""
    matrix, sigma_y, sigma = OPERATORS["mask"], jnp.geomspace(0.05, 0.8, NUM // 2), 0.7
    x, y = jax.random.normal(key, (NUM,)), jax.random.normal(key, (NUM // 2,))
    weighted = matrix.T / sigma_y[None] ** 2
    precision = jnp.linalg.inv(COVARIANCE) + jnp.eye(NUM) / sigma**2 + weighted @ matrix
    exact = jnp.linalg.solve(precision, jnp.linalg.solve(COVARIANCE, MEAN) + x / sigma**2 + weighted @ y)
    got = mmps(Dense(matrix), y, sigma_y, num_krylov=NUM, balance=balance)(gaussian(MEAN, COVARIANCE))(x, sigma)
    assert np.allclose(got, exact, rtol=0, atol=1e-6)


def test_mmps_is_isotropic_at_much_noise(key):
    """Above the level C = r^2 I, the closed form of `dds`; below it the denoiser's own covariance; under `vmap` over levels too."""
    matrix, sigma_y, variance = OPERATORS["blur"], jnp.linspace(0.1, 0.3, NUM), 0.4
    denoise = gaussian(MEAN, COVARIANCE)
    x, y = jax.random.normal(key, (NUM,)), jax.random.normal(jax.random.fold_in(key, 1), (NUM,))
    guided = mmps(Dense(matrix), y, sigma_y, num_krylov=2 * NUM, isotropic_above=1.0, variance=variance)(denoise)
    low, high = jax.vmap(lambda sigma: guided(x, sigma))(jnp.array([0.9, 1.1]))
    plain = mmps(Dense(matrix), y, sigma_y, num_krylov=2 * NUM)(denoise)
    spread = 1.1**2 * variance / (1.1**2 + variance)
    normal = (matrix.T / sigma_y[None] ** 2) @ matrix + jnp.eye(NUM) / spread
    exact = jnp.linalg.solve(normal, (matrix.T / sigma_y[None] ** 2) @ y + denoise(x, 1.1) / spread)
    assert np.allclose(low, plain(x, 0.9), rtol=0, atol=1e-6)
    assert np.allclose(high, exact, rtol=0, atol=1e-5)  # conjugate gradient at a condition number of 1e3


@pytest.mark.parametrize(
    "make, options", [(mmps, {"num_krylov": 0}), (mmps, {"balance": -1.0}), (mmps, {"variance": 0.0}), (dds, {"variance": -1.0})]
)
def test_refuses_numbers_out_of_range(make, options):
    """One line with the name."""
    with pytest.raises(ValueError, match=next(iter(options))):
        make(Dense(OPERATORS["mask"]), jnp.zeros(6), 0.1, **options)
