"""The fan-beam geometry and its filtered backprojection against closed forms."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.operators.fan_beam import fan_beam
from medjax.operators.fan_fbp import fan_fbp
from medjax.operators.fbp import fbp
from medjax.operators.parallel_beam import parallel_beam
from medjax.operators.ramp_filter import WINDOWS
from medjax.operators.redundancy_weights import redundancy_weights

SIZE, X, Y, RADIUS = 64, 10.0, -15.0, 9.0  # [mm], a disc in the lower right
C = np.arange(SIZE) - (SIZE - 1) / 2
DISTANCE = np.hypot(C[None, :] - X, -C[:, None] - Y)
INNER, OUTER = DISTANCE < RADIUS - 4, (DISTANCE > RADIUS + 4) & (np.hypot(C[None, :], C[:, None]) < 30)
TURN = np.arange(180) * np.pi / 90

_apply = jax.jit(lambda A, x: A(x))
_adjoint = jax.jit(lambda A, y: A.adjoint(y))
_reconstruct = jax.jit(fan_fbp, static_argnames=("window", "scan"))


def _fan(angles=TURN, **geometry):
    return fan_beam(SIZE, angles, **{"source_distance": 120.0, "detector_distance": 80.0, "model": "joseph", **geometry})


def _disc(supersample=8):
    fine = (np.arange(SIZE * supersample) + 0.5) / supersample - SIZE / 2
    inside = (fine[None, :] - X) ** 2 + (-fine[:, None] - Y) ** 2 <= RADIUS**2
    return jnp.asarray(inside.reshape(SIZE, supersample, SIZE, supersample).mean((1, 3)))


def _chords(A):
    s = np.asarray(A.positions(jnp.float64))
    gamma = np.arctan(s / A.source_to_detector) if A.detector == "flat" else s / A.source_to_detector
    theta, t = np.asarray(A.angles)[:, None] + gamma[None, :], A.source_distance * np.sin(gamma)[None, :]
    return jnp.asarray(2 * np.sqrt(np.maximum(RADIUS**2 - (t - X * np.cos(theta) - Y * np.sin(theta)) ** 2, 0)))


def _relative(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


GEOMETRIES = {
    "flat": {},
    "curved": {"detector": "curved"},
    "near": {"source_distance": 60.0, "detector_distance": 0.0, "detector_spacing": 0.5},
    "offset": {"detector_offset": -9.3, "num_detectors": 150},
}


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_off_centre_disc(geometry):
    A = _fan(np.linspace(0, 2 * np.pi, 37), **geometry)
    y = _apply(A, _disc())
    assert _relative(y, _chords(A)) < 0.03  # a pixel-averaged disc differs from the disc by one pixel's blur at its rim
    assert _relative(jnp.sum(y, 1), jnp.sum(_chords(A), 1)) < 5e-3  # the same, over whole views


@pytest.mark.parametrize("detector", ["flat", "curved"])
def test_signs_of_the_axes(detector):
    A = fan_beam(65, [0.0, np.pi / 2], 100.0, 50.0, detector=detector, model="joseph")
    top_right = jnp.zeros((65, 65)).at[12, 42].set(1.0)  # x = 10, y = 20
    y = _apply(A, top_right)
    positions = jnp.sum(y * A.positions(y.dtype)[None, :], 1) / jnp.sum(y, 1)
    tangent = np.array([10 / (100 - 20), 20 / (100 + 10)])  # the source is at (0, 100), then at (-100, 0)
    expected = 150 * (tangent if detector == "flat" else np.arctan(tangent))
    assert jnp.allclose(positions, expected, rtol=0, atol=0.1)  # the pixel's shadow is 1.7 detectors wide


def test_far_source_is_parallel():
    angles = np.linspace(0, 6, 13)
    x = jax.random.normal(jax.random.key(0), (32, 32))
    for detector in ("flat", "curved"):
        far = fan_beam(32, angles, 1e9, 0.0, 50, 0.9, detector_offset=0.4, detector=detector, model="joseph")
        parallel = parallel_beam(32, angles, 50, 0.9, detector_offset=0.4, model="joseph")
        assert _relative(_apply(far, x), _apply(parallel, x)) < 1e-6  # 1 / 1e9 by a slope of 20


def test_views_is_the_rows():
    A = _fan(np.linspace(0, 3, 9))
    x = jax.random.normal(jax.random.key(0), (SIZE, SIZE))
    y = _apply(A, x)
    assert jnp.allclose(_apply(A.views([7, 2]), x), y[jnp.array([7, 2])], rtol=0, atol=1e-11)
    assert jnp.allclose(_apply(A.views(slice(1, 4)), x), y[1:4], rtol=0, atol=1e-11)


@pytest.mark.parametrize("detector", ["flat", "curved"])
def test_adjoint_next_to_the_source(detector):
    """Some pixels lie under the rays of dozens of detectors, others under one."""
    A = fan_beam(16, np.linspace(0, 6, 11), 12.0, 10.0, 90, 0.6, detector_offset=0.1, detector=detector, model="joseph")
    x, y = jax.random.normal(jax.random.key(0), (16, 16)), jax.random.normal(jax.random.key(1), (11, 90))
    gap = jnp.vdot(_apply(A, x), y) - jnp.vdot(x, _adjoint(A, y))
    assert abs(gap) < 1e-12 * jnp.linalg.norm(_apply(A, x)) * jnp.linalg.norm(y)


SCANS = {
    "full": (TURN, "full", {}),
    "unordered": (np.random.default_rng(0).permutation(TURN), "full", {}),
    "short": (0.7 + TURN[:106], "short", {}),  # pi and the fan of the image's disc
    "over": (0.7 + TURN[:140], "short", {}),
    "offset": (TURN, "offset", {"num_detectors": 75, "detector_offset": 20.0}),
    "offset_left": (TURN, "offset", {"num_detectors": 75, "detector_offset": -20.0}),
}


@pytest.mark.parametrize("detector", ["flat", "curved"])
@pytest.mark.parametrize("scan", SCANS)
def test_filtered_backprojection_of_a_disc(scan, detector):
    angles, weights, geometry = SCANS[scan]
    A = _fan(angles, detector=detector, **geometry)
    x = _reconstruct(A, _chords(A), scan=weights)
    assert abs(float(jnp.mean(x[INNER])) - 1) < 2e-3
    assert abs(float(jnp.mean(x[OUTER]))) < 2e-3 and float(jnp.std(x[OUTER])) < 0.02  # streaks of 180 views in a turn


@pytest.mark.parametrize("detector", ["flat", "curved"])
def test_filtered_backprojection_of_a_wide_fan(detector):
    """Fan angles up to 60 degrees, where a curved detector's ramp differs by a third at the largest lags."""
    A = _fan(np.arange(360) * np.pi / 180, source_distance=50.0, detector_distance=0.0, detector_spacing=0.7, detector=detector)
    x = _reconstruct(A, _chords(A))
    assert abs(float(jnp.mean(x[INNER])) - 1) < 1e-3
    assert abs(float(jnp.mean(x[OUTER]))) < 1e-4


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("spacing", [0.6, 3.0])
def test_windows(window, spacing):
    A = _fan(detector_spacing=spacing)
    x = _reconstruct(A, _chords(A), window=window)
    assert abs(float(jnp.mean(x[INNER])) - 1) < 0.005  # a detector of 3 mm sees the disc with 10 rays
    assert abs(float(jnp.mean(x[OUTER]))) < 0.002


