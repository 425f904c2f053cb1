"""One step of the posterior kernels against their formulas in dense matrices: laws without chance, weights of particles, what options do."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_matrix import Dense

from medjax.diffusion.gaussian import gaussian
from medjax.diffusion.likelihood_gradient import likelihood_gradient
from medjax.diffusion.mixture import mixture
from medjax.guides.tmpd import tmpd
from medjax.operators.decomposed import decomposed
from medjax.physics.transmission_counts import transmission_counts
from medjax.samplers.daps import daps
from medjax.samplers.ddim import ddim
from medjax.samplers.fps import fps
from medjax.samplers.langevin import langevin
from medjax.samplers.mcg_diff import mcg_diff
from medjax.samplers.moment_matching import moment_matching
from medjax.samplers.pnp_dm import pnp_dm
from medjax.samplers.twisted_smc import twisted_smc
from medjax.typing import Kernel

NUM, SIGMA, NEXT = 5, 0.9, 0.5
PLACES = jnp.arange(float(NUM))
X, MEAN = jnp.cos(2.0 * PLACES), jnp.sin(PLACES)
COVARIANCE = 1.2 * jnp.exp(-jnp.abs(PLACES[:, None] - PLACES[None]) / 2.0)
MATRIX = jnp.cos(jnp.arange(3.0)[:, None] * PLACES[None] + PLACES[None]) / 2
Y, SIGMA_Y = jnp.array([0.8, -1.0, 0.4]), jnp.array([0.3, 0.5, 0.4])
NOISE = jnp.diag(SIGMA_Y**2)
RHO = (NEXT / SIGMA) ** 2
VARIANCE = NEXT**2 * (1 - RHO)  # of the ancestral step
ENOUGH = 4 * NUM  # Krylov steps that reach the solution in spite of rounding
denoise = gaussian(MEAN, COVARIANCE)
two_modes = mixture(jnp.array([0.4, 0.6]), jnp.stack([MEAN, -MEAN]), 0.1)


def law(monkeypatch, run, num=64):
    """Mean and covariance of `run()`, a vector that is affine in its normal numbers, exactly: unit vectors stand for these, one after the other.

    They stand for independent numbers, so no key may be used twice.
    """
    keys = []

    def value(numbers):
        used = 0

        def normal(key, shape=(), dtype=float):
            nonlocal used
            jax.debug.callback(lambda data: keys.append(data.tobytes()), jax.random.key_data(key))
            used += math.prod(shape)
            assert used <= num
            return numbers[used - math.prod(shape) : used].reshape(shape).astype(dtype)

        with monkeypatch.context() as patch:
            patch.setattr(jax.random, "normal", normal)
            return run()

    mixed = jnp.cos(3.0 * jnp.arange(num))
    values = jax.jit(jax.vmap(value))(jnp.concatenate([jnp.zeros((1, num)), mixed[None], jnp.eye(num)]))
    factor = (values[2:] - values[:1]).T
    jax.effects_barrier()
    assert len(set(keys)) == len(keys) > 0
    assert np.allclose(values[1], values[0] + factor @ mixed, rtol=0, atol=1e-8)  # affine it is
    return values[0], factor @ factor.T


def without_noise(monkeypatch, run):
    """`run()`, compiled, its normal numbers being 0."""
    with monkeypatch.context() as patch:
        patch.setattr(jax.random, "normal", lambda key, shape=(), dtype=float: jnp.zeros(shape, dtype))
        return jax.jit(run)()


def given_data(mean, covariance):
    """Of N(mean, covariance) given Y: gain K, mean, covariance."""
    K = covariance @ MATRIX.T @ jnp.linalg.inv(MATRIX @ covariance @ MATRIX.T + NOISE)
    return K, mean + K @ (Y - MATRIX @ mean), covariance - K @ MATRIX @ covariance


def spread_of_x0(sigma):
    """Covariance of x0 given x, dense."""
    return COVARIANCE - COVARIANCE @ jnp.linalg.solve(COVARIANCE + sigma**2 * jnp.eye(NUM), COVARIANCE)


def log_normal(y, mean, covariance):
    return jax.scipy.stats.multivariate_normal.logpdf(y, mean, covariance)


@pytest.mark.parametrize("first", [True, False])
def test_fps_step_has_its_law(key, monkeypatch, first):
    """The path of the data and one particle, together: the path is a bridge to w_sigma, begun anew in the first step; x' follows its data."""
    kernel, path = fps(Dense(MATRIX), Y, SIGMA_Y, num_krylov=ENOUGH), 0.3 * PLACES

    def run():
        state = kernel.init(X[None]) if first else (path, jnp.zeros((), bool))
        x, (moved, fresh) = kernel.step(key, X[None], state, SIGMA, NEXT, denoise)
        return jnp.concatenate([moved, x[0], fresh[None].astype(float)])

    mean, covariance = law(monkeypatch, run)
    near = (1 - RHO) * denoise(X, SIGMA) + RHO * X
    of_path = (NEXT**2 if first else VARIANCE) * jnp.eye(NUM)
    K, centre, left = given_data(near, VARIANCE * jnp.eye(NUM))
    path_mean = 0 * path if first else RHO * path
    joint = jnp.block([[of_path, of_path @ (K @ MATRIX).T], [K @ MATRIX @ of_path, left + K @ MATRIX @ of_path @ (K @ MATRIX).T]])
    assert np.allclose(mean, jnp.concatenate([path_mean, centre + K @ MATRIX @ path_mean, jnp.zeros(1)]), rtol=0, atol=1e-8)
    assert np.allclose(covariance[:-1, :-1], joint, rtol=0, atol=1e-8)


