"""One step of every guide and posterior kernel against the paper's formula, written with dense matrices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dense_matrix import Dense

from medjax.diffusion.gaussian import gaussian
from medjax.diffusion.mixture import mixture, mixture_log_density
from medjax.guides.annealed_likelihood import annealed_likelihood
from medjax.guides.classifier import classifier
from medjax.guides.classifier_free import classifier_free
from medjax.guides.data_consistency import data_consistency
from medjax.guides.ddnm import ddnm
from medjax.guides.dds import dds
from medjax.guides.diffpir import diffpir
from medjax.guides.dps import dps
from medjax.guides.hybrid import hybrid
from medjax.guides.mmps import mmps
from medjax.guides.pigdm import pigdm
from medjax.guides.tmpd import tmpd
from medjax.operators.algebra import adjoint, compose
from medjax.operators.complex_channels import complex_channels
from medjax.operators.inpaint import inpaint
from medjax.operators.masked_fourier import masked_fourier
from medjax.physics.emission_counts import emission_counts
from medjax.samplers.cold_diffusion import cold_diffusion
from medjax.samplers.mcg import mcg
from medjax.samplers.projection import projection
from medjax.samplers.red_diff import red_diff
from medjax.samplers.repaint import repaint
from medjax.samplers.sample import sample

NUM, SIGMA, VARIANCE = 12, 0.7, 0.6
PLACES = jnp.arange(NUM)
COVARIANCE = jnp.exp(-jnp.abs(PLACES[:, None] - PLACES[None, :]) / 4.0)
MEAN = jnp.sin(PLACES / 2.0)
JACOBIAN = COVARIANCE @ jnp.linalg.inv(COVARIANCE + SIGMA**2 * jnp.eye(NUM))  # of the denoiser, symmetric
RATE = 1e-3 * np.sqrt(0.1**2 + 2 * 19.9 * np.log(1 + SIGMA**2))  # beta at SIGMA in the linear table of 1,000 steps
MATRICES = {
    "mask": jnp.eye(NUM)[::2],
    "blur": jnp.exp(-0.5 * (PLACES[:, None] - PLACES[None, :]) ** 2) / 2.5 + 0.3 * jnp.eye(NUM),
    "sums": jnp.kron(jnp.eye(3), jnp.ones((1, 4))),
    "fourier": jnp.fft.fft(jnp.eye(NUM), norm="ortho")[jnp.array([1, 3, 4, 7])],  # complex data of a real image
}
ENOUGH = 3 * NUM  # Krylov steps that reach the solution in spite of rounding
denoise = gaussian(MEAN, COVARIANCE)


def draw(key, matrix):
    """x at level SIGMA, data, unequal sigma_y."""
    keys = jax.random.split(key, 2)
    y = jax.random.normal(keys[1], matrix.shape[:1], matrix.dtype)
    return MEAN + jax.random.normal(keys[0], (NUM,)), y, jnp.linspace(0.2, 0.5, matrix.shape[0])


def pairs(a):
    """Complex rows or data as twice as many real ones."""
    return jnp.concatenate([a.real, a.imag]) if jnp.iscomplexobj(a) else a


# The formulas: real matrix M, data y, variances s of y, x, D -> the guided D
def spread(variance):
    return SIGMA**2 * variance / (SIGMA**2 + variance)


def pigdm_formula(M, y, s, x, D):
    return D + SIGMA**2 * JACOBIAN.T @ M.T @ jnp.linalg.solve(spread(VARIANCE) * M @ M.T + jnp.diag(s), y - M @ D)


def pigdm_adaptive_formula(M, y, s, x, D):
    return D + spread(VARIANCE) / SIGMA**2 * (pigdm_formula(M, y, s, x, D) - D)


def tmpd_formula(M, y, s, x, D):
    C = SIGMA**2 * JACOBIAN
    return D + C @ M.T @ ((y - M @ D) / (s + jnp.abs((M @ C @ M.T).sum(1))))


def mmps_formula(M, y, s, x, D):
    C = SIGMA**2 * JACOBIAN
    return D + C @ M.T @ jnp.linalg.solve(M @ C @ M.T + jnp.diag(s), y - M @ D)


def prox_formula(M, y, s, D, variance):
    return jnp.linalg.solve((M.T / s[None]) @ M + jnp.eye(NUM) / variance, M.T @ (y / s) + D / variance)


def dps_formula(M, y, s, x, D):
    residual = (y - M @ D) / s
    uphill = JACOBIAN.T @ M.T @ residual / jnp.sqrt(residual @ (y - M @ D))
    half = len(s) // 2
    rms = jnp.sqrt(jnp.mean(s[:half] if jnp.allclose(s[:half], s[half:]) else s)) if len(s) % 2 == 0 else jnp.sqrt(jnp.mean(s))
    return D + 0.8 * SIGMA**2 / RATE * rms * uphill


def data_consistency_formula(M, y, s, x, D):
    return D + 1.5 / jnp.linalg.norm(M / jnp.sqrt(s)[:, None], 2) ** 2 * M.T @ ((y - M @ D) / s)


def annealed_formula(M, y, s, x, D):
    return D + SIGMA**2 * M.T @ ((y - M @ x) / (s + (0.9 * SIGMA * jnp.linalg.norm(M, 2)) ** 2))


def ddnm_formula(M, y, s, x, D):
    return D + jnp.linalg.pinv(M / jnp.sqrt(s)[:, None], rtol=1e-10) @ ((y - M @ D) / jnp.sqrt(s))


def ddnm_variance_formula(M, y, s, x, D):
    return D + jnp.linalg.solve((M.T / s[None]) @ M + jnp.eye(NUM) / VARIANCE, M.T @ ((y - M @ D) / s))


# name -> (guide, formula)
GUIDES = {
    "pigdm": (lambda A, y, s: pigdm(A, y, s, variance=VARIANCE, num_krylov=ENOUGH), pigdm_formula),
    "pigdm_adaptive": (lambda A, y, s: pigdm(A, y, s, variance=VARIANCE, adaptive=True, num_krylov=ENOUGH), pigdm_adaptive_formula),
    "tmpd": (tmpd, tmpd_formula),
    "mmps": (lambda A, y, s: mmps(A, y, s, num_krylov=ENOUGH), mmps_formula),
    "dds": (lambda A, y, s: dds(A, y, s, variance=VARIANCE, num_krylov=ENOUGH), lambda M, y, s, x, D: prox_formula(M, y, s, D, spread(VARIANCE))),
    "diffpir": (lambda A, y, s: diffpir(A, y, s, weight=3.0, num_krylov=ENOUGH), lambda M, y, s, x, D: prox_formula(M, y, s, D, SIGMA**2 / 3)),
    "dps": (lambda A, y, s: dps(A, y, s, zeta=0.8), dps_formula),
    "data_consistency": (lambda A, y, s: data_consistency(A, y, s, step=1.5), data_consistency_formula),
    "annealed_likelihood": (lambda A, y, s: annealed_likelihood(A, y, s, gamma=0.9), annealed_formula),
    "ddnm": (lambda A, y, s: ddnm(A, y, s, variance=jnp.inf, num_krylov=ENOUGH), ddnm_formula),
    "ddnm_variance": (lambda A, y, s: ddnm(A, y, s, variance=VARIANCE, num_krylov=ENOUGH), ddnm_variance_formula),
}
guides = pytest.mark.parametrize("name", GUIDES)


@functools.cache
def guided(name):
    """(A, y, sigma_y, x) -> the guided D, compiled."""
    return jax.jit(lambda A, y, sigma_y, x: GUIDES[name][0](A, y, sigma_y)(denoise)(x, SIGMA))


@guides
@pytest.mark.parametrize("matrix", [MATRICES["blur"], MATRICES["fourier"]], ids=["blur", "fourier"])
def test_guide_is_its_formula(key, name, matrix):
    """Unequal noise, real and complex data."""
    formula = GUIDES[name][1]
    x, y, sigma_y = draw(key, matrix)
    M, s = pairs(matrix), jnp.tile(sigma_y**2, len(pairs(y)) // len(y))
    expected = formula(M, pairs(y), s, x, denoise(x, SIGMA))
    got = guided(name)(Dense(matrix), y, sigma_y, x)
    assert np.linalg.norm(expected - denoise(x, SIGMA)) > 1e-2
    assert np.allclose(got, expected, rtol=0, atol=1e-5)  # conjugate gradient stops at 1e-6 of the residual


@guides
def test_what_was_not_measured_has_no_weight(key, name):
    """sigma_y infinite is the same as leaving the rows out, whatever stands in y."""
    matrix = MATRICES["blur"]
    x, y, sigma_y = draw(key, matrix)
    got = guided(name)(Dense(matrix), y.at[::3].set(jnp.nan), sigma_y.at[::3].set(jnp.inf), x)
    kept = np.arange(NUM) % 3 > 0
    expected = GUIDES[name][1](matrix[kept], y[kept], sigma_y[kept] ** 2, x, denoise(x, SIGMA))
    if name == "annealed_likelihood":  # whose gamma goes by the norm of all of A
        expected = annealed_formula(matrix, y, jnp.where(kept, sigma_y**2, 1e16), x, denoise(x, SIGMA))
    assert np.allclose(got, expected, rtol=0, atol=1e-5)  # conjugate gradient stops at 1e-6 of the residual
    nothing = guided(name)(Dense(matrix), y, jnp.full(NUM, jnp.inf), x)
    assert np.allclose(nothing, denoise(x, SIGMA), rtol=0, atol=1e-14)


@guides
def test_guide_is_differentiable(key, name):
    """Through sigma_y and the matrix, against a central difference; and finite in single precision."""
    matrix = MATRICES["sums"] * jnp.array([[1.0], [1.2], [0.8]])  # a norm of one singular vector has a derivative
    x, y, sigma_y = draw(key, matrix)
    wave = jnp.cos(jnp.arange(matrix.size)).reshape(matrix.shape)

    def value(t):
        return GUIDES[name][0](Dense(matrix + t * wave), y, sigma_y * (1 + t))(denoise)(x, SIGMA)

    run = jax.jit(lambda t: jax.jvp(value, (t,), (1.0,)))
    derivative, difference = run(0.0)[1], (run(1e-4)[0] - run(-1e-4)[0]) / 2e-4
    assert np.allclose(derivative, difference, rtol=0, atol=1e-4 * np.max(np.abs(difference)) + 1e-5)  # conjugate gradient stops at 1e-6
    single = jax.tree.map(lambda a: a.astype(jnp.float32), (Dense(matrix), y, sigma_y, x))
    low = GUIDES[name][0](*single[:3])(lambda x, sigma: x / (1 + sigma**2))
    low = jax.jit(low)(single[3], jnp.float32(SIGMA))
    assert low.dtype == jnp.float32 and jnp.all(jnp.isfinite(low))


@guides
def test_guide_refuses_bad_noise_and_data(name):
    """One line with what was found."""
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="sigma_y is .* is needed"):
            GUIDES[name][0](Dense(MATRICES["mask"]), jnp.zeros(6), bad)
    with pytest.raises(ValueError, match=r"is \[5\]"):
        GUIDES[name][0](inpaint(jnp.ones(6)), jnp.zeros(5), 1.0)


OUT_OF_RANGE = [
    (pigdm, {"variance": 0.0}),
    (pigdm, {"num_krylov": 0}),
    (diffpir, {"weight": 0.0}),
    (dps, {"zeta": -1.0}),
    (ddnm, {"num_krylov": 0}),
    (data_consistency, {"step": 2.0}),
    (annealed_likelihood, {"gamma": -1.0}),
    (projection, {"weight": 1.5}),
    (mcg, {"zeta": -0.1}),
    (red_diff, {"weight": -1.0}),
]


@pytest.mark.parametrize("make, options", OUT_OF_RANGE)
def test_refuses_numbers_out_of_range(make, options):
    """One line with the name."""
    with pytest.raises(ValueError, match="num_resamplings is 0"):
        repaint(inpaint(jnp.ones(6)), jnp.zeros(6), 0.1, num_resamplings=0)
    with pytest.raises(ValueError, match=next(iter(options))):
        make(Dense(MATRICES["mask"]), jnp.zeros(6), 0.1, **options)


def test_the_likelihood_of_gaussian_noise_changes_nothing(key):
    """DPS with a Gaussian log-likelihood is DPS; sigma_y infinite takes data from the likelihood, too."""
    x, y, sigma_y = draw(key, MATRICES["blur"])
    A, sigma_y = Dense(MATRICES["blur"]), sigma_y.at[2].set(jnp.inf)

    def log_likelihood(y, z):
        return -jnp.sum((y - z) ** 2 / (2 * jnp.where(jnp.isinf(sigma_y), 0.1, sigma_y) ** 2))

    plain, exact = dps(A, y, sigma_y), dps(A, y, sigma_y, log_likelihood=log_likelihood)
    assert np.allclose(exact(denoise)(x, SIGMA), plain(denoise)(x, SIGMA), rtol=0, atol=1e-12)


def test_dps_follows_the_poisson_likelihood(key):
    """The step is -zeta sigma^2 / beta rms times the gradient of the root of the deviance of counts, by finite differences."""
    noise, A = emission_counts(duration=4.0, randoms=0.7, floor=0.5), Dense(jnp.abs(MATRICES["blur"]))
    x = 2 + 0.3 * jax.random.normal(key, (NUM,))
    y = noise.sample(jax.random.fold_in(key, 1), A(3 + jnp.sin(PLACES)))
    guide = dps(A, y, noise.sigma(y), zeta=0.5 * RATE / SIGMA, log_likelihood=noise.log_likelihood)
    guided = jax.jit(lambda x: guide(denoise)(x, SIGMA))(x)
    counts, rms = 4 * (y + 0.7), jnp.sqrt(jnp.mean(noise.sigma(y) ** 2))

    def deviance(x):
        mean = 4 * (A(denoise(x, SIGMA)) + 0.7)
        ratio = jnp.where(counts > 0, counts, 1) / mean
        return jnp.sqrt(2 * jnp.sum(jnp.where(counts > 0, counts * jnp.log(ratio), 0) - counts + mean))

    deviances = jax.jit(jax.vmap(deviance))
    gradient = (deviances(x[None] + 1e-5 * jnp.eye(NUM)) - deviances(x[None] - 1e-5 * jnp.eye(NUM))) / 2e-5
    assert np.allclose(guided, denoise(x, SIGMA) - 0.5 * SIGMA * rms * gradient, rtol=0, atol=1e-8)


def test_projection_and_mcg_are_their_formulas(key):
    """One step each with their own draws put into the dense formula, from SIGMA to 0.4."""
    matrix = MATRICES["sums"] + 0.1 * jnp.cos(jnp.arange(3.0 * NUM)).reshape(3, NUM)
    x, y, sigma_y = draw(key, matrix)
    inverse, A, below = jnp.linalg.pinv(matrix), Dense(matrix), 0.4

    def project(key, x, sigma, weight):
        return x + weight * inverse @ (y + sigma * matrix @ jax.random.normal(key, x.shape) - matrix @ x)

    got, _ = projection(A, y, sigma_y, weight=0.6, variance=jnp.inf, num_krylov=ENOUGH).step(key, x, (), SIGMA, below, None)
    assert np.allclose(got, project(key, x, SIGMA, 0.6), rtol=0, atol=1e-6)
    key_move, key_project = jax.random.split(key)
    guided = dps(A, y, sigma_y, zeta=0.8)(denoise)(x, SIGMA)
    share = (below / SIGMA) ** 2
    moved = guided + share * (x - guided) + jnp.sqrt(below**2 * (1 - share)) * jax.random.normal(key_move, x.shape)
    got, _ = mcg(A, y, sigma_y, zeta=0.8, variance=jnp.inf, num_krylov=ENOUGH).step(key, x, (), SIGMA, below, denoise)
    assert np.allclose(got, project(key_project, moved, below, 1.0), rtol=0, atol=1e-6)
    end, _ = mcg(A, y, sigma_y, variance=jnp.inf, num_krylov=ENOUGH).step(key, x, (), SIGMA, 0.0, denoise)
    assert np.allclose(A(end), y, rtol=0, atol=1e-5)  # conjugate gradient stops at 1e-6 of the residual


def test_repaint_puts_in_what_is_known(key):
    """Noise of the data is part of that of the step; below it, and where nothing was measured, the prior goes on alone."""
    x, mask = jax.random.normal(key, (NUM,)), (PLACES % 3 > 0).astype(float)
    y, sigma_y, below = mask * PLACES, jnp.where(PLACES == 4, 0.5, 0.1).at[5].set(jnp.inf), 0.4
    kernel = repaint(inpaint(mask), y, sigma_y, num_resamplings=1)
    keys = jax.random.split(key, 4000)
    ends = jax.jit(jax.vmap(lambda k: kernel.step(k, x, (), SIGMA, below, denoise)[0]))(keys)
    D, share = denoise(x, SIGMA), (below / SIGMA) ** 2
    known = (mask > 0) & (sigma_y < below)
    std = jnp.where(known, jnp.sqrt(below**2 - 0.1**2), jnp.sqrt(below**2 * (1 - share)))
    assert np.allclose(ends.mean(0), jnp.where(known, y, D + share * (x - D)), rtol=0, atol=4 * below / 63)  # four standard errors
    assert np.allclose(ends.std(0) / std, 1, rtol=0, atol=0.05)  # four standard errors of 4,000
    with pytest.raises(ValueError, match="repaint needs a singular value decomposition"):
        repaint(Dense(MATRICES["sums"]), jnp.zeros(3), 0.1)


def test_repaint_reaches_the_posterior_by_resampling(key):
    """Of two pixels correlated by .9, of which one is seen: the mean of the other nears the exact one with the number of resamplings."""
    covariance = jnp.array([[1.0, 0.9], [0.9, 1.0]])
    prior, A, y = gaussian(jnp.zeros(2), covariance), inpaint(jnp.array([1.0, 0.0])), jnp.array([1.5, 0.0])
    sigmas = jnp.append(jnp.geomspace(10.0, 0.02, 12), 0.0)

    def mean(num):
        kernel = repaint(A, y, 0.01, num_resamplings=num)
        ends = jax.jit(jax.vmap(lambda k: sample(k, kernel, prior, sigmas, 10 * jax.random.normal(k, (2,)))))(jax.random.split(key, 2000))
        return ends.mean(0)

    once, often = mean(1), mean(20)
    assert abs(often[0] - 1.5) < 0.02 and abs(often[1] - 0.9 * 1.5) < 0.1 < abs(once[1] - 0.9 * 1.5)  # Monte Carlo .01


def test_red_diff_descends_on_its_objective(key):
    """A step of plain gradient descent is the derivative of the paper's objective, with the residual held; the start is A^+ y; also for counts."""
    x, y, sigma_y = draw(key, MATRICES["sums"])
    A, rate = Dense(MATRICES["sums"]), 0.01
    noise, noisy_y = emission_counts(duration=4.0, randoms=9.0), jnp.array([1.0, 2.0, 0.5])
    cases = [(y, sigma_y, None, lambda z: jnp.sum(((y - z) / sigma_y) ** 2) / 2)]
    cases += [(noisy_y, 1.0, noise.log_likelihood, lambda z: -noise.log_likelihood(noisy_y, z))]
    for data, scale, log_likelihood, misfit in cases:
        kernel = red_diff(A, data, scale, weight=0.3, optimiser=optax.sgd(rate), log_likelihood=log_likelihood, variance=jnp.inf)
        start, memory = kernel.init(x)
        assert np.allclose(start, jnp.linalg.pinv(A.matrix) @ data, rtol=0, atol=1e-6)
        draw_n = jax.random.normal(key, (NUM,))
        epsilon = (start + SIGMA * draw_n - denoise(start + SIGMA * draw_n, SIGMA)) / SIGMA

        pull = 0.3 * SIGMA * jnp.mean(1 / jnp.square(scale)) * (epsilon - draw_n)

        def objective(mu, misfit=misfit, pull=pull):
            return misfit(A(mu)) + pull @ mu

        got, (mean, _) = kernel.step(key, x, (start, memory), SIGMA, 0.4, denoise)
        assert np.allclose(got, start - rate * jax.grad(objective)(start), rtol=0, atol=1e-12) and np.array_equal(got, mean)


