"""What the tomographic solvers promise beyond the contract of all solvers: rays that miss, models that ring, dead pixels, subsets."""

import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows_tomography import Scan
from solver_row import Dense

from medjax import linalg
from medjax.functionals.total_variation import total_variation
from medjax.iterate import iterate, iterate_until
from medjax.operators.algebra import stack
from medjax.operators.parallel_beam import parallel_beam
from medjax.operators.pet import pet
from medjax.phantoms.shepp_logan import shepp_logan
from medjax.solvers.fista_reconstruction import fista_reconstruction
from medjax.solvers.inverse_sums import inverse_sums
from medjax.solvers.mlem import mlem
from medjax.solvers.os_sart import os_sart
from medjax.solvers.osem import osem
from medjax.solvers.sart import sart
from medjax.solvers.sirt import sirt
from medjax.solvers.view_subsets import view_subsets

SIZE, NUM_VIEWS, NUM_DETECTORS = 24, 14, 41


def _scan(model="joseph", num_views=NUM_VIEWS):
    """More detectors than the image's diagonal: some rays miss it."""
    return parallel_beam(SIZE, np.arange(num_views) * np.pi / num_views, NUM_DETECTORS, model=model)


@functools.cache
def _matrix():
    """The same with Joseph's model as a matrix `[views, detectors, pixels]`, of which programs are compiled at once."""
    columns = jax.jit(jax.vmap(_scan()))(jnp.eye(SIZE**2).reshape(-1, SIZE, SIZE))
    return Scan(jnp.moveaxis(columns, 0, -1))


IMAGE = shepp_logan(SIZE).image.ravel()


def _emission(A, image, mean=40.0):
    """An attenuated scan whose last detector is dead, its background and counts, many of them 0."""
    dead = jnp.ones((NUM_VIEWS, NUM_DETECTORS)).at[:, -1].set(0)
    A = pet(A, 0.01 * (image > 0), dead)
    clean = A(image)
    background = mean * dead * jnp.linspace(0.02, 0.08, NUM_VIEWS)[:, None]
    return A, background, jnp.asarray(np.random.default_rng(3).poisson(mean * clean / jnp.mean(clean) + background), float)


def _run(make, *args):
    """`make(A, y) -> Solver`; the state after a number of steps, by one program for all numbers."""
    return jax.jit(lambda A, y, x0, n: iterate(make(A, y), x0, n).x)(*args)


def _log_likelihood(A, y, background, x):
    mean = A(x) + background
    return jnp.sum(jnp.where(y > 0, y * jnp.log(jnp.where(y > 0, mean, 1)), 0) - mean)