def test_fps_draws_particles_anew(key, monkeypatch):
    """By N(y'; A m, Sigma_y + v A A^H): particle i has floor(p w) or ceil(p w) children, each moved by its own data."""
    num, kernel = 60, fps(Dense(MATRIX), Y, SIGMA_Y, num_krylov=ENOUGH)
    x, path = X[None] + jax.random.normal(key, (num, NUM)), 0.3 * PLACES
    ends, _ = without_noise(monkeypatch, lambda: kernel.step(key, x, (path, jnp.zeros((), bool)), SIGMA, NEXT, denoise))
    near = (1 - RHO) * jax.vmap(lambda x: denoise(x, SIGMA))(x) + RHO * x
    y = Y + MATRIX @ (RHO * path)
    K, system = given_data(X, VARIANCE * jnp.eye(NUM))[0], NOISE + VARIANCE * MATRIX @ MATRIX.T
    weights = num * jax.nn.softmax(jax.vmap(lambda m: log_normal(y, MATRIX @ m, system))(near))
    moved = near + (y[None] - near @ MATRIX.T) @ K.T
    gaps = jnp.linalg.norm(ends[:, None] - moved[None], axis=2)
    children = np.bincount(gaps.argmin(1), minlength=num)
    assert np.max(gaps.min(1)) < 1e-8
    assert np.all(children >= np.floor(weights - 1e-6)) and np.all(children <= np.ceil(weights + 1e-6))
    assert np.max(children) > 3 and np.sum(children == 0) > 10


