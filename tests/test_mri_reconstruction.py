"""Classical MRI reconstruction: CG-SENSE, compressed sensing, low rank, phase constraints."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import linalg
from medjax.functionals.locally_low_rank import locally_low_rank
from medjax.functionals.wavelet_l1 import wavelet_l1
from medjax.iterate import iterate
from medjax.operators.algebra import compose, each
from medjax.operators.gradient import gradient
from medjax.operators.inpaint import inpaint
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.phase_constrained import phase_constrained
from medjax.operators.sense import sense
from medjax.operators.wavelet import wavelet
from medjax.phantoms.shepp_logan import shepp_logan
from medjax.physics.birdcage import birdcage
from medjax.physics.low_resolution_phase import low_resolution_phase
from medjax.physics.poisson_disc import poisson_disc
from medjax.solvers.analysis_reconstruction import analysis_reconstruction
from medjax.solvers.cg_reconstruction import cg_reconstruction
from medjax.solvers.cycle_spinning_reconstruction import cycle_spinning_reconstruction
from medjax.solvers.fista_reconstruction import fista_reconstruction
from medjax.solvers.tv_reconstruction import tv_reconstruction

SIZE, SIGMA = 64, 0.02


_apply, _normal_of = jax.jit(lambda A, x: A(x)), jax.jit(lambda A, x: (A.normal(x), A.adjoint(A(x))))


def _normal(seed, shape):
    """Complex numbers of unit variance."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape)) / 2**0.5


def _error(x, truth):
    return float(jnp.linalg.norm(x - truth) / jnp.linalg.norm(truth))


def _phase(size):
    """Smooth, of about two radians over the field of view."""
    y, x = jnp.meshgrid(*2 * [jnp.linspace(-1, 1, size)], indexing="ij")
    return 0.8 * y + 0.5 * y**2 + 0.6 * y * x


@functools.cache
def _scan():
    """Operator, noisy data, image, and what conjugate gradients make of it; Poisson disc, R = 4, 4 coils."""
    image = shepp_logan(SIZE).image * jnp.exp(1j * _phase(SIZE))
    A = sense(birdcage((SIZE, SIZE), 4), poisson_disc(jax.random.key(0), (SIZE, SIZE), 4, (12, 12)))
    y = A(image) + SIGMA * A.mask[None] * _normal(0, A.maps.shape)
    return A, y, image, _run(lambda A, y: cg_reconstruction(A, y, 1.0, 1e-2), A, y, 20)


def _run(make, A, y, num_steps):
    x0 = jnp.zeros(jax.eval_shape(A.adjoint, y).shape, jax.eval_shape(A.adjoint, y).dtype)
    return jax.jit(lambda A, y: iterate(make(A, y), x0, num_steps).x)(A, y)


@pytest.mark.parametrize("weighted", [False, True])
def test_cg_sense_is_the_dense_solution(weighted):
    shape = (6, 5)
    A = sense(_normal(1, (3, *shape)), jnp.asarray(np.random.default_rng(2).uniform(size=shape) < 0.6))
    y, basis = _normal(3, (3, *shape)), np.eye(30).reshape(30, *shape)
    sigma = 0.5 + np.random.default_rng(4).uniform(size=(3, *shape)) if weighted else 0.5
    G = gradient() if weighted else None
    a = np.stack([np.asarray(A(e)).ravel() for e in basis], 1)
    g = np.stack([np.asarray(linalg.difference(e)).ravel() for e in basis], 1) if weighted else np.eye(30)
    weight = np.broadcast_to(1 / sigma**2, (3, *shape)).ravel()
    wanted = np.linalg.solve(a.conj().T @ (weight[:, None] * a) + 0.3 * g.T @ g, a.conj().T @ (weight * np.asarray(y).ravel()))
    found = _run(lambda A, y: cg_reconstruction(A, y, sigma, 0.3, G), A, y, 60)
    assert np.linalg.norm(np.asarray(found).ravel() - wanted) <= 1e-9 * np.linalg.norm(wanted)


def test_a_full_scan_is_exact():
    maps, x = 1 + 0.3 * _normal(4, (5, 9, 10)), _normal(5, (9, 10))
    A = sense(maps, jnp.ones((9, 10), bool))
    assert _error(_run(lambda A, y: cg_reconstruction(A, y, 1.0), A, _apply(A, x), 40), x) <= 1e-12


def test_a_composition_keeps_the_fast_normal():
    A = compose(sense(_normal(1, (3, 7, 6)), jnp.asarray(np.random.default_rng(2).uniform(size=(7, 6)))), inpaint(jnp.full((7, 6), 0.3)))
    x = _normal(2, (7, 6))
    assert _error(*_normal_of(A, x)) <= 1e-13
    series = each(*[masked_fourier(1.0 * (jnp.arange(30).reshape(5, 6) % 3 == t)) for t in range(3)])
    x = _normal(3, (3, 5, 6))
    assert _error(*_normal_of(series, x)) <= 1e-13


