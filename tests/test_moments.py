"""What linear data and noise levels do to the Gaussian of a denoiser, and the posterior kernels that rest on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import lanczos
from medjax.diffusion.coupling import coupling
from medjax.diffusion.gaussian import gaussian
from medjax.diffusion.mixture import mixture
from medjax.diffusion.moments import bridged, bridged_log_misfit, draw, log_evidence, log_misfit, moments, posterior_draw
from medjax.guides.dds import dds
from medjax.guides.dps import dps
from medjax.guides.mmps import mmps
from medjax.guides.pigdm import pigdm
from medjax.operators.blur import blur
from medjax.operators.decomposed import decomposed
from medjax.operators.downsample import downsample
from medjax.operators.inpaint import inpaint
from medjax.physics.emission_counts import emission_counts
from medjax.physics.transmission_counts import transmission_counts
from medjax.samplers.daps import daps
from medjax.samplers.fps import fps
from medjax.samplers.mcg_diff import mcg_diff
from medjax.samplers.moment_matching import moment_matching
from medjax.samplers.particles import drawn_anew, effective_sample_size, multinomial, systematic
from medjax.samplers.pnp_dm import pnp_dm
from medjax.samplers.red_diff import red_diff
from medjax.samplers.sample import sample
from medjax.samplers.twisted_smc import twisted_smc

NUM, SIGMA, NEXT = 6, 0.9, 0.5
MEAN = jnp.cos(jnp.arange(NUM))
COVARIANCE = 1.5 * jnp.exp(-jnp.abs(jnp.arange(NUM)[:, None] - jnp.arange(NUM)[None]) / 2.0)
A = downsample((NUM,), 2)
MATRIX = jnp.kron(jnp.eye(3), jnp.full((1, 2), 0.5))
SIGMA_Y = jnp.array([0.2, 0.3, 0.5])


def _given(x, sigma):
    """Mean and covariance of x0 given x, dense."""
    gain = COVARIANCE @ jnp.linalg.inv(COVARIANCE + sigma**2 * jnp.eye(NUM))
    return MEAN + gain @ (x - MEAN), COVARIANCE - gain @ COVARIANCE


def _log_normal(y, mean, covariance):
    return jax.scipy.stats.multivariate_normal.logpdf(y, mean, covariance)


def test_root_of_a_matrix_times_a_vector(key):
    """Against eigenvalues, with repeated ones, where the Krylov space ends early, and of half as many steps; its derivative by finite differences."""
    matrix = jax.random.normal(key, (NUM, 3))
    singular = matrix @ matrix.T
    values, basis = jnp.linalg.eigh(singular)
    v = jnp.sin(1.0 + jnp.arange(NUM))
    exact = basis @ (jnp.sqrt(jnp.maximum(values, 0)) * (basis.T @ v))
    assert np.allclose(lanczos.root_times(lambda u: singular @ u, v, 20), exact, rtol=0, atol=1e-7)  # root of the rounding of eigenvalues of 0
    assert np.allclose(lanczos.root_times(lambda u: 4.0 * u, v, 5), 2 * v, rtol=0, atol=1e-12)
    regular = COVARIANCE + jnp.eye(NUM)

    def value(a):
        return jnp.sum(lanczos.root_times(lambda u: a * (regular @ u) + u, v, 20) * MEAN)

    difference = (value(1.0 + 1e-5) - value(1.0 - 1e-5)) / 2e-5
    assert np.isclose(jax.grad(value)(1.0), difference, rtol=1e-7)
    assert np.isclose(jax.grad(lambda a: lanczos.root_times(lambda u: a * u, v, 5)[0])(4.0), v[0] / 4, rtol=1e-12)


def test_root_of_repeated_and_negative_values(key):
    """A blur round a circle of 12 has 7 values of its own: the space ends early, where rounding of M is larger than what is left of some vectors."""
    angles = 2 * jnp.pi * jnp.arange(NUM) / NUM
    v = jax.random.normal(key, (NUM,))

    def exact(a, v):
        values = 1 - a * (0.6 + 0.4 * jnp.cos(angles)) ** 2
        return jnp.fft.ifft(jnp.where(values > 0, jnp.sqrt(jnp.where(values > 0, values, 1)), 0) * jnp.fft.fft(v)).real

    def found(a, v):
        return lanczos.root_times(lambda u: u - a * jnp.fft.ifft((0.6 + 0.4 * jnp.cos(angles)) ** 2 * jnp.fft.fft(u)).real, v, 20)

    for a in (0.5, 0.95, 1.6):  # with 1.6 some are negative and count as 0
        assert np.allclose(found(a, v), exact(a, v), rtol=0, atol=1e-10)
        assert np.allclose(jax.jacobian(found)(a, v), jax.jacobian(exact)(a, v), rtol=0, atol=1e-9)


def test_draws_have_the_moments(key):
    """20,000 draws given x, and given x and y: Monte Carlo error .01 of the covariance's norm."""
    x, y = 0.5 * MEAN, jnp.array([0.3, -1.0, 0.4])
    keys = jax.random.split(key, 20_000)
    prior = moments(gaussian(MEAN, COVARIANCE), x, SIGMA)
    mean, covariance = _given(x, SIGMA)
    gain = covariance @ MATRIX.T @ jnp.linalg.inv(MATRIX @ covariance @ MATRIX.T + jnp.diag(SIGMA_Y**2))
    laws = [(mean, covariance), (mean + gain @ (y - MATRIX @ mean), covariance - gain @ MATRIX @ covariance)]
    fns = [lambda key: draw(key, prior, NUM), lambda key: posterior_draw(key, prior, A, y, 1 / SIGMA_Y, NUM)]
    for fn, (mean, covariance) in zip(fns, laws, strict=True):
        samples = jax.jit(jax.vmap(fn))(keys)
        assert np.allclose(samples.mean(0), mean, atol=4 * float(jnp.sqrt(covariance.max() / 20_000)))
        assert jnp.linalg.norm(jnp.cov(samples.T) - covariance) < 0.04 * jnp.linalg.norm(covariance)


