"""Contract of every functional, a row in FUNCTIONALS of `rows_functionals.py`; values by hand, proxes by peers and exact solvers."""

import functools
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, linprog, lsq_linear, minimize
from skimage.restoration import denoise_tv_chambolle

from medjax import linalg
from medjax.functionals.affine_set import affine_set
from medjax.functionals.h1 import h1
from medjax.functionals.huber import huber
from medjax.functionals.l1 import l1
from medjax.functionals.l1_ball import l1_ball
from medjax.functionals.least_squares import least_squares
from medjax.functionals.locally_low_rank import locally_low_rank
from medjax.functionals.moreau import moreau_envelope, prox_conjugate
from medjax.functionals.nonnegative import nonnegative
from medjax.functionals.nuclear_norm import nuclear_norm
from medjax.functionals.poisson_data import poisson_data
from medjax.functionals.simplex import simplex
from medjax.functionals.singular_value_threshold import singular_value_threshold
from medjax.functionals.squared_l2 import squared_l2
from medjax.functionals.tikhonov import tikhonov
from medjax.functionals.total_generalized_variation import total_generalized_variation
from medjax.functionals.total_variation import total_variation
from medjax.functionals.wavelet_l1 import wavelet_l1
from medjax.operators.algebra import identity
from medjax.operators.dense import dense
from medjax.operators.gradient import gradient
from medjax.operators.wavelet import wavelet
from medjax.typing import Functional
from tests.rows_functionals import FUNCTIONALS, REFUSED, VALUES, X

TAU, STEP = 0.7, 1e-5
members = pytest.mark.parametrize("name", FUNCTIONALS)


@functools.cache
def _functions(name):
    """`prox(batch, strength, tau)` and `value(batch)`, in one program each and numpy otherwise, which need not be compiled."""
    row = FUNCTIONALS[name]
    proxes = jax.jit(jax.vmap(lambda v, s, tau: row.make(None if row.strength is None else s).prox(v, tau)))
    values = jax.jit(jax.vmap(row.make(row.strength).value))

    def prox(batch, strength=row.strength or 0.0, tau=TAU):
        padded = np.concatenate([batch, np.repeat(batch[:1], 16 - len(batch), 0)])
        strengths = np.concatenate([np.broadcast_to(strength, len(batch)), np.full(16 - len(batch), np.max(strength))])
        return np.asarray(proxes(padded, strengths, np.full(16, tau)))[: len(batch)]

    def value(batch):
        padded = np.concatenate([batch, np.repeat(batch[:1], 120 - len(batch), 0)])
        return np.asarray(values(padded))[: len(batch)]

    return prox, value


def _draw(name, index, *batch):
    row, rng = FUNCTIONALS[name], np.random.default_rng(zlib.crc32(name.encode()) + index)
    real, imaginary = rng.normal(size=(2, *batch, *row.shape))
    return real + 1j * imaginary if row.dtype is complex else real


def _dots(a, b):
    """Real inner products over all but the first axis."""
    return np.sum(np.real(np.conj(a) * b), axis=tuple(range(1, a.ndim)))


@functools.cache
def _point(name):
    """v, its prox, and 16 points where the value is finite."""
    v = _draw(name, 0, 16)
    x = _functions(name)[0](v)
    return v[0], x[0], x


@members
def test_prox_is_never_beaten(name):
    row, (_, value), (v, x, inside) = FUNCTIONALS[name], _functions(name), _point(name)
    towards = np.stack([_draw(name, 1), v - x, *(inside[1:] - x)])
    others = x + np.geomspace(1e-5, 1, 119).reshape(-1, *(1,) * x.ndim) * np.tile(towards, (7, *(1,) * x.ndim))
    points = np.concatenate([x[None], others])
    objective = value(points) + _dots(points - v, points - v) / (2 * TAU)
    assert np.isfinite(objective[0]) and np.sum(np.isfinite(objective)) > 80
    slack = row.accuracy**2 * np.sum(np.abs(v) ** 2)  # the objective is strongly convex: the gap is quadratic in the error
    assert objective[0] <= np.min(objective[1:]) + slack + 1e-12 * abs(objective[0])