def test_each_holds_common_leaves_once_and_names_wrong_ones():
    maps = _normal(1, (2, 4, 5))
    A = each(*[sense(maps, jnp.ones((4, 5)) * t) for t in (1, 2, 3)])
    assert sorted(leaf.shape for leaf in jax.tree.leaves(A)) == [(2, 4, 5), (3, 4, 5)]
    x = _normal(2, (3, 4, 5))
    for t in range(3):
        assert _error(_apply(A, x)[t], _apply(sense(maps, jnp.ones((4, 5)) * (t + 1)), x[t])) <= 1e-13
    shared = each(sense(maps, jnp.ones((4, 5))), at_once=2)
    assert jax.eval_shape(shared, jnp.zeros((7, 4, 5), complex)).shape == (7, 2, 4, 5)
    with pytest.raises(ValueError, match="3 images along the first axis"):
        A(x[:2])
    with pytest.raises(ValueError, match="one kind and size"):
        each(sense(maps, jnp.ones((4, 5))), masked_fourier(jnp.ones((4, 5))))
    with pytest.raises(ValueError, match="at least one"):
        each()


def test_sparsity_beats_least_squares():
    """TV and wavelets on a piecewise constant head; errors of .43 zero-filled, .31 by CG, .16 and .13."""
    A, y, image, cg = _scan()
    found = {
        "wavelets": _run(lambda A, y: fista_reconstruction(A, y, 1.0, wavelet_l1(wavelet((SIZE, SIZE), "db2", 3), 0.01), 1.0), A, y, 40),
        "tv": _run(lambda A, y: analysis_reconstruction(A, y, 1.0, gradient(), 0.01, 0, step_size=1.0, K_norm=8**0.5), A, y, 25),
    }
    assert _error(cg, image) < 0.8 * _error(A.adjoint(y), image)
    assert _error(found["wavelets"], image) < 0.6 * _error(cg, image)
    assert _error(found["tv"], image) < 0.5 * _error(cg, image)


def test_analysis_of_differences_is_total_variation():
    """The minimum that the primal-dual method nears, in a twentieth of the steps."""
    A, y, _, _ = _scan()
    strength = 0.01

    def objective(x):
        jumps = jnp.sqrt(jnp.sum(jnp.abs(linalg.difference(x)) ** 2, 0))
        return jnp.sum(jnp.abs(A(x) - y) ** 2) / 2 + strength * jnp.sum(jumps)

    long = objective(_run(lambda A, y: tv_reconstruction(A, y, 1.0, strength), A, y, 400))
    short = objective(_run(lambda A, y: analysis_reconstruction(A, y, 1.0, gradient(), strength, 0, step_size=1.0), A, y, 30))
    assert abs(short - long) <= 1e-3 * long  # what 400 steps of a sublinear method leave
    entries = objective(_run(lambda A, y: analysis_reconstruction(A, y, 1.0, gradient(), strength, step_size=1.0), A, y, 30))
    assert entries > short * 1.005  # anisotropic: another minimum


def test_analysis_keeps_images_nonnegative():
    A, image = inpaint(jnp.asarray(np.random.default_rng(0).uniform(size=(16, 16)) < 0.6, float)), shepp_logan(16).image - 0.1
    y = A(image)

    def objective(x):
        return float(jnp.sum((A(x) - y) ** 2) / 2 + 0.005 * jnp.sum(jnp.sqrt(jnp.sum(linalg.difference(x) ** 2, 0))))

    free, positive = (
        _run(lambda A, y, sign=sign: analysis_reconstruction(A, y, 1.0, gradient(), 0.005, 0, sign, 1.0, 3.0), A, y, 60) for sign in (False, True)
    )
    assert jnp.min(free) < -0.05 and jnp.min(positive) == 0
    assert objective(free) < objective(positive) < objective(jnp.maximum(free, 0))


@functools.cache
def _series():
    """A series of rank 2, of which every frame is measured by 4 coils at other points; and the maps and masks."""
    shape, frames = (24, 24), 8
    time = jnp.linspace(0, 1, frames)[:, None, None]
    inside = shepp_logan(24).image[None]
    series = (inside + 0j) * jnp.exp(-2 * time) + 1j * jnp.roll(inside, 5, 2) * time
    rng, maps = np.random.default_rng(1), birdcage(shape, 4)
    masks = [jnp.asarray(rng.uniform(size=shape) < 0.2) | (jnp.hypot(*jnp.mgrid[-12:12, -12:12]) < 3) for _ in range(frames)]
    A = each(*[sense(maps, 1.0 * mask) for mask in masks])
    return A, A(series) + 0.005 * A(0 * series + 1).astype(bool) * _normal(2, (frames, 4, *shape)), series


