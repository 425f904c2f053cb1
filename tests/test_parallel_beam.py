"""The parallel-beam geometry against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiler import FULL

from medjax.operators.algebra import scale
from medjax.operators.fbp import fbp
from medjax.operators.parallel_beam import parallel_beam
from medjax.operators.parallel_fourier import ParallelFourier
from medjax.operators.ramp_filter import WINDOWS
from medjax.phantoms.shepp_logan import shepp_logan, sinogram

X, Y, RADIUS = 21.0, -34.0, 18.0  # [mm], a disc in the lower right of a 128 mm square


def _disc(size, pixel_size, radius=RADIUS, supersample=8):
    fine = ((np.arange(size * supersample) + 0.5) / supersample - size / 2) * pixel_size
    inside = (fine[None, :] - X) ** 2 + (-fine[:, None] - Y) ** 2 <= radius**2
    return jnp.asarray(inside.reshape(size, supersample, size, supersample).mean((1, 3)))


def _chords(A):
    """Along the centre of each detector, or over its width for the model of bins."""
    fine = (np.arange(15) - 7) / 15 if isinstance(A, ParallelFourier) else np.zeros(1)
    k = (np.arange(A.num_detectors) - (A.num_detectors - 1) / 2)[:, None] + fine
    t = k * A.detector_spacing + A.detector_offset
    theta = np.asarray(A.angles)[:, None, None]
    return jnp.asarray(np.mean(2 * np.sqrt(np.maximum(RADIUS**2 - (t[None] - X * np.cos(theta) - Y * np.sin(theta)) ** 2, 0)), axis=2))


_reconstruct = jax.jit(fbp, static_argnames="window")
_apply, _adjoint = jax.jit(lambda A, x: A(x)), jax.jit(lambda A, y: A.adjoint(y))


def _relative(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


GEOMETRIES = {
    "unit": {"image_size": 128},
    "odd": {"image_size": 127, "pixel_size": 128 / 127},
    "fine_detector": {"image_size": 128, "detector_spacing": 0.4},
    "coarse_detector": {"image_size": 128, "detector_spacing": 2.7},
    "fine_pixels": {"image_size": 256, "pixel_size": 0.5},
    "offset": {"image_size": 128, "detector_offset": -7.3, "num_detectors": 200},
}


models = pytest.mark.parametrize("model", ["fourier", "joseph"])


@models
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_off_centre_disc(geometry, model):
    A = parallel_beam(angles=np.linspace(0, 2 * np.pi, 37), model=model, **geometry)
    image = _disc(A.image_size, A.pixel_size)
    # a pixel-averaged disc differs from the disc by one pixel's blur at its rim
    y = _apply(A, image)
    assert _relative(y, _chords(A)) < 0.02
    assert _relative(jnp.sum(y, 1), jnp.sum(_chords(A), 1)) < 5e-3  # the same, over whole views


@models
def test_signs_of_the_axes(model):
    A = parallel_beam(65, [0.0, np.pi / 2], model=model)
    top_right = jnp.zeros((65, 65)).at[12, 42].set(1.0)  # x = 10, y = 20
    centre = (A.num_detectors - 1) / 2
    positions = jnp.sum(_apply(A, top_right) * (jnp.arange(A.num_detectors) - centre)[None, :], 1)
    # the band-limited model rings on past the ends of the detector
    assert jnp.allclose(positions, jnp.array([10.0, 20.0]), rtol=0, atol=1e-12 if model == "joseph" else 0.1)


@models
def test_shepp_logan_sinogram(model):
    A = parallel_beam(256, np.arange(90) * np.pi / 90, 363, model=model)
    fine = (np.arange(363 * 9) + 0.5) / 9 - 363 / 2
    bins = jnp.mean(sinogram(A.angles, jnp.asarray(fine), 256).reshape(90, 363, 9), axis=2)
    assert _relative(_apply(A, shepp_logan(256).image), bins) < 0.0081  # discretisation: thin skull of 3 pixels


def test_kernel_width_is_the_accuracy():
    """Against a kernel far wider."""
    image, angles = shepp_logan(64).image, np.arange(37) * np.pi / 37
    exact = _apply(parallel_beam(64, angles, num_taps=16), image)
    for num_taps, error in ((4, 1e-3), (5, 1e-4), (6, 2e-5), (8, 4e-7)):
        assert error / 10 < _relative(_apply(parallel_beam(64, angles, num_taps=num_taps), image), exact) < error


@models
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("spacing", [0.5, 0.99, 1.0, 2.0])
def test_fbp_of_a_disc(window, spacing, model):
    A = parallel_beam(128, (np.arange(180) + 0.5) * np.pi / 180, detector_spacing=spacing, model=model)
    x = _reconstruct(A, _chords(A), window=window)
    inner, outer = _disc(128, 1.0, RADIUS - 6) == 1, _disc(128, 1.0, RADIUS + 6) == 0
    assert abs(float(jnp.mean(x[inner])) - 1) < 0.01
    assert abs(float(jnp.mean(x[outer]))) < 0.005  # streaks of 180 views and a 2 mm detector


def test_fbp_weighs_uneven_views():
    golden = np.mod(np.arange(180) * np.pi * (np.sqrt(5) - 1) / 2, np.pi)
    irregular = np.concatenate([np.arange(120) * np.pi / 240, np.pi / 2 + np.arange(60) * np.pi / 120])
    inner, outer = _disc(128, 1.0, RADIUS - 6) == 1, _disc(128, 1.0, RADIUS + 3) == 0
    for angles in (golden, irregular, np.arange(360) * np.pi / 180):
        A = parallel_beam(128, angles)
        x = _reconstruct(A, _chords(A))
        assert abs(float(jnp.mean(x[inner])) - 1) < 0.01
        assert float(jnp.mean(jnp.abs(x[outer]))) < 0.005  # streaks; equal weights leave .04 around the irregular views


def test_fbp_ignores_a_missing_wedge():
    full, limited = (parallel_beam(64, np.arange(num) * np.pi / 90) for num in (90, 45))
    y = sinogram(full.angles, jnp.arange(full.num_detectors) - (full.num_detectors - 1) / 2, 64)
    second_half = _reconstruct(full.views(jnp.arange(45, 90)), y[45:])
    both = _reconstruct(limited, y[:45]) + second_half
    assert _relative(both, _reconstruct(full, y)) < 1e-12


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("jit", [jax.jit, functools.partial(jax.jit, compiler_options=FULL)], ids=["quick", "full"])
def test_adjoint_where_rays_meet_pixel_centres(jit, spacing):
    """Compilers may compute a position twice, for index and weight: at whole numbers the two must not round to different pixels."""
    A = parallel_beam(16, np.arange(16) * np.pi / 8, detector_spacing=spacing, model="joseph")
    x, y = jax.random.normal(jax.random.key(0), (16, 16)), jax.random.normal(jax.random.key(1), (16, A.num_detectors))
    Ax, Aty = jit(lambda A, x: A(x))(A, x), jit(lambda A, y: A.adjoint(y))(A, y)
    assert abs(jnp.vdot(Ax, y) - jnp.vdot(x, Aty)) < 1e-12 * jnp.linalg.norm(Ax) * jnp.linalg.norm(y)


def test_adjoint_in_single_precision_of_what_does_not_cancel():
    """Ones on both sides: whatever rays or pixels lose by rounding adds up."""
    A = parallel_beam(512, np.arange(90) * np.pi / 90, 736, model="joseph")
    Ax, Aty = _apply(A, jnp.ones((512, 512), jnp.float32)), _adjoint(A, jnp.ones((90, 736), jnp.float32))
    gap = np.sum(Ax, dtype=float) - np.sum(Aty, dtype=float)
    assert abs(gap) < 1e-6 * np.linalg.norm(Ax) * np.sqrt(Ax.size)


@models
def test_views_is_the_rows(model):
    A = parallel_beam(32, np.linspace(0, 3, 9), model=model)
    x = jax.random.normal(jax.random.key(0), (32, 32))
    assert jnp.allclose(_apply(A.views([7, 2]), x), _apply(A, x)[jnp.array([7, 2])], rtol=0, atol=1e-12)
    assert jnp.allclose(_apply(A.views(slice(1, 4)), x), _apply(A, x)[1:4], rtol=0, atol=1e-12)


def test_refuses_wrong_geometry():
    A = parallel_beam(128, [0.0, 1.0])
    with pytest.raises(ValueError, match=r"image is \[64, 60\], the geometry says \[128, 128\]"):
        A(jnp.zeros((64, 60)))
    with pytest.raises(ValueError, match=r"sinogram is \[3, 182\], the geometry says \[2, 182\]"):
        A.adjoint(jnp.zeros((3, 182)))
    wrong_ones = ({"angles": []}, {"pixel_size": 0.0}, {"detector_spacing": -1.0}, {"image_size": 0}, {"num_detectors": 0})
    wrong_ones += ({"image_size": 8.0}, {"num_detectors": 11.5})
    for wrong in (*wrong_ones, {"pixel_size": np.nan}, {"detector_offset": np.nan}, {"angles": np.array([1j])}):
        with pytest.raises(ValueError, match="got"):
            parallel_beam(**{"image_size": 8, "angles": [0.0], **wrong})
    with pytest.raises(ValueError, match="1 angles that are not finite"):
        parallel_beam(8, [0.0, np.nan])
    for B in (A, parallel_beam(8, [0.0], model="joseph")):
        with pytest.raises(ValueError, match="at least one view"):
            B.views([])
        with pytest.raises(ValueError, match="the scan has"):
            B.views([100])
    for offset in (np.ones(8), 1j):
        with pytest.raises(ValueError, match="got detector_offset"):
            parallel_beam(8, [0.0], detector_offset=offset, model="joseph")
    with pytest.raises(ValueError, match="fbp needs an operator of parallel_beam or fan_beam, got _ViewedScaled"):
        fbp(scale(2.0, A), jnp.zeros((2, 182)))
    with pytest.raises(ValueError, match="know only"):
        fbp(A, jnp.zeros((2, 182)), scan="short")
    with pytest.raises(ValueError, match='model="joseph" is needed'):
        jax.jit(lambda angles: parallel_beam(8, angles)(jnp.ones((8, 8))))(jnp.ones(3))
    with pytest.warns(UserWarning, match=r"the detector spans -3 to 3 mm, the image's disc -4 to 4 mm: 25.0% of its rays are lost"):
        parallel_beam(8, [0.0], num_detectors=6)
    with pytest.raises(ValueError, match="hann"):
        fbp(A, jnp.zeros((2, 182)), "hanning")


@models
def test_whole_numbers_are_numbers(model):
    """A mask or a rounded sinogram is projected as the floats that it holds."""
    A = parallel_beam(12, np.arange(9) / 3, model=model)
    mask, counts = np.eye(12) > 0, np.arange(9 * A.num_detectors).reshape(9, -1)
    assert jnp.array_equal(_apply(A, mask), _apply(A, 1.0 * mask))
    assert jnp.array_equal(_adjoint(A, counts), _adjoint(A, 1.0 * counts))
    assert jnp.array_equal(_reconstruct(A, counts), _reconstruct(A, 1.0 * counts))
    assert jnp.allclose(_reconstruct(A, counts * (1 - 2j)), _reconstruct(A, counts) * (1 - 2j), rtol=0, atol=1e-12)
