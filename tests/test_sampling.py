"""Where k-space is sampled, and when: Poisson disc, spokes, spirals, EPI."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.operators.uniform_views import uniform_views
from medjax.physics.echo_planar import echo_planar
from medjax.physics.epi import epi
from medjax.physics.golden_angle import golden_angle
from medjax.physics.poisson_disc import poisson_disc
from medjax.physics.radial import radial
from medjax.physics.radial_spokes import radial_spokes
from medjax.physics.spiral import spiral
from medjax.physics.spiral_waveform import spiral_waveform


def closest(mask, slope, calibration):
    """Smallest |k - k'| / max(rho, rho') over pairs of samples outside the calibration block."""
    h, w = mask.shape
    outside = np.asarray(mask).copy()
    outside[h // 2 - calibration // 2 :, w // 2 - calibration // 2 :][:calibration, :calibration] = 0
    points = np.argwhere(outside)
    rho = 1 + slope * np.minimum(np.hypot(2 * (points[:, 0] - h // 2) / h, 2 * (points[:, 1] - w // 2) / w), 1)
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(len(points))
    return (distance / np.maximum(rho[:, None], rho[None])).min()


@pytest.mark.parametrize("shape, acceleration, slope", [((48, 48), 4, 2.0), ((45, 64), 8, 2.0), ((64, 51), 12.5, 0.0), ((48, 48), 8, 6.0)])
def test_poisson_disc_keeps_its_distance(key, shape, acceleration, slope):
    """Exact number; full calibration block; a random mask of the same density has neighbours at distance 1, this one none within the discs."""
    mask = np.asarray(poisson_disc(key, shape, acceleration, calibration=(8, 8), slope=slope))
    assert mask.sum() == round(shape[0] * shape[1] / acceleration) and set(np.unique(mask)) == {0, 1}
    assert mask[shape[0] // 2 - 4 :, shape[1] // 2 - 4 :][:8, :8].all()
    y, x = np.ogrid[-(shape[0] // 2) : shape[0] - shape[0] // 2, -(shape[1] // 2) : shape[1] - shape[1] // 2]
    rho = 1 + slope * np.minimum(np.hypot(2 * y / shape[0], 2 * x / shape[1]), 1)
    # discs of diameter s rho thrown at random until none fits cover .547 of the plane; a grid and a random excess cost some
    jammed = np.sqrt(0.547 * 4 / np.pi * (1 / rho**2).sum() / (mask.sum() - 64))
    assert closest(mask, slope, 8) > 0.65 * jammed
    regular = np.asarray(poisson_disc(key, shape, acceleration, calibration=(8, 8), slope=slope, jitter=0.0))
    assert closest(regular, slope, 8) > 0.75 * jammed


def test_poisson_disc_asks_the_larger_radius():
    """Where radii change fast the scale reached is .233 to .241 over these seeds; with the smaller of two radii it is .214 to .223."""
    masks = [poisson_disc(jax.random.key(i), (48, 48), 12, (8, 8), slope=20.0, jitter=0.0) for i in range(4)]
    assert min(closest(mask, 20.0, 8) for mask in masks) > 0.228


def test_poisson_disc_density(key):
    """It falls outwards like rho^-2, up to what a grid allows; a key gives one mask, another key another."""
    masks = np.mean([poisson_disc(k, (64, 64), 6, calibration=(4, 4), slope=3.0) for k in jax.random.split(key, 12)], axis=0)
    y, x = np.mgrid[-32:32, -32:32] / 32
    kappa = np.hypot(y, x)
    rings = [masks[(kappa > a) & (kappa < a + 0.15)].mean() for a in (0.3, 0.6, 0.85)]
    expected = [((1 + 3 * np.minimum(kappa, 1)) ** -2.0)[(kappa > a) & (kappa < a + 0.15)].mean() for a in (0.3, 0.6, 0.85)]
    ratio = np.array(rings) / expected
    assert np.abs(ratio / ratio.mean() - 1).max() < 0.2  # distances of a grid come in steps
    one, again, other = (poisson_disc(k, (32, 32), 4, (4, 4)) for k in (key, key, jax.random.fold_in(key, 1)))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert np.all(np.asarray(poisson_disc(key, (64, 64), 6, (4, 4), corners=False))[kappa > 1] == 0)
    assert np.all(np.asarray(poisson_disc(key, (16, 16), 1, (0, 0))) == 1)


def test_radial_by_hand():
    k = np.asarray(radial(4, 8, 16))
    assert np.allclose(k[0], [(0, 2 * j - 8) for j in range(8)], atol=1e-14)
    assert np.allclose(k[2], [(2 * j - 8, 0) for j in range(8)], atol=1e-14)
    assert np.allclose(k[1], [((2 * j - 8) / np.sqrt(2),) * 2 for j in range(8)], atol=1e-14)
    odd = radial(3, 7, 14, first_angle=0.3)
    assert np.array_equal(odd[:, 3], np.zeros((3, 2))) and np.isclose(np.linalg.norm(odd[1, 0]), 6)


def test_radial_is_differentiable(key):
    """d k / d theta is k turned by 90 degrees."""
    angles = jax.random.uniform(key, (3,))
    tangent = jax.jvp(lambda a: radial_spokes(a, 6, 12), (angles,), (jnp.ones(3),))[1]
    k = radial_spokes(angles, 6, 12)
    assert np.allclose(tangent, np.stack([k[..., 1], -k[..., 0]], axis=-1), rtol=0, atol=1e-14)
    assert radial_spokes(angles.astype(jnp.float32), 6, 12).dtype == jnp.float32


@pytest.mark.parametrize("tiny, degrees", [(1, 111.246), (2, 68.754), (7, 23.628)])
def test_golden_angles(tiny, degrees):
    """The published angles; after a Fibonacci-like number of spokes the gaps take two lengths, of ratio at most the golden one squared."""
    k = np.asarray(golden_angle(5, 8, 16, tiny=tiny))
    angle = np.arctan2(k[:, -1, 0], k[:, -1, 1])
    assert np.allclose(np.exp(1j * np.diff(angle)), np.exp(1j * np.deg2rad(degrees)), atol=1e-4)  # of the printed digits
    for num, first in ((21, 0), (34, 1000), (50, 7)):
        spokes = np.asarray(golden_angle(num, 4, 8, tiny=tiny, first_spoke=first))
        sorted_angles = np.sort(np.arctan2(spokes[:, -1, 0], spokes[:, -1, 1]) % np.pi)
        gaps = np.diff(np.append(sorted_angles, sorted_angles[0] + np.pi))
        assert gaps.max() / gaps.min() < 2.7 and np.isclose(gaps.sum(), np.pi)


@pytest.mark.parametrize("first", [100_000, 2_000_000_000, -7])
@pytest.mark.parametrize("tiny", [1, 7])
def test_late_golden_angles_keep_their_digits_in_single_precision(tiny, first):
    """Against double precision, which errs by 2e9 rounded to 2e-16 of itself."""
    turns = (np.arange(first, first + 3) / ((1 + np.sqrt(5)) / 2 + tiny - 1)) % 2
    for index in (first, jnp.int32(first)):
        with jax.enable_x64(False):
            k = golden_angle(3, 2, 2, tiny=tiny, first_spoke=index)
        assert k.dtype == jnp.float32
        error = np.asarray(k[:, 0, 1] + 1j * k[:, 0, 0]) * np.exp(-1j * np.pi * turns) + 1
        assert np.abs(error).max() < 1.5e-6  # float32 of an angle up to 2 pi, and of the 2e9 turns before it


def test_spiral_is_archimedean_and_differentiable():
    k = np.asarray(spiral(3, 200, 32, num_turns=6.0))
    radius, angle = np.linalg.norm(k, axis=-1), np.unwrap(np.arctan2(k[..., 0], k[..., 1])[:, 1:], axis=1)
    assert np.allclose(radius[0, 1:] / 16, (angle[0] - angle[0, 0]) / (2 * np.pi * 6) + radius[0, 1] / 16, rtol=1e-12)
    assert np.isclose(radius.max(), 16) and np.array_equal(k[:, 0], np.zeros((3, 2)))
    assert np.allclose(np.exp(1j * (angle[1] - angle[0])), np.exp(2j * np.pi / 3))
    steps = np.linalg.norm(np.diff(k[0], axis=0), axis=-1)
    assert steps[60:].max() / steps[60:].min() < 1.02
    u = np.arange(200) / 199
    squared = spiral(1, 200, 32, num_turns=6.0, power=2.0, timing=1.0, first_angle=0.1)[0]
    wanted = 16 * u**2 * np.exp(1j * (0.1 + 12 * np.pi * u))
    assert np.allclose(squared[:, 1] + 1j * squared[:, 0], wanted, rtol=0, atol=1e-12)
    point = jnp.array([6.0, 1.4, 0.6, 0.2])
    f = jax.jit(lambda p: spiral(2, 20, 32, *p[:1], power=p[1], timing=p[2], first_angle=p[3]))
    jacobian = jax.jacfwd(f)(point)
    for i in range(4):
        step = jnp.zeros(4).at[i].set(1e-6)
        assert np.allclose(jacobian[..., i], (f(point + step) - f(point - step)) / 2e-6, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"num_interleaves": 16},
        {"num_interleaves": 2, "max_gradient": 10.0},
        {"num_interleaves": 8, "density": (1.0, -0.7)},
        {"num_interleaves": 4, "density": (1.0, 1.0, -1.5), "max_slew": 60.0},
    ],
)
def test_spiral_waveform_keeps_to_the_limits(options):
    """Numerical derivatives of the samples; one limit is always met; the turns are as far apart as the field of view asks."""
    size, fov, dt = 64, 0.24, 4e-6
    trajectory, times = spiral_waveform(size, 240.0, **options)
    limits = {"max_gradient": 40.0, "max_slew": 150.0, "density": (1.0,), **options}
    k = np.asarray(trajectory[0]) / fov
    assert np.array_equal(k[0], [0, 0]) and size / 2 - 1.01 < np.linalg.norm(trajectory[0, -1]) < size / 2
    assert np.allclose(np.diff(times), dt) and times[0] == 0
    gradient = np.diff(k, axis=0) / dt / 42.577478518e6
    slew = np.linalg.norm(np.diff(gradient, axis=0), axis=1) / dt
    speed = np.linalg.norm(gradient, axis=1) * 1e3
    radius = np.linalg.norm(k, axis=1) * 2 * fov / size
    field = fov * np.polyval(limits["density"][::-1], radius)
    fastest = np.minimum(limits["max_gradient"], 1e3 / (42.577478518e6 * field[:-1] * dt))
    assert np.all(speed <= 1.002 * fastest) and slew.max() <= 1.002 * limits["max_slew"]
    # at every instant one of the limits is reached (the first samples are differences over a start from rest)
    assert np.all((speed[1:] > 0.98 * fastest[1:]) | (slew > 0.98 * limits["max_slew"]) | (np.arange(len(slew)) < 3))
    angle = np.unwrap(np.arctan2(k[1:, 0], k[1:, 1]))
    middle = 0.5 * (field[2:] + field[1:-1])
    pitch = 2 * np.pi * np.diff(np.linalg.norm(k[1:], axis=1)) / np.diff(angle)
    assert np.allclose(pitch[20:] * middle[20:], options["num_interleaves"], rtol=1e-3)  # of finite differences


def test_spiral_waveform_interleaves_are_turned_copies():
    k, _ = spiral_waveform(32, 240.0, 3)
    z = np.asarray(k[..., 1] + 1j * k[..., 0])
    assert np.allclose(z[1:], z[0] * np.exp(2j * np.pi * np.arange(1, 3) / 3)[:, None], atol=1e-12)


def test_epi_by_hand():
    """4 x 6, one shot, 1 ms a sample: up column 0, down column 1, ...; k = 0, in column 3 and so read downwards, is the fourteenth sample."""
    mask, times = epi((4, 6), 4e-3, echo_time=30e-3)
    order = np.array([[4 * c + (r if c % 2 == 0 else 3 - r) for c in range(6)] for r in range(4)])
    assert np.all(mask == 1) and order[2, 3] == 13
    assert np.allclose(times, 30e-3 + (order - 13) * 1e-3, rtol=0, atol=1e-15)


@pytest.mark.parametrize("shape", [(8, 12), (7, 12)])
def test_echo_planar_is_in_order_of_time(shape):
    """Samples follow each other at one dwell time, on the grid, each once; k = 0 at the echo time."""
    k, times = echo_planar(shape, 1e-3, num_shots=1, echo_time=0.02)
    t = np.asarray(times).ravel()
    assert np.allclose(np.diff(t), 1e-3 / shape[0], rtol=1e-9)
    flat = np.asarray(k).reshape(-1, 2)
    assert len({tuple(p) for p in np.round(flat, 9)}) == shape[0] * shape[1]
    assert np.isclose(t[np.flatnonzero(np.abs(flat).sum(1) < 1e-9)[0]], 0.02, rtol=1e-12)
    steps = np.linalg.norm(np.diff(flat, axis=0), axis=1)
    assert np.allclose(steps, 1, atol=1e-12)


def test_epi_of_shots():
    """Every second line of 16, two shots, partial Fourier; with shifted echoes time grows evenly along the lines."""
    mask, times = epi((4, 16), 1e-3, acceleration=2, num_shots=2, partial_fourier=0.75)
    read = np.flatnonzero(np.asarray(mask)[0])
    assert np.array_equal(read, [4, 6, 8, 10, 12, 14]) and np.all(np.asarray(mask) == np.asarray(mask)[:1])
    # against the middle echo, which is read downwards, the others pass the middle row one sample later
    later = np.repeat([0.25e-3, 0, 0.25e-3], 2)
    assert np.allclose(np.asarray(times)[2, read], (np.arange(6) - 2) * 0.5e-3 + later, atol=1e-15)
    plain = epi((4, 16), 1e-3, acceleration=2, num_shots=2, partial_fourier=0.75, shift_echoes=False)[1]
    assert np.allclose(np.asarray(plain)[2, read], np.repeat([-1, 0, 1], 2) * 1e-3 + later, atol=1e-15)
    slope = jax.jvp(lambda spacing: epi((4, 16), spacing)[1], (1e-3,), (1.0,))[1]
    assert np.allclose(slope * 1e-3, epi((4, 16), 1e-3)[1], atol=1e-15)


def test_ramps_sample_a_trapezoid():
    """Second differences of k in time are the slope of the gradient on the ramps, and 0 on the plateau; the line spans h."""
    k, _ = echo_planar((32, 4), 1e-3, num_samples=1000, ramp_time=2e-4)
    line = np.asarray(k)[0, 0, :, 0]
    plateau = 32 / 0.8 / 1000
    assert np.allclose(np.diff(line)[220:780], plateau, rtol=1e-9)
    assert np.allclose(np.diff(line, 2)[5:190], plateau / 200, rtol=1e-6) and np.allclose(np.diff(line, 2)[805:990], -plateau / 200, rtol=1e-6)
    assert np.isclose(line[0], -16) and line[500] == 0 and abs(line[-1] - 16) < plateau
    assert np.allclose(np.asarray(k)[0, 1, :, 0], line[::-1])
    assert np.all(jnp.isfinite(jax.jacfwd(lambda r: echo_planar((8, 4), 1e-3, ramp_time=r)[0])(1e-4)))


@pytest.mark.parametrize(
    "build",
    [
        lambda key: poisson_disc(key, (32, 32), 0.5),
        lambda key: poisson_disc(key, (32, 32), 4, slope=-1.0),
        lambda key: poisson_disc(key, (32, 32), 4),
        lambda key: poisson_disc(key, (32, 32), 1.05, (4, 4), corners=False),
        lambda key: radial(0, 8, 8),
        lambda key: radial_spokes(jnp.ones((2, 2)), 8, 8),
        lambda key: golden_angle(4, 8, 8, tiny=0),
        lambda key: golden_angle(4, 8, 8, first_spoke=0.5),
        lambda key: golden_angle(4, 8, 8, tiny=1.5),
        lambda key: golden_angle(3.5, 8, 8),
        lambda key: radial(3.5, 8, 8),
        lambda key: radial(3, 8.5, 8),
        lambda key: radial(3, 8, 8, first_angle=np.nan),
        lambda key: spiral(1.5, 8, 8, 4),
        lambda key: spiral(1, 8, 8, 4, first_angle=np.nan),
        lambda key: uniform_views(4, np.nan),
        lambda key: uniform_views(4, 0.0, np.nan),
        lambda key: uniform_views(3.5),
        lambda key: epi((8, 8), 0.0),
        lambda key: epi((8, 8), np.nan),
        lambda key: epi((8, 8), -1e-3),
        lambda key: epi((8, 8), 1e-3, acceleration=np.nan),
        lambda key: epi((8, 8), 1e-3, num_shots=0.5),
        lambda key: epi((8, 8), 1e-3, echo_time=np.nan),
        lambda key: spiral(1, 1, 8, 4),
        lambda key: spiral_waveform(64, 240.0, 0),
        lambda key: spiral_waveform(64, 240.0, 8, density=(1.0, -1.2)),
        lambda key: echo_planar((8, 8), 1e-3, acceleration=0),
        lambda key: echo_planar((8, 8), 1e-3, num_shots=3),
        lambda key: echo_planar((8, 8), 1e-3, partial_fourier=0.4),
        lambda key: echo_planar((8, 8), 1e-3, ramp_time=0.5e-3),
    ],
)
def test_refuses_what_cannot_be(key, build):
    with pytest.raises(ValueError, match="needs"):
        build(key)


def test_poisson_disc_says_that_it_cannot_be_traced(key):
    with pytest.raises(TypeError, match="not traced"):
        jax.jit(lambda k: poisson_disc(k, (32, 32), 4, (4, 4)))(key)