def test_low_rank_joins_the_frames_of_a_series():
    A, y, series = _series()
    alone = _run(lambda A, y: cg_reconstruction(A, y, 1.0, 1e-3), A, y, 30)
    joined = _run(lambda A, y: fista_reconstruction(A, y, 1.0, locally_low_rank(0.01, 8), 1.0), A, y, 60)
    spun = _run(lambda A, y: cycle_spinning_reconstruction(A, y, 1.0, locally_low_rank(0.01, 8), 8, step_size=1.0), A, y, 60)
    assert _error(joined, series) < 0.4 * _error(alone, series)
    assert _error(spun, series) < _error(joined, series)


def test_cycle_spinning_nears_the_mean_over_shifts():
    """Without shifts it is FISTA; with them the objective with the mean of the regulariser over all shifts is lower."""
    A, y, image, _ = _scan()
    W = wavelet((SIZE, SIZE), "haar", 2)
    penalty = wavelet_l1(W, 0.02)
    fixed = _run(lambda A, y: fista_reconstruction(A, y, 1.0, penalty, 1.0, restart=False), A, y, 30)
    still, spun = (
        _run(lambda A, y, reach=reach: cycle_spinning_reconstruction(A, y, 1.0, penalty, reach, step_size=1.0), A, y, 30) for reach in (1, 4)
    )

    @jax.jit
    def objective(x):
        shifted = jnp.stack([jnp.roll(x, (i, j), (0, 1)) for i in range(4) for j in range(4)])
        return jnp.sum(jnp.abs(A(x) - y) ** 2) / 2 + jnp.mean(jax.lax.map(penalty.value, shifted))

    assert _error(still, fixed) <= 1e-12
    assert objective(spun) < 0.98 * objective(fixed)
    assert _error(spun, image) < 0.9 * _error(fixed, image)


def test_a_phase_constraint_makes_up_for_half_of_k_space():
    """Five eighths of k-space, the phase from its centre: the image loses its blur, and its noise."""
    image = shepp_logan(SIZE).image
    maps, columns = birdcage((SIZE, SIZE), 4), jnp.arange(SIZE)
    A = sense(maps, jnp.broadcast_to(1.0 * (columns >= 24), (SIZE, SIZE)))
    y = A(image * jnp.exp(1j * _phase(SIZE))) + 0.01 * A.mask[None] * _normal(1, maps.shape)
    phase = low_resolution_phase(y, 16, maps)
    inside = image > 0.05
    assert jnp.quantile(jnp.abs(jnp.angle(jnp.exp(1j * (phase - _phase(SIZE)))))[inside], 0.9) < 0.15
    free = _run(lambda A, y: cg_reconstruction(A, y, 1.0, 1e-2), A, y, 20)
    constrained = _run(lambda A, y: cg_reconstruction(A, y, 1.0, 1e-2), compose(A, phase_constrained(phase)), y, 20)
    assert constrained.dtype == jnp.float64
    assert _error(constrained, image) < 0.3 * _error(jnp.abs(free), image)


def test_low_resolution_phase_of_one_coil_and_its_errors():
    image = jnp.exp(-0.5 * jnp.hypot(*jnp.mgrid[-16:16, -16:17]) ** 2 / 36) * jnp.exp(0.7j)
    kspace = masked_fourier(jnp.ones((32, 33)))(image)
    assert np.allclose(low_resolution_phase(kspace, (12, 13)), 0.7, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="maps like k-space"):
        low_resolution_phase(kspace[None], 8, jnp.ones((2, 32, 33)))
    with pytest.raises(ValueError, match="at least 1 sample"):
        low_resolution_phase(kspace, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda A, y: cg_reconstruction(A, y, 1.0, -1.0),
        lambda A, y: analysis_reconstruction(A, y, 1.0, gradient(), -1.0),
        lambda A, y: analysis_reconstruction(A, y, 1.0, gradient(), 1.0, step_size=0.0),
        lambda A, y: analysis_reconstruction(A, y, 1.0, gradient(), 1.0, step_size=1.0, K_norm=0.0),
        lambda A, y: cg_reconstruction(A, y, -1.0),
        lambda A, y: cycle_spinning_reconstruction(A, y, 1.0, wavelet_l1(wavelet((8, 8), "haar", 1), 1.0), 0),
    ],
)
def test_wrong_numbers_are_refused(make):
    with pytest.raises(ValueError, match="at least|is needed") as error:
        make(masked_fourier(jnp.ones((8, 8))), jnp.zeros((8, 8), complex))
    assert "\n" not in str(error.value)