def test_evidence_of_data_and_of_the_next_level(key):
    """p(y | x) and p(y | x', x) against dense Gaussians: with determinants, and without them up to a constant that no x' moves."""
    x, y = 0.5 * MEAN, jnp.array([0.3, -1.0, 0.4])
    prior = moments(gaussian(MEAN, COVARIANCE), x, SIGMA)
    mean, covariance = _given(x, SIGMA)
    system = MATRIX @ covariance @ MATRIX.T + jnp.diag(SIGMA_Y**2)
    constant = -jnp.sum(jnp.log(SIGMA_Y)) - 1.5 * jnp.log(2 * jnp.pi)
    assert np.isclose(log_evidence(prior, A, y, 1 / SIGMA_Y) + constant, _log_normal(y, MATRIX @ mean, system), rtol=1e-10)
    error = y - MATRIX @ mean
    assert np.isclose(log_misfit(prior, A, y, 1 / SIGMA_Y, NUM), -error @ jnp.linalg.solve(system, error) / 2, rtol=1e-10)
    for x_next in (0.2 * MEAN, jnp.ones(NUM)):
        later = bridged(prior, x, x_next, SIGMA, NEXT, 2 * NUM)
        exact_mean, exact = _given(x_next, NEXT)  # x adds nothing to x' for a Gaussian prior
        assert np.allclose(later.mean, exact_mean, rtol=0, atol=1e-8)
        assert np.allclose(jax.vmap(later.covariance)(jnp.eye(NUM)), exact, rtol=0, atol=1e-8)
        error = y - MATRIX @ exact_mean
        misfit = -error @ jnp.linalg.solve(MATRIX @ exact @ MATRIX.T + jnp.diag(SIGMA_Y**2), error) / 2
        assert np.isclose(bridged_log_misfit(prior, A, y, 1 / SIGMA_Y, x, x_next, SIGMA, NEXT, 4 * NUM), misfit, rtol=1e-8)