@members
def test_prox_is_firmly_nonexpansive(name):
    row, (v, x, inside) = FUNCTIONALS[name], _point(name)
    apart, moved = _draw(name, 0, 16)[1:] - v, inside[1:] - x
    assert np.all(_dots(moved, moved) <= _dots(moved, apart) + (row.accuracy + 1e-12) * _dots(apart, apart))
    assert np.all(_dots(moved, moved) > 1e-4 * _dots(apart, apart))


@members
def test_prox_of_the_conjugate_is_a_subgradient(name):
    """Moreau: v = prox_f(v) + tau y with y = prox_{f* / tau}(v / tau), and value(z) >= value(x) + <y, z - x> for all z."""
    row, (prox, value), (v, x, inside) = FUNCTIONALS[name], _functions(name), _point(name)
    y = prox_conjugate(Functional(value, lambda w, tau: prox(w[None], tau=tau)[0]))(v / TAU, 1 / TAU)
    assert np.allclose(x + TAU * y, v, rtol=0, atol=1e-12)
    spread = np.geomspace(1e-3, 10, 16).reshape(-1, *(1,) * x.ndim) * np.abs(_draw(name, 2, 16))
    z = np.concatenate([spread, inside, 0 * x[None], 2 * x[None]])  # of a norm, the last two fix the strength
    bound, found = value(x[None]) + _dots(y[None], z - x), value(z)
    assert np.sum(np.isfinite(found)) >= 16
    assert np.all(found >= bound - (10 * row.accuracy + 1e-11) * (np.linalg.norm(v) + np.abs(bound)))


@members
def test_a_step_of_zero_stays(name):
    (prox, _), (_, _, inside) = _functions(name), _point(name)
    assert np.allclose(prox(inside, tau=0.0), inside, rtol=0, atol=1e-12)


@members
def test_prox_is_differentiable(name):
    """One by one it is what it is in a batch; reverse mode equals central differences, for v and for the strength."""
    row, (prox, value), (v, x, _) = FUNCTIONALS[name], _functions(name), _point(name)
    c, d = _draw(name, 3), _draw(name, 4)
    strength = row.strength or 0.0

    def fn(v, strength):
        functional = row.make(None if row.strength is None else strength)
        x = functional.prox(v, TAU)
        return jnp.sum(jnp.real(jnp.conj(c) * x)), (x, functional.value(v))

    (slope_v, slope_strength), (alone, value_alone) = jax.jit(jax.grad(fn, (0, 1), has_aux=True))(v, strength)
    assert np.allclose(alone, x, rtol=0, atol=1e-9 + row.accuracy)
    assert np.allclose(value_alone, value(v[None])[0], rtol=1e-9 + row.accuracy, atol=1e-12)
    ends = _dots(c[None], prox(np.stack([v + STEP * d, v - STEP * d, v, v]), strength + STEP * np.array([0, 0, 1, -1])))
    wanted = (ends[0::2] - ends[1::2]) / (2 * STEP)
    found = np.array([np.sum(np.real(np.asarray(slope_v) * d)), slope_strength])
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-6)  # differences of step 1e-5 round at 1e-10 / 1e-5, more for inner solvers


@members
def test_precision_is_kept(name):
    """Strengths in double precision do not turn a single-precision image into a double one."""
    row = FUNCTIONALS[name]
    functional = row.make(None if row.strength is None else jnp.asarray(row.strength, jnp.float64))
    step = jnp.asarray(TAU, jnp.float64)
    for dtype in [jnp.float32] * row.real + [jnp.complex64] * (row.dtype is complex):
        v = jax.ShapeDtypeStruct(row.shape, dtype)
        assert jax.eval_shape(lambda v: functional.prox(v, step), v) == v
        assert jax.eval_shape(functional.value, v) == jax.ShapeDtypeStruct((), jnp.float32)


@pytest.mark.parametrize("wrong", [-1.0, float("nan")])
@pytest.mark.parametrize("name", [name for name, row in FUNCTIONALS.items() if row.strength is not None])
def test_negative_strengths_are_refused(name, wrong):
    with pytest.raises(ValueError, match=r"^[^\n]* is (-|nan)[^\n]* is needed$"):
        FUNCTIONALS[name].make(wrong)


@pytest.mark.parametrize("functional, x, value", VALUES.values(), ids=VALUES)
def test_value_by_hand(functional, x, value):
    found, slope = jax.jit(lambda x: (functional.value(x), jax.grad(functional.value)(0 * x)))(jnp.asarray(x))
    assert np.allclose(found, value, rtol=1e-12, atol=1e-12)
    assert np.all(np.isfinite(slope))  # at 0, where norms have a kink


