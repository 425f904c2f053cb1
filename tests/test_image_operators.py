"""Blur, decimation, wavelets, gradient and warp against peers and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, signal
from skimage import restoration
from skimage.restoration import uft

from medjax import lanczos
from medjax.operators.blur import blur
from medjax.operators.downsample import downsample
from medjax.operators.gaussian_kernel import gaussian_kernel
from medjax.operators.gradient import gradient
from medjax.operators.inpaint import inpaint
from medjax.operators.warp import warp
from medjax.operators.wavelet import wavelet
from medjax.operators.wiener import wiener


def _close(a, b, tolerance=1e-12):
    return np.linalg.norm(np.asarray(a) - np.asarray(b)) <= tolerance * np.linalg.norm(b)


_apply = jax.jit(lambda A, x: A(x))
_adjoint = jax.jit(lambda A, y: A.adjoint(y))


def _image(*shape):
    return jnp.asarray(np.random.default_rng(1).normal(size=shape))


@pytest.mark.parametrize("size", [(3, 3), (4, 5), (1, 6)])
def test_blur_equals_scipy(size):
    kernel, x = np.random.default_rng(2).normal(size=size), _image(9, 10)
    assert _close(blur(kernel, x.shape)(x), ndimage.convolve(np.asarray(x), kernel, mode="wrap"))
    assert _close(blur(kernel, x.shape, "zero")(x), ndimage.convolve(np.asarray(x), kernel, mode="constant"))


def test_blur_with_zeros_and_a_kernel_twice_the_image():
    kernel, x = np.random.default_rng(2).normal(size=(13, 15)), _image(6, 7)
    full = signal.convolve2d(np.asarray(x), kernel)
    assert _close(blur(kernel, x.shape, "zero")(x), full[6:12, 7:14])


def test_point_response_of_a_gaussian_blur():
    kernel = gaussian_kernel(jnp.array([1.5, 0.8]), (15, 9))
    assert np.isclose(jnp.sum(kernel), 1, rtol=1e-14)
    wanted = ndimage.gaussian_filter(np.eye(1, 15 * 9, 67).reshape(15, 9), (1.5, 0.8), mode="constant", radius=(7, 4))
    assert _close(kernel, wanted)
    assert _close(blur(kernel, (20, 20))(jnp.zeros((20, 20)).at[3, 18].set(1)), jnp.roll(jnp.pad(kernel, ((0, 5), (0, 11))), (-4, 14), (0, 1)))


def test_wiener_equals_scikit_image():
    x, kernel = _image(16, 20), np.array([[0.1, 0.3, 0.1], [0.0, 0.4, 0.1]])
    A = blur(kernel, x.shape)
    y = A(x)
    flat = restoration.wiener(np.asarray(y), kernel, 0.05, reg=np.ones((1, 1)), clip=False)
    assert _close(wiener(A, y, 0.05), flat)
    spectrum = 0.05 * np.abs(uft.laplacian(2, x.shape, is_real=False)[0]) ** 2
    assert _close(wiener(A, y, spectrum), restoration.wiener(np.asarray(y), kernel, 0.05, clip=False))
    assert _close(wiener(A, y + 0j, spectrum), wiener(A, y, spectrum))


def test_wiener_is_the_best_linear_estimate():
    """A constant ratio is Tikhonov's inverse; the true ratio of spectra has the least error, near its closed form."""
    A, y = blur(gaussian_kernel(1.0, (7, 7)), (8, 9)), _image(8, 9)
    x = wiener(A, y, 0.1)
    assert _close(A.adjoint(A(x)) + 0.1 * x, A.adjoint(y))
    assert _close(wiener(A, A(y), 0.0), y, 1e-6)  # the smallest transfer value is 1e-4


def test_wiener_sets_what_the_kernel_removes_to_zero():
    A = blur(jnp.array([[0.5, 0.5]]), (4, 4))  # removes the highest column frequency
    x = wiener(A, _image(4, 4), 0.0)
    assert np.all(np.isfinite(x)) and np.allclose(np.fft.fft(x, axis=1)[:, 2], 0, atol=1e-12)
    slope = jax.grad(lambda kernel: jnp.sum(wiener(blur(kernel, (4, 4)), _image(4, 4), 0.0) ** 2))(jnp.array([[0.5, 0.5]]))
    assert np.all(np.isfinite(slope))