@pytest.mark.parametrize("turns", [106, 150, 179])
def test_weights_of_opposite_rays_sum_to_one(turns):
    angles = 0.3 + np.arange(turns * 20) * np.pi / 90 / 20
    gamma = jnp.linspace(-0.26, 0.26, 9)
    weights = np.asarray(redundancy_weights(jnp.asarray(angles), gamma, "short")) / np.diff(angles)[0]
    assert weights.min() >= 0 and weights.max() <= 1 + 1e-12
    for k in range(9):
        opposite = angles + np.pi + 2 * float(gamma[k])
        there = (opposite >= angles[0]) & (opposite <= angles[-1])
        other = np.interp(opposite[there], angles, weights[:, 8 - k])
        assert np.abs(weights[there, k] + other - 1).max() < 1e-3  # linear interpolation between views of .1 degrees
        once = (opposite > angles[-1] + 0.01) & (angles - np.pi + 2 * float(gamma[k]) < angles[0] - 0.01)
        assert np.abs(weights[once, k] - 1).max(initial=0) < 1e-12


def test_short_scan_may_pass_a_full_turn():
    """Scanners give angles modulo a turn, and in any order."""
    angles, gamma = 5 + np.arange(150) * (np.pi + 1) / 150, jnp.linspace(-0.4, 0.4, 9)
    order = np.random.default_rng(0).permutation(150)
    straight = redundancy_weights(jnp.asarray(angles), gamma, "short")
    folded = redundancy_weights(jnp.asarray(angles[order] % (2 * np.pi)), gamma, "short")
    assert jnp.allclose(folded, straight[order], rtol=0, atol=1e-12)
    with pytest.warns(UserWarning, match="span 2.094 rad"):
        A = _fan((TURN[:60] + 5) % (2 * np.pi))
        fan_fbp(A, jnp.zeros((60, A.num_detectors)), scan="short")


