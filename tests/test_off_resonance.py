"""Readouts in an inhomogeneous field: the sign, the interpolators and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows_mri import draw, in_field, nudft, points

from medjax import linalg
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.nufft import nufft
from medjax.operators.off_resonance import off_resonance
from medjax.operators.sense import sense


def test_sign_of_one_spin():
    """One spin at +25 Hz and k = 0: after 10 ms it has turned by -pi / 2, a quarter against the usual sense."""
    x = jnp.zeros((4, 4), complex).at[2, 2].set(4)
    A = off_resonance(nufft(np.zeros((3, 2)), (4, 4), 10, 2.0), jnp.full((4, 4), 25.0), np.array([0.0, 0.01, 0.02]), tolerance=1e-8)
    assert np.allclose(A(x), [1, -1j, -1], rtol=0, atol=1e-7)  # the kernel's error and the tolerance


def test_linear_field_moves_k(key):
    """df = g x / fov adds g t to kx: the sign of the field is that of a gradient."""
    k, times = points(key, (15,), (6, 8)), np.linspace(0, 0.01, 15)
    field_map = 90.0 * np.broadcast_to((np.arange(8) - 4) / 8, (6, 8))
    A = off_resonance(nufft(k, (6, 8), 10, 2.0), field_map, times, tolerance=1e-9)
    x = draw(key, (6, 8))
    moved = np.asarray(k) + np.stack([0 * times, 90 * times], -1)
    assert np.linalg.norm(A(x) - nudft(moved, x)) < 1e-8 * np.linalg.norm(A(x))  # the kernel's error


def test_free_trajectory_in_any_field(key):
    """Every sample against the sum over the object as it has turned at that sample's time, and the adjoint."""
    k, times = points(key, (12,), (6, 7)), np.linspace(0.001, 0.02, 12)
    field_map = 60 * np.sin(np.arange(42).reshape(6, 7) / 5.0)
    A, x, y = off_resonance(nufft(k, (6, 7), 10, 2.0), field_map, times, tolerance=1e-9), draw(key, (6, 7)), draw(jax.random.fold_in(key, 1), (12,))
    truth = in_field(lambda z: nudft(k, z), field_map, times, x)
    assert np.linalg.norm(A(x) - truth) < 1e-8 * np.linalg.norm(truth)  # the kernel's error
    assert abs(jnp.vdot(A(x), y) - jnp.vdot(x, A.adjoint(y))) < 1e-12 * linalg.norm(truth) * linalg.norm(y)


def test_reaches_its_tolerance_with_few_segments(key):
    """A smooth map of +-50 Hz over 30 ms, 3 turns: a handful of segments, and the error asked for."""
    down, right = np.mgrid[:16, :16] / 16
    field_map, times = 50 * np.sin(4 * down + 3 * right), np.linspace(0, 0.03, 16)[:, None]
    x = draw(key, (16, 16))
    counts = []
    for tolerance in (1e-2, 1e-4, 1e-6):
        A = off_resonance(masked_fourier(jnp.ones((16, 16))), field_map, times, tolerance=tolerance)
        truth = in_field(masked_fourier(jnp.ones((16, 16))), field_map, times * np.ones((1, 16)), x)
        assert np.linalg.norm(A(x) - truth) < 3 * tolerance * np.linalg.norm(truth)  # the histogram's bins and the image are not the mean
        counts.append(len(A.segments))
    assert counts[0] < counts[1] < counts[2] <= 14
    coarse = off_resonance(masked_fourier(jnp.ones((16, 16))), field_map, times, num_segments=2)
    assert len(coarse.segments) == 2 and np.linalg.norm(coarse(x) - truth) > 0.05 * np.linalg.norm(truth)


def test_no_field_is_the_encoding_alone(key):
    F = masked_fourier(jax.random.uniform(key, (6, 7)))
    A, x = off_resonance(F, np.zeros((6, 7)), np.linspace(0, 1, 6)[:, None]), draw(key, (6, 7))
    assert len(A.segments) == 1 and np.allclose(A(x), F(x), rtol=0, atol=1e-14)