def test_cold_diffusion_of_k_space(key):
    """With a perfect restorer each step is the degraded image of the next severity, and the last the image; errors cancel for x0 + s e."""
    shape = (8, 6)
    order = jax.random.uniform(jax.random.fold_in(key, 1), shape)
    x0 = jax.random.normal(key, (*shape, 2))

    def degrade(x, severity):
        A = compose(masked_fourier((order >= severity).astype(float)), complex_channels())
        return A.adjoint(A(x))

    severities = jnp.array([0.8, 0.5, 0.2, 0.0])
    step = cold_diffusion(degrade).step
    middle, _ = jax.jit(lambda x: step(key, x, (), 0.8, 0.5, lambda x, s: x0))(degrade(x0, 0.8))
    assert np.allclose(middle, degrade(x0, 0.5), rtol=0, atol=1e-12)
    end = jax.jit(lambda x: sample(key, cold_diffusion(degrade), lambda x, s: x0, severities, x))(degrade(x0, 0.8))
    assert np.allclose(end, x0, rtol=0, atol=1e-12)
    line = cold_diffusion(lambda x, s: x + s * order[..., None])
    end = sample(key, line, lambda x, s: 0.3 * x, severities, x0 + 0.8 * order[..., None])
    assert np.allclose(end, x0, rtol=0, atol=1e-12)