def test_sirt_of_too_few_rays_is_nearest_to_its_start(key):
    """Its limit has the least |C^-1/2 (x - x0)| of all weighted least-squares solutions; rays and pixels that meet nothing change nothing."""
    rng = np.random.default_rng(1)
    w = rng.uniform(0.1, 1, (5, 9)) * (rng.uniform(size=(5, 9)) < 0.6)
    w[2], w[:, 4] = 0, 0
    y, x0 = rng.normal(5, 1, 5), rng.normal(0, 1, 9)
    x = iterate(sirt(Dense(jnp.asarray(w)), jnp.asarray(y), 1.5), jnp.asarray(x0), 5000).x
    rows, columns = np.arange(5) != 2, np.arange(9) != 4
    inner = w[rows][:, columns]
    root_r, root_c = inner.sum(1) ** -0.5, inner.sum(0) ** -0.5
    wanted = x0.copy()
    scaled = root_r[:, None] * inner * root_c
    wanted[columns] += root_c * (np.linalg.pinv(scaled) @ (root_r * (y[rows] - inner @ x0[columns])))
    assert np.allclose(x, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("model", ["joseph", "fourier"])
def test_sirt_falls_for_both_models(key, model):
    """|R^1/2 (A x - y)| never rises, although "fourier" rings below 0 and its sums of missing rays would be divided by."""
    A = _scan(model)
    y = A(IMAGE.reshape(SIZE, SIZE)) + jax.random.normal(key, (NUM_VIEWS, NUM_DETECTORS))
    sums = A(jnp.ones((SIZE, SIZE)))
    rows = inverse_sums(sums)

    def record(state, _):
        residual = A(state.x) - y
        return linalg.vdot(residual, rows * residual)

    run = jax.jit(lambda y, relaxation: iterate_until(sirt(A, y, relaxation), jnp.zeros((SIZE, SIZE)), -1.0, 60, record)[1])
    for relaxation in (0.5, 1.95):
        outcome = run(y, relaxation)
        assert jnp.all(jnp.diff(outcome.history) < 0) and outcome.history[-1] < 0.7 * outcome.history[0]
        assert 0.9 * relaxation / 2 < outcome.step_ratio <= relaxation / 2 * (1 + 1e-3)  # its norm is 1 at most, in double precision
    assert jnp.all((rows > 0) == (sums > 0)) if model == "joseph" else jnp.min(sums) < -0.5
    assert jnp.max(rows * jnp.abs(sums)) <= 1 + 1e-12


def test_blocks_of_data(key):
    """The data of a stack are a tuple; two scans with half the views each are the whole scan."""
    A = _matrix()
    y, x0 = A(IMAGE), jnp.zeros(SIZE**2)
    halves, pair = stack(A.views(slice(0, 7)), A.views(slice(7, None))), (y[:7], y[7:])
    for make in (lambda A, y: sirt(A, y, nonnegative=True), mlem):
        whole, parts = (_run(make, B, data, x0, 3) for B, data in ((A, y), (halves, pair)))
        assert jnp.allclose(parts, whole, rtol=0, atol=1e-12) and jnp.min(whole) >= 0 < jnp.max(whole)


def test_one_subset_is_no_subset(key):
    A, background, y = _emission(_matrix(), IMAGE)
    pairs = (
        (lambda A, y: os_sart(A, y, 1, 0.8, True), lambda A, y: sirt(A, y, 0.8, True)),
        (lambda A, y: osem(A, y, 1, background), lambda A, y: mlem(A, y, background)),
    )
    for subset, whole in pairs:
        a, b = (_run(make, A, y, jnp.ones(SIZE**2), 4) for make in (subset, whole))
        assert jnp.allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_subsets", [4, NUM_VIEWS])
def test_a_pass_visits_each_view_once(key, num_subsets):
    """The same passes by numpy on dense matrices of the views, with 14 views in 4 subsets, and in 14."""
    A, background, y = _emission(_scan() if num_subsets == 4 else _matrix(), IMAGE.reshape(SIZE, SIZE) if num_subsets == 4 else IMAGE)
    x0 = 1 + jax.random.uniform(key, (SIZE, SIZE) if num_subsets == 4 else (SIZE**2,))
    w = np.asarray(A.factors)[..., None] * np.asarray(_matrix().w)
    order = np.asarray(view_subsets(NUM_VIEWS, num_subsets)[0][:, 0])
    art, em = np.asarray(x0).ravel().copy(), np.asarray(x0).ravel().copy()
    for first in order:
        part, data = (np.asarray(a)[first::num_subsets].reshape(-1, *a.shape[2:]) for a in (w, y))
        rows, columns = part.sum(1), part.sum(0)
        residual = np.where(rows > 0, data - part @ art, 0) / np.where(rows > 0, rows, 1)
        art += 0.9 * np.where(columns > 0, part.T @ residual / np.where(columns > 0, columns, 1), 0)
        mean = part @ em + np.asarray(background)[first::num_subsets].ravel()
        em *= np.where(columns > 0, part.T @ np.where(mean > 0, data / np.where(mean > 0, mean, 1), 0) / np.where(columns > 0, columns, 1), 1)

    def first(A, y):
        return sart(A, y, 0.9) if num_subsets == NUM_VIEWS else os_sart(A, y, num_subsets, 0.9)

    for make, wanted in ((first, art), (lambda A, y: osem(A, y, num_subsets, background), em)):
        found = _run(make, A, y, x0, 1)
        assert np.allclose(np.ravel(found), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("num_views, num_subsets", [(14, 4), (180, 10), (7, 7), (5, 1), (9, 5)])
def test_view_subsets_are_a_partition(num_views, num_subsets):
    views, kept = view_subsets(num_views, num_subsets)
    assert views.shape == kept.shape == (num_subsets, -(-num_views // num_subsets))
    assert sorted(views[kept > 0]) == list(range(num_views)) and views.min() >= 0 and views.max() < num_views
    assert set(np.diff(views, axis=1)[kept[:, 1:] > 0]) <= {num_subsets}
    steps = np.abs(np.diff(views[:, 0]))
    assert num_subsets < 4 or np.minimum(steps, num_subsets - steps).min() >= num_subsets // 3 - 1  # golden: .38 of a turn from one to the next


def test_subsets_are_quicker(key):
    """One pass over 7 subsets comes nearer to consistent data than 5 steps of the whole."""
    A = _matrix()
    y, x0 = A(IMAGE), jnp.ones(SIZE**2)
    for all_at_once, subsets in ((sirt, lambda A, y: os_sart(A, y, 7)), (sirt, sart), (mlem, lambda A, y: osem(A, y, 7))):
        few, one = _run(all_at_once, A, y, x0, 5), _run(subsets, A, y, x0, 1)
        assert linalg.norm(one - IMAGE) < linalg.norm(few - IMAGE) < linalg.norm(x0 - IMAGE)


def test_mlem_is_the_constrained_maximum(key):
    """Monotone; in the limit the gradient is 0 where x is positive and points outwards where x has come to 0 (Karush, Kuhn and Tucker)."""
    rng = np.random.default_rng(5)
    w = rng.uniform(0, 0.3, (20, 8)) + 3 * np.eye(8)[np.arange(20) % 8]
    truth = np.where(np.arange(8) < 3, 0, rng.uniform(5, 20, 8))
    A, y = Dense(jnp.asarray(w)), jnp.asarray(rng.poisson(w @ truth + 1), float)

    def record(state, _):
        return _log_likelihood(A, y, 1.0, state.x)

    state, outcome = jax.jit(lambda A, y: iterate_until(mlem(A, y, 1.0), jnp.ones(8), -1.0, 3000, record))(A, y)
    history = outcome.history
    assert jnp.all(jnp.diff(history) >= -1e-13 * jnp.abs(history[0])) and history[-1] > history[0]
    slope = A.adjoint(y / (A(state.x) + 1) - 1) / A.adjoint(jnp.ones(20))
    free = state.x > 1e-6
    assert jnp.min(state.x) >= 0 and 5 <= jnp.sum(free) < 8
    assert jnp.max(jnp.abs(slope[free])) < 1e-9 and jnp.max(slope[~free]) < -1e-3


def test_mlem_keeps_the_counts_and_what_it_cannot_see(key):
    w = np.random.default_rng(2).uniform(0.1, 1, (8, 5))
    w[:, 3] = 0
    A, y = Dense(jnp.asarray(w)), jnp.asarray([3.0, 0, 1, 7, 2, 0, 4, 5])
    x0 = jnp.asarray([1.0, 0, -1, 6, 2])  # two could never change
    state = mlem(A, y).init(x0)
    level = 22 / w.sum()
    assert jnp.allclose(state.x, jnp.asarray([1, level, level, 6, 2]), rtol=1e-12)
    for _ in range(3):
        state, info = mlem(A, y).step(state)
        assert jnp.allclose(jnp.sum(A(state.x)), 22, rtol=1e-12) and state.x[3] == 6 and info.step_ratio == 0
    assert jnp.all(state.x > 0)
    dark = jnp.asarray(np.vstack([w, np.zeros(5)]))  # counts where nothing can be expected
    other = iterate(mlem(Dense(dark), jnp.append(y, 2.0)), x0.at[1:3].set(level), 3).x
    assert jnp.allclose(other, iterate(mlem(A, y), x0.at[1:3].set(level), 3).x, rtol=1e-12)
    assert jnp.all(iterate(mlem(A, 0 * y), x0, 2).x[jnp.asarray([0, 1, 2, 4])] == 0)


def test_mlem_with_the_model_that_rings(key):
    """The Fourier model, cut off below 0, comes near the image and the likelihood of Joseph's."""
    rng = np.random.default_rng(4)
    y = jnp.asarray(rng.poisson(20 * _matrix()(IMAGE)) + (rng.uniform(size=(NUM_VIEWS, NUM_DETECTORS)) < 0.05), float)  # some beside the object, too
    joseph = _run(mlem, _matrix(), y, jnp.ones(SIZE**2), 20)
    fourier = _run(mlem, _scan("fourier"), y, jnp.ones((SIZE, SIZE)), 20).ravel()
    value, other = (_log_likelihood(_matrix(), y, 1e-3, x) for x in (joseph, fourier))
    assert jnp.min(fourier) >= 0 == jnp.min(iterate(mlem(Dense(jnp.asarray([[1.0, -0.5], [0, 1]])), jnp.asarray([5.0, 0])), jnp.ones(2), 1).x)
    assert abs(value - other) < 5e-3 * abs(value)  # two models of one scan at 24 px
    assert linalg.norm(fourier - joseph) < 0.2 * linalg.norm(joseph)  # the same


def test_bad_input_is_refused(key):
    A, y = _scan(), jnp.ones((NUM_VIEWS, NUM_DETECTORS))
    for make in (lambda r: sirt(A, y, r), lambda r: sart(A, y, r), lambda r: os_sart(A, y, 2, r)):
        for relaxation in (0.0, 2.0, -1.0, float("nan")):
            with pytest.raises(ValueError, match="relaxation is .* above 0 and below 2 is needed"):
                make(relaxation)
    for num_subsets in (0, 15, 2.5):
        with pytest.raises(ValueError, match="from 1 to the 14 views"):
            osem(A, y, num_subsets)
    with pytest.raises(ValueError, match="a method views"):
        os_sart(Dense(jnp.ones((3, 3))), jnp.ones(3), 1)
    for make in (lambda y, b: mlem(A, y, b), lambda y, b: osem(A, y, 2, b)):
        with pytest.raises(ValueError, match="counts, is -1, at least 0"):
            make(-y, 0.0)
        with pytest.raises(ValueError, match="background is -0.5, at least 0"):
            make(y, -0.5)
    with pytest.raises(ValueError, match="joseph"):
        iterate(os_sart(_scan("fourier"), y, 2), jnp.zeros((SIZE, SIZE)), 1)


def test_fista_tv_holds_no_more_for_more_steps():
    """One program for 20 steps and for 200, which therefore allocates the same, fewer than a hundred images."""
    A, traces = _scan("fourier"), []

    def run(A, y, num_steps):
        traces.append(1)
        solver = fista_reconstruction(A, y, 0.1, total_variation(5.0, 10, nonnegative=True))
        return iterate(solver, jnp.zeros((SIZE, SIZE)), num_steps).x

    y, images = jnp.ones((NUM_VIEWS, NUM_DETECTORS)), 8 * SIZE**2
    compiled = jax.jit(run).lower(A, y, 20).compile()
    for num_steps in (20, 200):
        assert jnp.all(jnp.isfinite(compiled(A, y, num_steps)))
    assert len(traces) == 1
    assert compiled.memory_analysis().temp_size_in_bytes < 100 * images  # 20 vectors of the norm, the rest transforms and the prox


def test_the_ellipses_of_dival_are_measured_as_they_say():
    """30 views at the midpoints over half a turn, 183 detectors over +-90.50967, noise of .025 of the mean, from an image of 400 px."""
    path = Path(__file__).parents[1] / "benchmarks" / "ct_reconstruction.py"
    spec = importlib.util.spec_from_file_location("ct_reconstruction", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    A, fine = module.ellipses_geometry()
    for each, size in ((A, 128), (fine.outer, 400)):
        assert np.allclose(each.angles, np.pi * np.arange(1, 60, 2) / 60) and each.image_size * each.pixel_size == 128 == size * each.pixel_size
        assert each.num_detectors == 183 and np.isclose(each.num_detectors * each.detector_spacing, 2 * 90.50967) and each.detector_offset == 0
    image, y, sigma = jax.jit(module.ellipses_scan)(fine, jax.random.key(2))
    clean = jax.jit(fine.__call__)(image)
    assert jnp.min(image) == 0 and jnp.max(image) == 1
    assert jnp.allclose(sigma, 0.025 * jnp.mean(jnp.abs(clean)), rtol=1e-12)
    assert abs(jnp.std(y - clean) / sigma - 1) < 0.05  # the standard error is 1 / sqrt(2 * 5490)
    mass = jnp.sum(clean, 1) * A.detector_spacing
    assert jnp.allclose(mass, jnp.sum(image), rtol=0.02)  # sums over detectors for integrals