def test_learns_the_field_map(key):
    """A traced map with a band: the gradient against that of the exact signal of every sample."""
    k, times = points(key, (20,), (4, 5)), np.linspace(0, 0.02, 20)
    field_map, x, y = 30 * jax.random.uniform(key, (4, 5)), draw(key, (4, 5)), draw(jax.random.fold_in(key, 1), (20,))
    waves = nudft(k, np.eye(20).reshape(20, 4, 5)).T

    def wanted(field_map):
        return linalg.vdot(jnp.sum(waves * jnp.exp(-2j * jnp.pi * times[:, None] * field_map.reshape(1, 20)) * x.reshape(1, 20), 1), y)

    def loss(field_map):
        A = off_resonance(nufft(k, (4, 5), 10, 2.0), field_map, times, tolerance=1e-9, band=(0.0, 30.0))
        return linalg.vdot(A(x), y)

    a, b = jax.jit(jax.grad(loss))(field_map), jax.grad(wanted)(field_map)
    assert np.linalg.norm(a - b) < 1e-6 * np.linalg.norm(b)  # a derivative of the fit loses two digits


@pytest.mark.parametrize(
    "field_map, times, options, message",
    [
        (np.zeros(4), np.zeros(4), {}, "needs a field map"),
        (np.full((4, 4), np.nan), np.zeros((4, 1)), {}, "finite field map"),
        (np.zeros((4, 4)), np.array([np.inf]), {}, "known, finite times"),
        (np.zeros((4, 4)), np.zeros((4, 1), complex), {}, "real times"),
        (np.zeros((4, 4)), np.zeros((4, 1)), {"num_segments": -1}, "num_segments >= 1"),
        (np.zeros((4, 4)), np.zeros((4, 1)), {"num_segments": 1.5}, "num_segments >= 1"),
        (np.zeros((4, 4)), np.zeros((4, 1)), {"band": (0.0, np.nan)}, "finite band"),
        (np.zeros((4, 4), complex), np.zeros((4, 1)), {"band": (-1.0, 1.0)}, "real field map"),
        (np.zeros((4, 4)), np.zeros(0), {}, "known, finite times"),
        (np.zeros((4, 5)), np.zeros((4, 1)), {}, r"got \(4, 5\): image is \[4, 5\], the mask says \[4, 4\]"),
        (np.zeros((4, 4)), np.zeros((5, 1)), {}, r"data \(4, 4\), got times of shape \(5, 1\)"),
        (np.zeros((4, 4)), np.zeros((1, 4, 4)), {}, r"data \(4, 4\), got times of shape \(1, 4, 4\)"),
    ],
)
def test_refuses_what_cannot_be(field_map, times, options, message):
    with pytest.raises(ValueError, match=message):
        off_resonance(masked_fourier(jnp.ones((4, 4))), field_map, times, **options)


def test_refuses_too_many_segments():
    with pytest.raises(ValueError, match="more than 64 segments"):
        off_resonance(nufft(np.zeros((300, 2)), (4, 4)), np.zeros((4, 4)), np.linspace(0, 1, 300), tolerance=1e-6, band=(0, 1e4))


def test_sets_of_maps_share_a_field(key):
    """Several images, one field map: each turns as it would alone."""
    maps, x, times = draw(key, (2, 3, 4, 5)), draw(key, (2, 4, 5)), np.linspace(0, 0.01, 4)[:, None]
    field_map = 40 * np.sin(np.arange(20.0).reshape(4, 5))
    both = off_resonance(sense(maps, jnp.ones((4, 5))), field_map, times)(x)
    apart = sum(off_resonance(sense(maps[s], jnp.ones((4, 5))), field_map, times)(x[s]) for s in range(2))
    assert np.allclose(both, apart, rtol=0, atol=1e-13)


def test_refuses_a_traced_map_without_a_band():
    with pytest.raises(ValueError, match="needs a band"):
        jax.jit(lambda f: off_resonance(masked_fourier(jnp.ones((4, 4))), f, np.zeros((4, 1))).field_map)(jnp.zeros((4, 4)))