def test_corrected_coupling_is_exact_at_one_level(key):
    """4,000 chains of split Gibbs sampling at a coupling of .9 sigma_y / ||A|| forget their start and have the exact law; the paper's are wider."""
    taps = jnp.array([0.2, 0.6, 0.2])
    B, y, sigma_y = blur(taps, (NUM,)), jnp.sin(jnp.arange(NUM)), 0.3
    matrix = jax.vmap(B)(jnp.eye(NUM)).T
    covariance = jnp.linalg.inv(jnp.linalg.inv(COVARIANCE) + matrix.T @ matrix / sigma_y**2)
    mean = covariance @ (jnp.linalg.solve(COVARIANCE, MEAN) + matrix.T @ y / sigma_y**2)
    levels = 0.9 * sigma_y * jnp.linspace(1.0, 0.99, 61)

    def chains(corrected):
        kernel = pnp_dm(B, y, sigma_y, corrected=corrected)
        run = jax.jit(jax.vmap(lambda key: sample(key, kernel, gaussian(MEAN, COVARIANCE), levels, 5 * MEAN)))
        return run(jax.random.split(key, 4000))

    exact, wide = chains(True), chains(False)
    std = jnp.sqrt(jnp.diag(covariance))
    assert np.allclose(exact.mean(0), mean, atol=4 * float(std.max()) / 4000**0.5)
    assert np.allclose(exact.std(0) / std, 1, atol=0.045)  # four Monte Carlo errors
    assert jnp.linalg.norm(jnp.cov(exact.T) - covariance) < 0.08 * jnp.linalg.norm(covariance)
    assert jnp.mean(wide.std(0) / std) > 1.08


MODES, SHARES = jnp.array([[-4.0, -4.0], [0.0, 4.0], [5.0, 0.0]]), jnp.array([0.2, 0.5, 0.3])


def _mixture_posterior(y, sigma_y):
    """Share of each of the modes given y = first coordinate + noise."""
    weights = SHARES * jax.scipy.stats.norm.pdf(y, MODES[:, 0], jnp.sqrt(0.25 + sigma_y**2))
    return weights / weights.sum()


def _shares(samples):
    distance = jnp.sum((samples[:, None] - MODES[None]) ** 2, -1)
    return jnp.mean(jax.nn.one_hot(distance.argmin(1), 3), 0)


@pytest.mark.parametrize("name", ["twisted_smc", "twisted_smc_krylov", "mcg_diff", "moment_matching"])
def test_weights_of_modes(key, name):
    """Of a mixture with three modes under one noisy coordinate: particles find the share of each, moment matching without weights does not."""
    B, y, sigma_y = inpaint(jnp.array([1.0, 0.0])), jnp.array([1.5, 0.0]), 2.0
    prior = mixture(SHARES, MODES, 0.25)
    levels = jnp.append(jnp.geomspace(100.0, 0.1, 60), 0.0)
    kernels = {
        "twisted_smc": twisted_smc(B, y, sigma_y, num_krylov=2, dense=True, at_once=2000),
        "twisted_smc_krylov": twisted_smc(B, y, sigma_y, num_krylov=4, at_once=2000),
        "mcg_diff": mcg_diff(B, y, sigma_y),
        "moment_matching": moment_matching(B, y, sigma_y, num_krylov=2),
    }

    def run(key):
        shape = (2,) if name == "moment_matching" else (2000, 2)
        key_start, key_run = jax.random.split(key)
        return sample(key_run, kernels[name], prior, levels, 100.0 * jax.random.normal(key_start, shape))

    runs = 4000 if name == "moment_matching" else 8
    samples = jax.jit(jax.vmap(run))(jax.random.split(key, runs)).reshape(-1, 2)
    error = jnp.max(jnp.abs(_shares(samples) - _mixture_posterior(1.5, sigma_y)))
    if name == "moment_matching":
        assert error > 0.1
    else:
        assert error < {"twisted_smc": 0.02, "twisted_smc_krylov": 0.05, "mcg_diff": 0.06}[name]  # chance, of few ancestors; equal determinants


def test_particles(key):
    """Effective numbers by hand; systematic ancestors come floor(p w) or ceil(p w) times."""
    assert np.isclose(effective_sample_size(jnp.zeros(8)), 8) and np.isclose(effective_sample_size(jnp.array([0.0, -jnp.inf])), 1)
    weights = jax.random.uniform(key, (50,))
    counts = np.bincount(systematic(key, jnp.log(weights)), minlength=50)
    expected = 50 * np.asarray(weights / weights.sum())
    assert np.all(counts >= np.floor(expected)) and np.all(counts <= np.ceil(expected)) and counts.sum() == 50


@pytest.mark.parametrize("choose", [systematic, multinomial])
def test_broken_particles_are_seen_and_alone(key, choose):
    """One of NaN weight stays NaN in its place and has no children; where none has any weight all are NaN."""
    x, log_weights = jnp.arange(8.0), jnp.zeros(8).at[3].set(jnp.nan)
    assert np.isclose(effective_sample_size(log_weights), 7)
    kept = np.delete(np.asarray(drawn_anew(choose(key, log_weights), log_weights, x)), 3)
    assert np.all(np.isfinite(kept)) and 3 not in kept and len(set(kept)) > 3
    assert np.isnan(drawn_anew(choose(key, log_weights), log_weights, x)[3])
    assert np.all(np.isnan(drawn_anew(choose(key, log_weights), jnp.full(8, -jnp.inf), x)))