def test_offset_weights_of_opposite_rays_sum_to_one():
    gamma = (np.arange(30) - 9.5) * 0.01
    weights = np.asarray(redundancy_weights(jnp.asarray(TURN), jnp.asarray(gamma), "offset")) / (np.pi / 90)
    assert np.allclose(weights[:, :20] + weights[:, 19::-1], 1, rtol=0, atol=1e-12)
    assert np.allclose(weights[:, 20:], 1, rtol=0, atol=1e-12)
    assert np.allclose(np.sum(np.asarray(redundancy_weights(jnp.asarray(TURN), jnp.asarray(gamma))), 0), np.pi)


def test_filtered_backprojection_is_differentiable():
    A = _fan(TURN[::6], num_detectors=60, detector_spacing=2.0)
    y = _chords(A)

    def loss(offset, y):
        moved = fan_beam(SIZE, TURN[::6], 120.0, 80.0, 60, 2.0, detector_offset=offset, model="joseph")
        return jnp.sum(fan_fbp(moved, y) ** 2)

    slope, loss = jax.jit(jax.grad(loss))(0.3, y), jax.jit(loss)
    assert abs(slope - (loss(0.3 + 1e-5, y) - loss(0.3 - 1e-5, y)) / 2e-5) < 1e-4 * abs(slope)  # kinks of the interpolation
    step = jax.random.normal(jax.random.key(1), y.shape)
    moved = jax.jit(lambda y, step: jax.jvp(lambda y: fan_fbp(A, y), (y,), (step,))[1])(y, step)
    assert _relative(moved, _reconstruct(A, step)) < 1e-12


@pytest.mark.parametrize("model", ["fourier", "joseph"])
def test_is_built_of_known_values_inside_jit(model):
    """The filtered backprojection of a short scan, too, asks for values there."""
    angles = np.arange(40) * 0.1
    y = jnp.ones((40, fan_beam(16, angles, 60.0, 30.0, model="joseph").num_detectors))
    there = jax.jit(lambda y: fbp(fan_beam(16, angles, 60.0, 30.0, model=model), y, scan="short"))(y)
    assert jnp.allclose(there, fbp(fan_beam(16, angles, 60.0, 30.0, model=model), y, scan="short"), rtol=0, atol=1e-12)


def test_warns_of_a_small_detector():
    seen = 120 * np.sin(np.arctan(25 / 200)) / 32
    with pytest.warns(UserWarning) as caught:
        A = _fan(num_detectors=50)
    assert len(caught) == 1 and f"{100 * (1 - seen**2):.3g} % of the image's inscribed disc" in str(caught[0].message)
    assert A.num_detectors == 50  # warned of, and built as it was asked for
    with pytest.warns(UserWarning) as caught:
        _fan(num_detectors=100, detector_offset=60.0)  # the isocentre is off the detector
    assert len(caught) == 1 and "rays are missing" in str(caught[0].message)
    with warnings.catch_warnings(record=True) as silent:
        _fan(num_detectors=75, detector_offset=20.0)
    assert not silent


def test_warns_of_a_short_arc():
    A = _fan(TURN[:60])
    with pytest.warns(UserWarning) as caught:
        fan_fbp(A, jnp.zeros((60, A.num_detectors)), scan="short")
    assert len(caught) == 1 and "span 2.094 rad, a short scan of this image needs 3.68" in str(caught[0].message)


def test_refuses_wrong_geometry():
    A = _fan([0.0, 1.0])
    with pytest.raises(ValueError, match=r"image is \[64, 60\], the geometry says \[64, 64\]"):
        A(jnp.zeros((64, 60)))
    with pytest.raises(ValueError, match=r"sinogram is \[3, 5\], the geometry says \[2,"):
        A.adjoint(jnp.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"source_distance 40.0, inside the image, whose circle has a radius of 45.5"):
        _fan(source_distance=40.0)
    wrongs = ({"angles": []}, {"angles": [0.0, np.nan]}, {"pixel_size": 0.0}, {"detector_spacing": -1.0}, {"detector_distance": -1.0})
    wrongs += ({"num_detectors": 0}, {"num_detectors": 63.5}, {"detector_offset": np.nan}, {"detector_offset": [1.0, 2.0]}, {"detector_offset": 1j})
    wrongs += ({"model": "fourier", "num_taps": 50},)
    for wrong in (*wrongs, {"detector": "round"}, {"source_distance": np.inf}):
        with pytest.raises(ValueError, match="got"):
            _fan(**{"angles": [0.0], **wrong})
    with pytest.raises(ValueError, match="at least one view"):
        A.views([])
    y = jnp.zeros((2, A.num_detectors))
    for wrong in ({"window": "hanning"}, {"cutoff": 0.0}, {"scan": "half"}):
        with pytest.raises(ValueError, match="got"):
            fan_fbp(A, y, **wrong)
    with pytest.raises(ValueError, match="does not see the isocentre"), pytest.warns(UserWarning, match="too small"):
        B = _fan([0.0, 1.0], num_detectors=30, detector_offset=50.0)
        fan_fbp(B, jnp.zeros((2, 30)), scan="offset")