def _prox(functional, v, tau=1.0):
    return np.asarray(jax.jit(functional.prox)(v, tau))


def _value(functional, x):
    return float(jax.jit(functional.value)(x))


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_projections_equal_an_optimiser():
    """Onto l1 ball and simplex, by sequential quadratic programming; onto equations, by least squares."""
    v = 2 * _random(7)
    radius = 0.8 * np.abs(v).sum()
    split = minimize(  # x = a - b with a, b >= 0 and sum(a + b) <= radius
        lambda z: np.sum((z[:7] - z[7:] - v) ** 2),
        np.full(14, 0.05),
        bounds=[(0, None)] * 14,
        constraints={"type": "ineq", "fun": lambda z: radius - z.sum()},
        options={"ftol": 1e-14},
    ).x
    assert np.allclose(_prox(l1_ball(radius), v), split[:7] - split[7:], rtol=0, atol=1e-6)  # stops by its own tolerance
    summed = {"type": "eq", "fun": lambda z: z.sum() - 1.5}
    wanted = minimize(lambda z: np.sum((z - v) ** 2), np.full(7, 0.2), bounds=[(0, None)] * 7, constraints=summed, options={"ftol": 1e-14}).x
    assert np.allclose(_prox(simplex(1.5), v, 1.0), wanted, rtol=0, atol=1e-6)  # stops by its own tolerance
    B, b = _random(3, 7, seed=1), _random(3, seed=2)
    B[2], b[2] = B[0] + B[1], b[0] + b[1]  # a dependent row
    assert np.allclose(_prox(affine_set(B, b), v, 1.0), v - np.linalg.lstsq(B, B @ v - b, rcond=None)[0], rtol=0, atol=1e-12)
    assert _value(affine_set(B, b), v) == jnp.inf


def test_affine_set_takes_a_traced_tolerance():
    """Its value allows 100 tolerances, and x is 3 thousandths off."""
    found = jax.jit(lambda tolerance: affine_set(identity(), X, tolerance).value(1.003 * X))
    assert found(1e-6) == jnp.inf and found(1e-4) == 0


def test_poisson_prox_is_a_root():
    """tau (1 - y / z) + z - u = 0, from rates that vanish to rates that swamp the background."""
    u = np.concatenate([-np.geomspace(1e-6, 1e6, 13), np.geomspace(1e-6, 1e6, 13)])
    for y, tau in ((0.0, 0.5), (3.0, 0.5), (40.0, 100.0), (3.0, 1e-4)):
        z = _prox(poisson_data(np.full(26, y), 0.0), u, tau)
        quadratic = functools.partial(lambda s, u, y, tau: tau * (s - y) + s * (s - u), y=y, tau=tau)
        wanted = [brentq(quadratic, 1e-14, 2e6, (a,), xtol=1e-300) if y else max(a - tau, 0) for a in u]
        assert np.allclose(z, wanted, rtol=1e-11, atol=1e-15)
        shifted = _prox(poisson_data(np.full(26, y), 2.0), u - 2, tau)
        assert np.allclose(shifted, z - 2, rtol=1e-9, atol=1e-9)


def test_nuclear_norm_equals_numpy_and_stays_differentiable():
    v = _random(4, 6) + 1j * _random(4, 6, seed=1)
    u, values, rows = np.linalg.svd(v, full_matrices=False)
    wanted = (u * np.maximum(values - 0.6, 0)) @ rows
    assert np.allclose(_prox(nuclear_norm(0.3), v, 2.0), wanted, rtol=0, atol=1e-12)
    assert np.allclose(singular_value_threshold(v.T, 0.6, by_gram=True), wanted.T, rtol=0, atol=1e-12)
    assert np.allclose(_value(nuclear_norm(0.3), v), 0.3 * values.sum(), rtol=1e-12)
    # equal and vanishing singular values, where the derivative of an SVD is not defined: prox(1.5 I) = (1.5 - t) I, and all directions turn alike
    flat = jnp.asarray(np.diag([1.5, 1.5, 1.5, 0]))
    for by_gram in (False, True):
        d = np.diag([1.0, 2.0, -1.0, 3.0])
        fn = functools.partial(singular_value_threshold, threshold=0.5, by_gram=by_gram)
        x, dx = jax.jit(lambda d: jax.jvp(fn, (flat,), (d,)))(d)  # noqa: B023
        assert np.allclose(x, flat / 1.5, rtol=0, atol=1e-7) and np.allclose(
            dx, np.diag([1.0, 2.0, -1.0, 0]), rtol=0, atol=1e-7
        )  # eigenvalues of 1e-16 have a root of 1e-8
        slope = jax.jit(jax.grad(lambda v: jnp.sum(fn(v) ** 2)))(flat)  # noqa: B023
        assert np.allclose(slope, 2 * flat / 1.5, rtol=0, atol=1e-6)  # as above