def test_classifier_and_classifier_free_on_a_mixture(key):
    """With exact parts both give the analytic score of the tilted density, and at s = 1 the denoiser of the class alone."""
    means, covariances = jax.random.normal(key, (3, 4)), jnp.array([0.2, 0.5, 1.0])
    weights = jnp.array([0.5, 0.3, 0.2])
    x = jax.random.normal(jax.random.fold_in(key, 1), (4,))
    full, part = (weights, means, covariances), (weights[1:2], means[1:2], covariances[1:2])

    def log_class(x, sigma):
        return jnp.log(0.3) + mixture_log_density(*part)(x, sigma) - mixture_log_density(*full)(x, sigma)

    of_class = gaussian(means[1], covariances[1] * jnp.eye(4))
    guided = jax.jit(lambda x: classifier(log_class)(mixture(*full))(x, SIGMA))(x)
    assert np.allclose(guided, of_class(x, SIGMA), rtol=0, atol=1e-12)

    def tilted(x, weight):
        return (1 + weight) * mixture_log_density(*part)(x, SIGMA) - weight * mixture_log_density(*full)(x, SIGMA)

    expected = x + SIGMA**2 * jax.jit(jax.grad(tilted))(x, 1.5)
    sharper = jax.jit(lambda x: classifier(log_class, 2.5)(mixture(*full))(x, SIGMA))(x)
    assert np.allclose(sharper, expected, rtol=0, atol=1e-12)
    assert np.allclose(classifier_free(mixture(*full), 1.5)(of_class)(x, SIGMA), expected, rtol=0, atol=1e-12)
    assert np.array_equal(classifier_free(mixture(*full), 0.0)(of_class)(x, SIGMA), of_class(x, SIGMA))