@pytest.mark.parametrize("make", [twisted_smc, fps, mcg_diff])
def test_a_particle_that_breaks_is_not_hidden(key, make):
    """A denoiser that gives NaN for large pixels: the one particle that met it is NaN at the end, the others go on."""
    A = decomposed(inpaint(jnp.ones(2)), (2,))
    kernel, prior = make(A, jnp.array([0.5, 0.2]), 0.5), gaussian(jnp.zeros(2), jnp.eye(2))
    levels, start = jnp.array([10.0, 3.0, 1.0, 0.3, 0.0]), 10 * jax.random.normal(key, (32, 2)).at[5].set(1000.0)
    x = jax.jit(lambda x: sample(key, kernel, lambda x, s: jnp.where(x[0] > 500, jnp.nan, prior(x, s)), levels, x))(start)
    good = np.all(np.isfinite(x), axis=1)
    assert not good[5] and good.sum() == 31
    assert len(np.unique(np.asarray(x)[good], axis=0)) > 15  # not one family


@pytest.mark.parametrize("make", [twisted_smc, mcg_diff])
def test_particles_are_weighed_at_zero(key, make):
    """Levels that end above it are refused, for their last weights would be lost."""
    A = decomposed(inpaint(jnp.ones(2)), (2,))
    with pytest.raises(ValueError, match="end at 0.1"):
        sample(key, make(A, jnp.ones(2), 0.5), gaussian(jnp.zeros(2), jnp.eye(2)), jnp.array([1.0, 0.1]), jnp.ones((4, 2)))


def test_daps_with_counts(key):
    """A Poisson likelihood against quadrature, for one pixel of three counts; after one step of the flow its guess is the mean."""
    noise, y, mean, std = emission_counts(floor=0.05), jnp.array([3.0]), 4.0, 1.5
    kernel = daps(inpaint(jnp.ones(1)), y, 1.0, variance=std**2, num_ode=1, num_langevin=200, step_size=0.05, log_likelihood=noise.log_likelihood)
    prior = gaussian(jnp.array([mean]), jnp.array([[std**2]]))
    levels = jnp.append(jnp.geomspace(20.0, 0.05, 30), 0.0)
    run = jax.jit(jax.vmap(lambda key: sample(key, kernel, prior, levels, mean + 20.0 * jax.random.normal(key, (1,)))))
    samples = run(jax.random.split(key, 2000))
    grid = jnp.linspace(1e-3, 14, 4000)
    density = jnp.exp(y[0] * jnp.log(grid) - grid - (grid - mean) ** 2 / (2 * std**2))
    exact_mean = jnp.sum(grid * density) / density.sum()
    exact_std = jnp.sqrt(jnp.sum((grid - exact_mean) ** 2 * density) / density.sum())
    assert np.isclose(samples.mean(), exact_mean, atol=0.12)  # chance .1, and Langevin's bias
    assert np.isclose(samples.std(), exact_std, rtol=0.08)  # the same


def test_coupling_levels():
    """Falls strictly, slows at the limit, ends at 0; bad levels are named."""
    levels = np.asarray(coupling(100, 0.2, 30.0))
    assert levels.shape == (101,) and np.all(np.diff(levels) < 0) and levels[0] == 30 and levels[-1] == 0
    assert np.isclose(levels[50], 0.2) and levels[99] > 0.18
    with pytest.raises(ValueError, match="0 < sigma_min < sigma_max, got 2.0 and 1.0"):
        coupling(10, 2.0, 1.0)
    with pytest.raises(ValueError, match="at least 2 steps"):
        coupling(1, 0.1, 1.0)