def test_locally_low_rank_blocks():
    """Block by block with numpy; a traced shift does the same as a known one."""
    v = _random(3, 7, 5) + 1j * _random(3, 7, 5, seed=1)
    wanted, total = np.zeros_like(v), 0.0
    for rows in (slice(0, 1), slice(1, 4), slice(4, 7)):  # blocks of 3 from row 1, of 2 from column 0
        for columns in (slice(0, 2), slice(2, 4), slice(4, 5)):
            block = v[:, rows, columns].reshape(3, -1)
            u, values, right = np.linalg.svd(block, full_matrices=False)
            wanted[:, rows, columns] = ((u * np.maximum(values - 0.4, 0)) @ right).reshape(v[:, rows, columns].shape)
            total += values.sum()
    functional = locally_low_rank(0.2, (3, 2), (1, 4))
    assert np.allclose(_prox(functional, v, 2.0), wanted, rtol=0, atol=1e-11) and np.allclose(_value(functional, v), 0.2 * total, rtol=1e-12)
    traced = jax.jit(lambda shift: locally_low_rank(0.2, (3, 2), (shift, shift - 1)).prox(v, 2.0))
    assert np.allclose(traced(jnp.asarray(1)), wanted, rtol=0, atol=1e-11)


def test_wavelet_l1_joins_channels_and_frees_the_coarsest():
    W, v = wavelet((8, 8), "db2", 2), _random(8, 8) + 1j * _random(8, 8, seed=1)
    channels, joined, alone = np.stack([v.real, v.imag], -1), wavelet_l1(W, 0.4, channels=True), wavelet_l1(W, 0.4)
    x = _prox(joined, channels, 2.0)
    assert np.allclose(x[..., 0] + 1j * x[..., 1], _prox(alone, v, 2.0), rtol=0, atol=1e-12)
    assert np.allclose(_value(joined, channels), _value(alone, v), rtol=1e-12)
    weights = np.full((8, 8), 0.4)
    weights[:2, :2] = 0
    free, wanted = wavelet_l1(W, 0.4, free_levels=2), wavelet_l1(W, weights)
    assert np.allclose(_prox(free, v, 2.0), _prox(wanted, v, 2.0), rtol=0, atol=1e-14) and np.allclose(_value(free, v), _value(wanted, v), rtol=1e-14)


def test_quadratic_proxes_equal_dense_solves():
    v, b, weight, tau = _random(6, 5), _random(2, 6, 5, seed=1), np.abs(_random(2, 6, 5, seed=2)), 0.9
    D = np.asarray(dense(gradient(spacing=np.array([1.0, 2.0])), (6, 5)))
    slopes = {
        "h1": (h1(0.7, np.array([1.0, 2.0])), 0.7 * np.ones(60), 0 * b),
        "tikhonov": (tikhonov(gradient(spacing=np.array([1.0, 2.0])), weight, b, 1e-12), weight.ravel(), b),
        "least_squares": (least_squares(gradient(spacing=np.array([1.0, 2.0])), b, weight**-0.5, 1e-12), weight.ravel(), b),
    }
    for functional, w, target in slopes.values():
        wanted = np.linalg.solve(np.eye(30) / tau + D.T @ (w[:, None] * D), v.ravel() / tau + D.T @ (w * target.ravel()))
        assert np.allclose(_prox(functional, v, tau), wanted.reshape(6, 5), rtol=0, atol=1e-10)
        slope = D.T @ (w * (D @ v.ravel() - target.ravel()))
        assert np.allclose(jax.jit(linalg.gradient(functional.value))(v), slope.reshape(6, 5), rtol=0, atol=1e-12)
    dead, sigma, holes, ones = np.arange(60).reshape(b.shape) % 7 == 0, np.ones(b.shape), b.copy(), np.ones(b.shape)
    sigma[dead], holes[dead], ones[dead] = np.inf, np.nan, 0
    assert np.allclose(_prox(least_squares(gradient(), holes, sigma, 1e-12), v), _prox(tikhonov(gradient(), ones, b, 1e-12), v), rtol=0, atol=1e-12)