def test_hybrid_of_image_and_k_space(key):
    """A prior that is white within each band of k-space is known exactly there; F is unitary, so the two halves meet without a factor."""
    shape = (6, 5)
    F = compose(adjoint(complex_channels()), compose(masked_fourier(jnp.ones(shape)), complex_channels()))
    x, power = jax.random.normal(key, (*shape, 2)), jax.random.uniform(key, (*shape, 1), minval=0.1, maxval=2.0)

    def in_k_space(k, sigma):
        return power / (power + sigma**2) * k

    only = hybrid(F, in_k_space, 1.0)(lambda x, sigma: 0 * x)(x, SIGMA)
    z = jnp.fft.fftshift(jnp.fft.fft2(jnp.fft.ifftshift(x[..., 0] + 1j * x[..., 1]), norm="ortho"))
    z = jnp.fft.fftshift(jnp.fft.ifft2(jnp.fft.ifftshift(power[..., 0] / (power[..., 0] + SIGMA**2) * z), norm="ortho"))
    assert np.allclose(only, jnp.stack([z.real, z.imag], -1), rtol=0, atol=1e-12)
    mixed = hybrid(F, in_k_space, 0.25)(lambda x, sigma: x / 2)(x, SIGMA)
    assert np.allclose(mixed, 0.75 * x / 2 + 0.25 * only, rtol=0, atol=1e-12)