@pytest.mark.parametrize("method", ["linear", "cubic", "lanczos3"])
@pytest.mark.parametrize("factor", [2, 3, (1, 4)])
def test_downsample_equals_jax_image(method, factor):
    x = _image(12, 24)
    factors = factor if isinstance(factor, tuple) else (factor, factor)
    wanted = jax.image.resize(x, [n // r for n, r in zip(x.shape, factors, strict=True)], method, antialias=True)
    assert _close(_apply(downsample(x.shape, factor, method), x), wanted)


@pytest.mark.parametrize("method", ["mean", "linear", "cubic", "lanczos3"])
def test_downsample_keeps_constants_and_places(method):
    A = downsample((40,), 4, method)
    assert np.allclose(A(jnp.ones(40)), 1, rtol=1e-12)
    inside = slice(3, 7)  # further from the border than the widest kernel reaches
    assert np.allclose(A(jnp.arange(40.0))[inside], (4 * np.arange(10) + 1.5)[inside], rtol=0, atol=1e-10)
    assert np.max(np.abs(A(jnp.cos(jnp.pi * jnp.arange(40.0)))[inside])) < 0.02  # what would alias is gone


DB4 = [0.2303778133, 0.7148465706, 0.6308807679, -0.0279837694, -0.1870348117, 0.0308413818, 0.0328830117, -0.0105974018]


def test_filters_are_daubechies():
    """Impulse responses: the tabulated filter of 8 taps, and as many vanishing moments as the name says."""
    low = np.asarray(_adjoint(wavelet((16,), "db4", 1), jnp.asarray(np.eye(16)[3])))
    assert np.allclose(np.roll(low, -3)[:8], DB4, rtol=0, atol=1e-10)  # the table has ten digits
    for moments in range(1, 11):
        high = np.asarray(_adjoint(wavelet((32,), f"db{moments}", 1), jnp.asarray(np.eye(32)[16 + 8])))
        taps = np.arange(32) - 16.0
        support = np.flatnonzero(np.abs(high) > 1e-12)
        assert support[-1] - support[0] < 2 * moments
        for power in range(moments):
            assert abs(high @ (taps / moments) ** power) < 1e-7  # cancellation in sums of large powers


@pytest.mark.parametrize("name", ["haar", "db2", "db4", "db8", "db10"])
@pytest.mark.parametrize("shape, levels", [((8, 24), 3), ((4, 8, 2), 1)])
def test_wavelets_are_orthonormal(name, shape, levels):
    W, x = wavelet(shape, name, levels), _image(*shape)
    assert _close(_adjoint(W, _apply(W, x)), x, 1e-13)
    assert _close(_apply(W, _adjoint(W, x)), x, 1e-13)


def test_smooth_images_have_no_details():
    """Parabolas vanish for three moments, save where the period closes."""
    r = jnp.arange(32.0)
    details = _apply(wavelet((32, 32), "db3", 1), r[:, None] ** 2 * jnp.ones((1, 32)))[16:, :16]
    assert np.max(np.abs(details[1:-2])) < 1e-10 < np.max(np.abs(details[-2:]))


@pytest.mark.filterwarnings("ignore:Level value")  # PyWavelets warns where the filter is longer than the coarsest level
@pytest.mark.parametrize("name", ["haar", "db2", "db4", "db8"])
@pytest.mark.parametrize("shape, levels", [((16, 24), 3), ((8, 4, 16), 2)])
def test_wavelets_equal_pywavelets(name, shape, levels):
    pywt = pytest.importorskip("pywt")
    x = _image(*shape)
    coefficients = pywt.wavedecn(np.asarray(x), name, mode="periodization", level=levels)
    assert _close(_apply(wavelet(shape, name, levels), x), pywt.coeffs_to_array(coefficients)[0])


def test_gradient_is_exact_on_planes_and_bounded():
    x = 2.0 * jnp.arange(5.0)[:, None, None] - 3 * jnp.arange(6.0)[None, :, None] + jnp.arange(7.0)[None, None, :]
    A = gradient(3, (4.0, 1.0, 0.5))
    slopes = A(x)
    for axis, wanted in enumerate((0.5, -3.0, 2.0)):
        inside = jax.lax.slice_in_dim(slopes[axis], 0, -1, axis=axis)
        assert np.array_equal(inside, np.full(inside.shape, wanted))
    norm = lanczos.operator_norm(A, x, 60)
    exact = np.sqrt(sum((2 * np.sin(np.pi * (n - 1) / (2 * n)) / s) ** 2 for n, s in zip(x.shape, (4.0, 1.0, 0.5), strict=True)))
    assert np.isclose(norm, exact, rtol=1e-9)  # Neumann cosines; 60 steps


def test_warp_by_whole_pixels_is_a_shift_and_fetches_from_below():
    x = _image(6, 7)
    moved = warp(jnp.zeros((2, 6, 7)).at[0].set(2.0))(x)
    assert np.array_equal(moved[:4], x[2:]) and not np.any(moved[4:])
    held = warp(jnp.zeros((2, 6, 7)).at[1].set(-3.0), "nearest")(x)
    assert np.array_equal(held[:, 3:], x[:, :4]) and np.array_equal(held[:, :3], np.broadcast_to(x[:, :1], (6, 3)))


def test_warp_takes_any_field_and_channels():
    far = jnp.asarray(1e9 * np.random.default_rng(3).normal(size=(2, 5, 6)))
    assert not np.any(warp(far)(_image(5, 6))) and np.all(np.isfinite(warp(far, "nearest")(_image(5, 6))))
    field, x = 0.1 * far / 1e8, _image(5, 6, 2)
    A = warp(field)
    assert _close(A(x)[..., 1], A(x[..., 1])) and _close(A.adjoint(x)[..., 1], A.adjoint(x[..., 1]))


def test_gradient_for_the_field_is_that_of_the_image():
    """Where x is a plane, the derivative for u is its slope."""
    x = 2.0 * jnp.arange(6.0)[:, None] - 3 * jnp.arange(7.0)[None, :]
    slope = jax.grad(lambda u: jnp.sum(warp(u)(x)[2:4, 2:4]))(jnp.full((2, 6, 7), 0.3))
    assert np.allclose(slope[0, 2:4, 2:4], 2) and np.allclose(slope[1, 2:4, 2:4], -3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
def test_operators_keep_single_precision(dtype):
    x = jnp.ones((8, 8), dtype)
    operators = (
        blur(np.ones((3, 3)), (8, 8)),
        downsample((8, 8), 2, "cubic"),
        inpaint(np.ones((8, 8))),
        gradient(),
        wavelet((8, 8)),
        warp(np.zeros((2, 8, 8))),
    )
    for A in operators:
        y = jax.eval_shape(A, x)
        assert y.dtype == dtype and jax.eval_shape(A.adjoint, y).dtype == dtype, A
    assert jax.eval_shape(lambda A, x: wiener(A, x, np.float64(0.1)), operators[0], x).dtype == dtype


@pytest.mark.parametrize(
    "A",
    [blur(np.ones((3, 3), int), (4, 4)), downsample((4, 4), 2.0), inpaint(np.eye(4) > 0), gradient(), warp(np.full((2, 4, 4), 0.3))],
    ids=lambda A: type(A).__name__,
)
def test_whole_numbers_are_numbers(A):
    """A mask or counts are taken as the floats that they hold, and so are data."""
    mask, counts = np.eye(4) > 0, np.arange(16).reshape(4, 4)
    assert jnp.array_equal(A(mask), A(1.0 * mask)) and jnp.array_equal(A(counts), A(1.0 * counts))
    data = np.arange(A(counts).size).reshape(A(counts).shape)
    assert jnp.array_equal(A.adjoint(data), A.adjoint(1.0 * data))


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: blur(np.ones(3), (4, 4)), "axes of the image"),
        (lambda: blur(np.ones((3, 3)) * 1j, (4, 4)), "real kernel"),
        (lambda: blur(np.ones((3, 3)), (4, 4), "reflect"), "'reflect'"),
        (lambda: wiener(blur(np.ones((3, 3)), (4, 4), "zero"), np.ones((4, 4)), 1.0), "periodic"),
        (lambda: wiener(blur(np.ones((3, 3)), (4, 4)), np.ones((4, 4)), np.ones(4)), r"noise_to_signal \[4\]"),
        (lambda: wiener(blur(np.ones((3, 3)), (4, 4)), np.ones((4, 4)), -1.0), "noise_to_signal >= 0"),
        (lambda: gaussian_kernel(0.0, (3, 3)), "sigma > 0"),
        (lambda: gaussian_kernel((1.0, 2.0, 3.0), (3, 3)), "one sigma or one an axis"),
        (lambda: downsample((9, 8), 2), r"shape \(9, 8\) and factors \(2, 2\)"),
        (lambda: downsample((8, 8), 2.5), r"factors \(2.5, 2.5\)"),
        (lambda: downsample((8, 8), 2, "spline"), "'spline'"),
        (lambda: inpaint(np.zeros((3, 3))), "at least one pixel"),
        (lambda: inpaint(np.ones((3, 3)) * 1j), "real mask"),
        (lambda: inpaint(np.full((3, 3), np.nan)), "finite weights"),
        (lambda: gradient(2, (1.0, -1.0)), "spacing > 0"),
        (lambda: gradient(2, (1.0, 1.0, 1.0)), "one spacing or one an axis"),
        (lambda: wavelet((8, 12), "db4", 3), "divisible"),
        (lambda: wavelet((8, 8), "sym4"), "'sym4'"),
        (lambda: warp(np.zeros((3, 4, 4))), r"\[2, h, w\]"),
        (lambda: warp(np.zeros((2, 4, 4)), "wrap"), "'wrap'"),
        (lambda: warp(np.full((2, 4, 4), np.nan)), "got 32 NaN"),
    ],
)
def test_refuses(make, text):
    with pytest.raises(ValueError, match=text):
        make()