def test_total_variation_of_a_square():
    x = jnp.zeros((10, 10)).at[3:6, 4:8].set(2.0)
    wanted = 0.5 * 2 * (2 * 3 + 2 * 4 + np.sqrt(2) - 2)  # at the lower right corner both differences share a root
    assert np.isclose(_value(total_variation(0.5), x), wanted, rtol=1e-12)
    assert np.isclose(_value(total_variation(0.5), jnp.stack([x, x], axis=-1)), np.sqrt(2) * wanted, rtol=1e-12)
    assert np.all(np.isfinite(jax.jit(jax.grad(total_variation(1.0).value))(x)))
    assert _value(total_variation(1.0, nonnegative=True), -x) == jnp.inf


@pytest.mark.parametrize("shape", [(16, 16), (5, 6, 6)])
def test_total_variation_prox_equals_scikit_image(shape):
    v = 0.3 * _random(*shape)
    v[(slice(2, 5),) * len(shape)] += 1
    x = _prox(total_variation(0.2, 5000, num_axes=len(shape), tolerance=1e-8), v, 0.5)
    reference = denoise_tv_chambolle(v, weight=0.1, eps=0, max_num_iter=16000)
    assert np.max(np.abs(x - reference)) < 1e-8  # 2e-4 after 1000 of their steps, 3e-6 after 4000


@pytest.mark.parametrize("shape", [(40,), (7, 6)])
def test_anisotropic_total_variation_prox_equals_active_sets(shape):
    """min ||v - D^T p||^2 over |p| <= radius is least squares in a box, which active sets solve exactly; in one dimension every kind is this."""
    v = _random(*shape)
    D = np.asarray(dense(gradient(len(shape)), shape))
    p = lsq_linear(D.T, v.ravel(), (-0.35, 0.35), method="bvls", tol=1e-14).x
    kind = "isotropic" if len(shape) == 1 else "anisotropic"
    x = _prox(total_variation(0.7, 20000, kind=kind, num_axes=len(shape), tolerance=1e-8), v, 0.5)
    assert np.allclose(x.ravel(), v.ravel() - D.T @ p, rtol=0, atol=1e-7)  # proven to 1e-8 ||v||


def test_total_variation_proves_its_tolerance():
    """||x - prox||^2 / 2 <= the excess of the objective <= the duality gap <= tolerance^2 ||v||^2 / 2."""
    v, value = _random(12, 12), total_variation(0.5).value
    exact = _prox(total_variation(0.5, 20000, tolerance=1e-8), v)
    for tolerance in (1e-1, 1e-2, 1e-3):
        x = _prox(total_variation(0.5, 20000, tolerance=tolerance), v)
        excess = value(x) + np.sum((x - v) ** 2) / 2 - value(exact) - np.sum((exact - v) ** 2) / 2
        assert 1e-12 < np.sum((x - exact) ** 2) / 2 <= excess <= tolerance**2 / 2 * np.sum(v**2)


def test_total_variation_prox_of_complex_images_joins_the_parts():
    v = _random(8, 8) + 1j * _random(8, 8, seed=1)
    x = _prox(total_variation(0.3), np.stack([v.real, v.imag], axis=-1))
    assert np.allclose(_prox(total_variation(0.3), v), x[..., 0] + 1j * x[..., 1], rtol=0, atol=1e-12)