@pytest.mark.parametrize("make, options, words", [
    (moment_matching, {"num_krylov": 0}, "num_krylov"), (pnp_dm, {"levels": (0.5, 0.0)}, "levels from 1 to 0"),
    (twisted_smc, {"num_krylov": 0}, "num_krylov"),
    (fps, {"num_krylov": 0}, "num_krylov"), (daps, {"variance": 0.0}, "variance"), (daps, {"step_size": -1.0}, "step_size"),
    (pnp_dm, {"prior": fps(inpaint(jnp.ones(3)), jnp.zeros(3), 0.1)}, "a kernel of particles"), (pnp_dm, {"levels": ()}, "levels from 1 to 0"),
    (twisted_smc, {"num_krylov": 2.5}, "num_krylov is 2.5"), (twisted_smc, {"at_once": 0}, "at_once is 0"),
    (daps, {"num_ode": 0}, "num_ode is 0"), (daps, {"num_langevin": -1}, "num_langevin is -1"),
    (moment_matching, {"num_krylov": 2.5}, "num_krylov is 2.5, a whole number"),
])  # fmt: skip
def test_refuses_numbers_out_of_range(make, options, words):
    """One line with the name; so for sigma_y and for data of another shape, whoever asks."""
    B = inpaint(jnp.ones(3))
    with pytest.raises(ValueError, match=words):
        make(B, jnp.zeros(3), 0.1, **options)
    for sigma_y in (0.0, jnp.nan, -1.0):
        with pytest.raises(ValueError, match="sigma_y is .*, more than 0 is needed"):
            make(B, jnp.zeros(3), sigma_y)
    with pytest.raises(ValueError, match="axes must be those of the mask"):
        make(B, jnp.zeros(4), 0.1)


@pytest.mark.parametrize("kernel", [twisted_smc, fps])
def test_a_diverged_particle_has_no_children(key, kernel):
    """One whose misfit is beyond the largest number of its precision does not win for an exponent of 0."""
    A, prior = inpaint(jnp.ones(4)), gaussian(jnp.zeros(4, jnp.float32), jnp.eye(4, dtype=jnp.float32))
    start = jax.random.normal(key, (8, 4), jnp.float32).at[3].set(1e20)
    made = kernel(A, jnp.zeros(4, jnp.float32), 0.1)
    x, _ = jax.jit(lambda x: made.step(key, x, made.init(x), jnp.float32(1.0), jnp.float32(0.5), prior))(start)
    kept = np.all(np.isfinite(x), axis=1)
    assert kept.sum() >= 7 and np.abs(x)[kept].max() < 100


@pytest.mark.parametrize("make", [lambda A, y: mmps(A, y, 0.1), lambda A, y: dds(A, y, 0.1), lambda A, y: pigdm(A, y, 0.1)])
def test_lost_data_do_not_pass_for_a_draw_of_the_prior(make):
    """NaN in traced data, which nothing can refuse, reaches the sample."""
    prior, x = gaussian(jnp.zeros(3), jnp.eye(3)), jnp.ones(3)
    run = jax.jit(lambda y: make(inpaint(jnp.ones(3)), y)(prior)(x, 0.5))
    assert np.all(np.isfinite(run(jnp.ones(3)))) and np.any(np.isnan(run(jnp.array([1.0, jnp.nan, 1.0]))))


def test_likelihoods_that_cannot_guide():
    """Counts before the logarithm are not their own most likely line integrals; without a floor nothing pulls negative emissions back."""
    A, y = inpaint(jnp.ones(4)), jnp.full(4, 5.0)
    with pytest.raises(ValueError, match="a sigma_y beside z = y"):
        dps(A, y, 1.0, log_likelihood=transmission_counts(1e4).log_likelihood)
    for make in (dps, daps, red_diff):
        with pytest.raises(ValueError, match="emission_counts.floor=1."):
            make(A, y, 1.0, log_likelihood=emission_counts().log_likelihood)
    noise = emission_counts(floor=1.0)
    x = jnp.full(4, 2.0).at[0].set(-1.0)
    change = dps(A, y, noise.sigma(y), log_likelihood=noise.log_likelihood)(lambda x, s: x)(x, 0.7) - x
    assert change[0] == change.max() > 0  # the pixel below 0 is pushed up the most


@pytest.mark.parametrize("kernel", [twisted_smc, fps, mcg_diff])
def test_particles_are_asked_for(key, kernel):
    """One image in the place of many is refused in one line."""
    A = decomposed(inpaint(jnp.ones(4)), (4,))
    with pytest.raises(ValueError, match=r"x is \[4\], particles \[p, ...\] of images \[4\] are needed"):
        sample(key, kernel(A, jnp.ones(4), 0.5), gaussian(jnp.zeros(4), jnp.eye(4)), jnp.array([1.0, 0.1, 0.0]), jnp.ones(4))