def test_daps_follows_the_flow(key):
    """Euler's steps of the flow to x0 where Langevin's are too short to matter: each at its level, and nearer to a Gaussian's own end."""
    levels = [*SIGMA * np.geomspace(1.0, 0.1, 5), 0.0]

    def clean(num_ode, prior):
        kernel = daps(Dense(MATRIX), Y, SIGMA_Y, num_ode=num_ode, num_langevin=1, step_size=1e-24)
        return jax.jit(lambda x: kernel.step(key, x, (), SIGMA, 0.0, prior)[0])(X)

    x = X
    for level, below in zip(levels[:-1], levels[1:], strict=True):
        D = two_modes(x, level)
        x = D + below / level * (x - D)
    assert np.allclose(clean(5, two_modes), x, rtol=0, atol=1e-10)
    assert np.allclose(clean(1, two_modes), two_modes(X, SIGMA), rtol=0, atol=1e-10)
    values, basis = jnp.linalg.eigh(COVARIANCE)
    end = MEAN + basis @ (jnp.sqrt(values / (values + SIGMA**2)) * (basis.T @ (X - MEAN)))
    errors = [jnp.linalg.norm(clean(num, denoise) - end) for num in (1, 5, 40)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


STRENGTHS = jnp.array([1.6, 0.9, 0.5])  # with sigma_y = .4 their tau are .25, .44 and .8


def by_its_values():
    """An operator of these singular values: A, its v_i, the coordinates that it sees, tau."""
    left, right = jnp.linalg.qr(MATRIX[:, :3] + jnp.eye(3))[0], jnp.linalg.qr(COVARIANCE)[0]
    matrix = left @ (STRENGTHS[:, None] * right[:, :3].T)
    return decomposed(Dense(matrix), (NUM,)), right, left.T @ Y / STRENGTHS, 0.4 / STRENGTHS


@pytest.mark.parametrize("below", [0.5, 0.85])
def test_mcg_diff_step_has_its_law(key, monkeypatch, below):
    """One particle: coordinates above their tau take the product of ancestral step and potential, the others the step alone."""
    A, V, wanted, tau = by_its_values()
    kernel = mcg_diff(A, Y, 0.4, kappa=0.01)
    mean, covariance = law(monkeypatch, lambda: kernel.step(key, X[None], kernel.init(X[None]), SIGMA, below, denoise)[0][0])
    rho = (below / SIGMA) ** 2
    v, near = below**2 * (1 - rho), V.T @ ((1 - rho) * denoise(X, SIGMA) + rho * X)
    potential = jnp.where(tau <= below, below**2 - tau**2 + 0.01 * (1 + tau**2), jnp.inf)
    left = 1 / (1 / v + 1 / potential)
    expected = near.at[:3].set(left * (near[:3] / v + wanted / potential))
    assert np.sum(tau <= below) == (2 if below == 0.5 else 3)
    assert np.allclose(mean, V @ expected, rtol=0, atol=1e-9)
    assert np.allclose(covariance, V @ jnp.diag(jnp.append(left, jnp.full(2, v))) @ V.T, rtol=0, atol=1e-9)


@pytest.mark.parametrize("sigma, below", [(SIGMA, NEXT), (SIGMA, 0.0), (0.2, 0.0)])
def test_mcg_diff_weighs_its_particles(key, monkeypatch, sigma, below):
    """Of two kinds, half of each: by how the predictions meet the data over the old potential, at the end by the likelihood over it."""
    A, V, wanted, tau = by_its_values()
    kernel, num = mcg_diff(A, Y, 0.4, kappa=0.01), 20_000
    kinds = jnp.stack([X, X + 0.3 * V[:, 1] - 0.3 * V[:, 2]])
    x = kinds[jnp.arange(num) % 2]
    ends, _ = without_noise(monkeypatch, lambda: kernel.step(key, x, kernel.init(x), sigma, below, denoise))
    rho, k = (below / sigma) ** 2, 0.01 * (1 + tau**2)
    near = ((1 - rho) * jnp.stack([denoise(x, sigma) for x in kinds]) + rho * kinds) @ V[:, :3]

    def log_potential(z, variance):
        return -jnp.sum((z - wanted[None]) ** 2 / (2 * variance)[None], 1)

    old = log_potential(kinds @ V[:, :3], jnp.where(tau <= sigma, sigma**2 - tau**2 + k, jnp.inf))
    met = jnp.where(tau <= below, below**2 * (1 - rho) + below**2 - tau**2 + k, jnp.inf) if below > 0 else tau**2
    share = jax.nn.softmax(log_potential(near, met) - old)[1]
    moved = near[:, 2] if below == NEXT else near[:, 1]  # a coordinate that nothing pulled, to tell the kinds by
    found = ends @ V[:, 2 if below == NEXT else 1]
    second = jnp.mean(jnp.abs(found - moved[1]) < jnp.abs(found - moved[0]))
    assert abs(share - 0.5) > 0.05
    assert abs(second - share) < 0.014  # Monte Carlo: four standard errors of 20,000 independent draws


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("conditioned", [True, False])
def test_moment_matching_step_has_its_law(key, monkeypatch, eta, conditioned):
    """x' is a draw of x0, a part of x - x0 and fresh noise, with data and without."""
    measured = (Dense(MATRIX), Y, SIGMA_Y) if conditioned else ()
    kernel = moment_matching(*measured, num_krylov=ENOUGH, eta=eta)
    mean, covariance = law(monkeypatch, lambda: kernel.step(key, X, (), SIGMA, NEXT, denoise)[0])
    C, D = spread_of_x0(SIGMA), denoise(X, SIGMA)
    _, D, C = given_data(D, C) if conditioned else (None, D, C)
    v = eta**2 * VARIANCE
    share = jnp.sqrt(NEXT**2 - v) / SIGMA
    assert np.allclose(mean, D + share * (X - D), rtol=0, atol=1e-8)
    assert np.allclose(covariance, (1 - share) ** 2 * C + v * jnp.eye(NUM), rtol=0, atol=1e-8)


@pytest.mark.parametrize("level", [0.8, 1.0])
@pytest.mark.parametrize("make", [moment_matching, twisted_smc])
def test_isotropic_above_a_level(key, monkeypatch, make, level):
    """The covariance of x0 is r^2 I there, with r^2 of `variance`, and the denoiser's own below."""
    kernel = make(Dense(MATRIX), Y, SIGMA_Y, num_krylov=ENOUGH, isotropic_above=level, variance=0.4)
    x = X[None] if kernel.particles else X
    mean, covariance = law(monkeypatch, lambda: kernel.step(key, x, kernel.init(x), SIGMA, NEXT, denoise)[0].ravel())
    r2 = SIGMA**2 * 0.4 / (SIGMA**2 + 0.4)
    _, D, C = given_data(denoise(X, SIGMA), r2 * jnp.eye(NUM) if level < SIGMA else spread_of_x0(SIGMA))
    assert np.allclose(mean, D + RHO * (X - D), rtol=0, atol=1e-8)
    assert np.allclose(covariance, (1 - RHO) ** 2 * C + VARIANCE * jnp.eye(NUM), rtol=0, atol=1e-8)


@pytest.mark.parametrize("share, corrected", [(0.95, True), (1.02, True), (0.5, False)])
def test_pnp_dm_draws_what_fits_the_data(key, monkeypatch, share, corrected):
    """z given x and y, with the corrected likelihood below the bound 1 / ||A / sigma_y|| and the paper's above it, or where that is asked."""
    precision = MATRIX.T @ jnp.linalg.inv(NOISE) @ MATRIX
    sigma = share / jnp.sqrt(jnp.linalg.norm(precision, 2))
    kernel = pnp_dm(Dense(MATRIX), Y, SIGMA_Y, prior=Kernel(lambda x: (), lambda *args: args[1:3]), num_krylov=ENOUGH, corrected=corrected)
    mean, covariance = law(monkeypatch, lambda: kernel.step(key, X, (), sigma, 0.9 * sigma, denoise)[0])
    pulled = MATRIX.T @ (Y / SIGMA_Y**2)
    if corrected and share < 1:
        expected = X + sigma**2 * (pulled - precision @ X), sigma**2 * (jnp.eye(NUM) - sigma**2 * precision)
    else:
        within = jnp.linalg.inv(precision + jnp.eye(NUM) / sigma**2)
        expected = within @ (pulled + X / sigma**2), within
    assert np.allclose(mean, expected[0], rtol=0, atol=1e-8)
    assert np.allclose(covariance, expected[1], rtol=0, atol=1e-8)


def test_pnp_dm_steps_down_its_levels(key, monkeypatch):
    """Its prior's diffusion goes from the coupling to 0 over `levels`; of unmeasured data z is x + sigma n, here with n = 0."""
    kernel = pnp_dm(Dense(MATRIX), Y, jnp.inf, prior=ddim(0.0), levels=(1.0, 0.5, 0.2, 0.0))
    got = without_noise(monkeypatch, lambda: kernel.step(key, X, (), SIGMA, NEXT, two_modes)[0])
    x = X
    for level, below in ((SIGMA, 0.5 * SIGMA), (0.5 * SIGMA, 0.2 * SIGMA), (0.2 * SIGMA, 0.0)):
        D = two_modes(x, level)
        x = D + below / level * (x - D)
    assert np.allclose(got, x, rtol=0, atol=1e-12)
    assert np.linalg.norm(x - two_modes(X, SIGMA)) > 0.1


@pytest.mark.parametrize("parts", ["real", "complex"])
def test_tmpd_takes_the_size_of_row_sums(parts):
    """Rows of both signs, whose sums of A C A^H are of both signs, too."""
    signs = jnp.array([[1.0, 2.0, 0.5, 1.0, 1.5], [-0.5, -0.4, 0.2, -0.1, -0.3], [1.0, -1.0, 2.0, 1.0, 0.0]])
    matrix, y = (signs, Y) if parts == "real" else (signs + 1j * signs[jnp.array([1, 0, 1])], Y + 1j * Y[::-1])
    rows, data = (signs, Y) if parts == "real" else (jnp.concatenate([matrix.real, matrix.imag]), jnp.concatenate([y.real, y.imag]))
    s, C, D = jnp.tile(SIGMA_Y**2, len(data) // 3), spread_of_x0(SIGMA), denoise(X, SIGMA)
    sums = (rows @ C @ rows.T).sum(1)
    assert np.any(sums < -0.1) and np.any(sums > 0.1)
    got = jax.jit(tmpd(Dense(matrix), y, SIGMA_Y)(denoise), static_argnums=1)(X, SIGMA)
    assert np.allclose(got, D + C @ rows.T @ ((data - rows @ D) / (s + jnp.abs(sums))), rtol=0, atol=1e-10)


def test_likelihood_of_dead_bins_is_not_asked():
    """What A x holds where nothing was measured reaches no gradient: not its overflow behind counts, nor its share in correlated noise."""
    y, alive = jnp.array([0.0, 3.0, 2.0, 0.0]), jnp.array([0.0, 1.0, 2.0, 0.0])
    weights = jnp.eye(4) + 0.3
    of_counts = likelihood_gradient(y, alive, transmission_counts(10.0).log_likelihood)
    correlated = likelihood_gradient(y, alive, lambda y, z: -(y - z) @ weights @ (y - z) / 2)
    for dead in (7.0, -2000.0, jnp.nan):
        z = jnp.array([dead, 0.5, 1.5, dead])
        seen = slice(1, 3)
        for force, expected in ((of_counts, 10 * jnp.exp(-z) - y), (correlated, jnp.pad(weights[seen, seen] @ (y - z)[seen], 1))):
            assert np.allclose(jax.jit(force)(z), jnp.zeros(4).at[seen].set(expected[seen]), rtol=0, atol=1e-12)


def test_langevin_step_is_its_formula(key, monkeypatch):
    """x + epsilon g + sqrt(2 epsilon) n with the norm of g."""
    kernel = langevin(0.4)
    mean, covariance = law(monkeypatch, lambda: kernel.step(key, X, (), SIGMA, NEXT, denoise)[0])
    g = (denoise(X, SIGMA) - X) / SIGMA**2
    epsilon = 2 * 0.4**2 * NUM / (g @ g)
    assert np.allclose(mean, X + epsilon * g, rtol=0, atol=1e-12)
    assert np.allclose(covariance, 2 * epsilon * jnp.eye(NUM), rtol=0, atol=1e-12)


@pytest.mark.parametrize("snr", [0.5, 0.7])
def test_langevin_is_too_wide_by_its_step(snr):
    """Of white images, where s' = s (1 - epsilon / S)^2 + 2 epsilon with epsilon = 2 r^2 S^2 / s rests at s = (1 + r^2) S."""
    variance, sigma, kernel = 2.0, 0.7, langevin(snr, 20)
    x = 1.5 * jax.random.normal(jax.random.key(2), (256, 256))
    end = jax.jit(lambda x: kernel.step(jax.random.key(1), x, (), sigma, 0.0, lambda x, s: variance / (variance + s**2) * x)[0])(x)
    assert np.isclose(jnp.var(end) / (variance + sigma**2), 1 + snr**2, rtol=0.02)  # Monte Carlo: standard error .0055 of 65,536 pixels