def test_total_generalized_variation_value():
    down, right = np.mgrid[:9, :8]
    assert _value(total_generalized_variation(1.5), 0.3 * down - 2.0 * right + 1) < 1e-12  # affine
    bent = _value(total_generalized_variation(1.5, 0.01), 1.0 * down * right)
    assert np.isclose(bent, 1.5 * 0.01 * np.sqrt(2) * 8 * 7, rtol=1e-12)  # both mixed differences are 1 where four pixels meet
    x, d, h = 0.3 * _random(9, 8) + 0.5 * down, _random(9, 8, seed=1), 1e-4

    def fn(x, ratio):
        return total_generalized_variation(1.5, ratio, 1e-8, 20000).value(x)

    value = jax.jit(fn)
    assert 0.1 < value(x, 0.7) < 0.9 * _value(total_variation(1.5), x)
    slope, slope_ratio = jax.jit(jax.grad(fn, (0, 1)))(x, 0.7)
    assert np.allclose(
        np.sum(slope * d), (value(x + h * d, 0.7) - value(x - h * d, 0.7)) / (2 * h), rtol=1e-3
    )  # values of 40 to 1e-8, differences of 1e-4
    assert np.allclose(slope_ratio, (value(x, 0.7 + h) - value(x, 0.7 - h)) / (2 * h), rtol=1e-3)  # as above


def test_total_generalized_variation_of_a_column_is_a_linear_program():
    """min_w sum |D x - w| + r sum |D w| on 12 points: variables w and the two absolute values."""
    x, ratio = np.cumsum(np.cumsum(_random(12))), 1.3
    slope, num = np.diff(x), 11
    D = np.diff(np.eye(num), axis=0)
    one, two, none, blank = np.eye(num), np.eye(num - 1), np.zeros((num, num - 1)), np.zeros((num - 1, num))
    upper = np.block([[-one, -one, none], [one, -one, none], [D, blank, -two], [-D, blank, -two]])
    bounds = [(None, None)] * num + [(0, None)] * (2 * num - 1)
    cost = np.concatenate([np.zeros(num), np.ones(num), ratio * np.ones(num - 1)])
    wanted = linprog(cost, upper, np.concatenate([-slope, slope, np.zeros(2 * num - 2)]), bounds=bounds).fun
    both = np.stack([x, x], 1)
    assert np.allclose(_value(total_generalized_variation(1.0, ratio, 1e-8, 50000), both), 2 * wanted, rtol=1e-6)  # proven to 1e-8 TV


def test_total_generalized_variation_prox_proves_its_tolerance_and_keeps_ramps():
    down, right = np.mgrid[:12, :12] / 12
    clean = down + (right > 0.5)
    v = clean + 0.1 * _random(12, 12)
    exact = _prox(total_generalized_variation(0.15, tolerance=1e-5, max_steps=50000), v)
    for tolerance in (1e-1, 1e-2):
        error = np.linalg.norm(_prox(total_generalized_variation(0.15, tolerance=tolerance), v, 1.0) - exact) / np.linalg.norm(v)
        assert 1e-6 < error <= tolerance
    staircase = _prox(total_variation(0.15, 3000), v)
    assert np.linalg.norm(exact - clean) < 0.9 * np.linalg.norm(staircase - clean)


def test_moreau():
    """Conjugates known in closed form; the envelope of l1 is Huber's function, with its derivatives."""
    v, sigma = 3 * _random(5), 0.4
    assert np.allclose(prox_conjugate(l1(0.8))(v, sigma), np.clip(v, -0.8, 0.8), rtol=0, atol=1e-14)
    assert np.allclose(prox_conjugate(nonnegative())(v, sigma), np.minimum(v, 0), rtol=0, atol=1e-14)
    assert np.allclose(prox_conjugate(squared_l2(2.0, 1.5))(v, sigma), (v - 1.5 * sigma) / (1 + sigma / 2), rtol=0, atol=1e-14)
    fns = (lambda v, s, tau: huber(s, s * tau).value(v), lambda v, s, tau: moreau_envelope(l1(s), tau)(v))
    wanted, found = (jax.jit(jax.value_and_grad(fn, (0, 1, 2)))(v, 0.8, sigma) for fn in fns)
    assert np.allclose(found[0], wanted[0], rtol=1e-14)
    assert all(np.allclose(a, b, rtol=1e-13) for a, b in zip(found[1], wanted[1], strict=True))
    functional, x = total_variation(0.5, 2000, tolerance=1e-8), _random(5, 4)
    slope = jax.jit(jax.grad(moreau_envelope(functional, sigma)))(x)
    assert np.allclose(slope, (x - _prox(functional, x, sigma)) / sigma, rtol=0, atol=1e-12)


def test_bad_input_is_refused_in_one_line():
    for make, message in REFUSED.items():
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            make()
