"""Receive coils: simulated, estimated from k-space or images, whitened; and what noise they leave."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.physics.adaptive_combine import adaptive_combine
from medjax.physics.birdcage import birdcage
from medjax.physics.dominant_eigenvectors import dominant_eigenvectors
from medjax.physics.espirit import espirit
from medjax.physics.noise_covariance import noise_covariance
from medjax.physics.phase_reference import phase_reference
from medjax.physics.root_sum_of_squares import root_sum_of_squares
from medjax.physics.walsh import walsh
from medjax.physics.whiten import whiten


def coil_maps(shape, num_coils, **options):
    """A birdcage, compiled as a whole: op by op takes longer."""
    return jax.jit(partial(birdcage, shape, num_coils, **options))()


def calibrate(kspace, **options):
    """ESPIRiT, compiled."""
    return jax.jit(partial(espirit, **options))(kspace)


def fourier(x):
    """Centred orthonormal transform of the last two axes."""
    axes = (-2, -1)
    return jnp.fft.fftshift(jnp.fft.fft2(jnp.fft.ifftshift(x, axes=axes), norm="ortho"), axes=axes)


def disc(n, radius=0.7):
    """An object with structure and phase inside a disc."""
    y, x = np.meshgrid(*2 * [(np.arange(n) - n // 2) / (n / 2)], indexing="ij")
    inside = np.hypot(y, x) < radius
    return inside * (1 + 0.5 * np.cos(7 * x) * np.sin(5 * y)) * np.exp(1j * (0.8 * y + 0.5 * x * y)), inside


def overlap(a, b):
    """|<a, b>| / (|a| |b|) over coils."""
    a, b = np.asarray(a), np.asarray(b)
    return np.abs((a.conj() * b).sum(0)) / np.maximum(np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0), 1e-300)


def test_birdcage_at_a_point():
    """By hand: pixel (1, 5) of 8 x 8 lies at y = -3/4, x = 1/4; coil 1 of 4 at (x, y) = (0, 2)."""
    maps = np.asarray(coil_maps((8, 8), 4, radius=2.0))[:, 1, 5]
    raw = []
    for c in range(4):
        dx, dy = 0.25 - 2 * np.cos(np.pi * c / 2), -0.75 - 2 * np.sin(np.pi * c / 2)
        raw.append(np.exp(1j * (np.arctan2(dx, -dy) - np.pi * c / 2)) / np.hypot(dx, dy))
    assert np.allclose(maps, np.array(raw) / np.linalg.norm(raw), rtol=0, atol=1e-14)


def test_birdcage_in_space():
    """One ring of a volume: its middle slice is the 2-D birdcage; a second ring is nearest to its own end."""
    flat, volume = coil_maps((6, 7), 8), coil_maps((3, 6, 7), 8)
    assert np.allclose(volume[:, 1], flat, rtol=0, atol=1e-14)
    two = np.sum(np.abs(coil_maps((9, 6, 6), 8, coils_per_ring=4)) ** 2, axis=(2, 3))
    assert np.all(two[:4, 0] > two[4:, 0]) and np.all(two[:4, -1] < two[4:, -1])


@pytest.mark.parametrize("shape, num_coils", [((9, 8), 5), ((4, 6, 7), 12)])
def test_birdcage_has_unit_root_sum_of_squares(shape, num_coils):
    f = jax.jit(lambda radius: birdcage(shape, num_coils, radius=radius))
    assert np.allclose(np.linalg.norm(f(1.4), axis=0), 1, rtol=1e-14)
    slope = jax.jit(jax.jacfwd(f))(1.6)
    assert np.allclose(slope, (f(1.6 + 1e-5) - f(1.6 - 1e-5)) / 2e-5, rtol=0, atol=1e-8)


def test_root_sum_of_squares_is_flat_at_zero():
    images = jnp.array([[3.0, 0.0], [4j, 0.0]])
    assert np.array_equal(root_sum_of_squares(images), [5, 0])
    assert np.all(jnp.isfinite(jax.grad(lambda m: root_sum_of_squares(m).sum())(images)))


def test_dominant_eigenvectors_are_those_of_lapack(key):
    a = jax.random.normal(key, (4, 4, 5, 3), jnp.complex128)
    gram = jnp.einsum("ikyx,jkyx->ijyx", a, a.conj()).at[:, :, 2, 1].set(0)
    vectors, values = dominant_eigenvectors(gram, 2, num_steps=3000)
    wanted, bases = np.linalg.eigh(np.asarray(gram).transpose(2, 3, 0, 1))
    assert np.allclose(values, wanted[..., :-3:-1].transpose(2, 0, 1), rtol=1e-10, atol=1e-12)
    assert np.all(vectors[:, :, 2, 1] == 0)
    filled = np.ones((5, 3), bool)
    filled[2, 1] = False
    for i in range(2):
        assert np.allclose(overlap(vectors[i], bases[..., -1 - i].transpose(2, 0, 1))[filled], 1, rtol=0, atol=1e-9)


def test_dominant_eigenvectors_do_not_depend_on_units(key):
    a = jax.random.normal(key, (3, 3, 4), jnp.complex64)
    gram = jnp.einsum("ikn,jkn->ijn", a, a.conj())
    for unit in (1e-18, 1e18):
        vectors, values = dominant_eigenvectors(gram * unit)
        assert np.allclose(overlap(vectors[0], dominant_eigenvectors(gram)[0][0]), 1, atol=1e-5)  # float32
        assert vectors.dtype == jnp.complex64 and np.allclose(values / unit, dominant_eigenvectors(gram)[1], rtol=1e-4)  # float32


def brute_espirit(kspace, width, k, threshold):
    """Uecker et al. by loops: SVD of the calibration matrix, a convolution written out at every pixel, LAPACK's eigenvectors."""
    kspace = np.asarray(kspace)
    c, h, w = kspace.shape
    top, left = h // 2 - width // 2, w // 2 - width // 2
    region = kspace[:, top : top + width, left : left + width]
    patches = np.array([region[:, i : i + k, j : j + k].ravel() for i in range(width - k + 1) for j in range(width - k + 1)])
    u, s, _ = np.linalg.svd(patches.T, full_matrices=False)
    u = u[:, s > threshold * s[0]]
    out = np.zeros((h, w, c, c), complex)
    shifts = np.array([(i, j) for i in range(k) for j in range(k)])
    for y in range(h):
        for x in range(w):
            phase = np.exp(2j * np.pi * shifts @ np.array([(y - h // 2) / h, (x - w // 2) / w]))
            kernels = np.einsum("cpm,p->cm", u.reshape(c, k * k, -1), phase) / k
            out[y, x] = kernels @ kernels.conj().T
    values, vectors = np.linalg.eigh(out)
    return vectors[..., ::-1].transpose(3, 2, 0, 1), values[..., ::-1].transpose(2, 0, 1)


@pytest.mark.parametrize("shape, coils, width, k", [((14, 17), 3, 12, 3), ((13, 12), 6, 8, 4)])
def test_espirit_equals_the_loops(key, shape, coils, width, k):
    """Both routes of the projection, more patches than unknowns and fewer; two sets."""
    image = np.asarray(coil_maps(shape, coils)) * disc(20)[0][: shape[0], : shape[1]]
    x = fourier(image) + 0.02 * jax.random.normal(key, image.shape, jnp.complex128)
    maps, values = calibrate(x, calibration_width=width, kernel_width=k, threshold=0.1, crop=0.0, num_sets=2, num_steps=1000)
    vectors, wanted = brute_espirit(x, width, k, 0.1)
    assert np.allclose(values, wanted[:2], rtol=0, atol=1e-4)  # of pixels where the iteration is slow, two eigenvalues being close
    clear = (wanted[1] < 0.95 * wanted[0]) & (wanted[2] < 0.95 * wanted[1])
    assert clear.mean() > 0.5
    for i in range(2):
        assert np.allclose(overlap(maps[i], vectors[i])[clear], 1, rtol=0, atol=1e-8)


def test_espirit_finds_the_coils(key):
    n, coils = 64, 8
    true = coil_maps((n, n), coils)
    image, inside = disc(n)
    kspace = fourier(np.asarray(true) * image) + 0.003 * jax.random.normal(key, (coils, n, n), jnp.complex128)
    maps, values = calibrate(kspace)
    agreement = overlap(maps[0], true)[inside]
    assert np.percentile(agreement, 1) > 0.998 and np.median(agreement) > 0.9999
    assert np.allclose(root_sum_of_squares(maps[0])[inside], 1, rtol=1e-12) and values[0][inside].min() > 0.95
    assert np.all(np.asarray(maps[0])[:, np.asarray(values[0]) <= 0.95] == 0) and values.max() <= 1 + 1e-9
    first = calibrate(kspace, reference=jnp.eye(coils)[2])[0][0]
    assert np.abs(np.angle(first[2][inside])).max() < 1e-9


def test_espirit_needs_two_sets_where_tissue_folds(key):
    """An object wider than the field of view: where it overlaps itself two maps explain the data, and the true ones lie in their span."""
    n, coils = 48, 8
    wide = coil_maps((n, 2 * n), coils)
    image = disc(2 * n, 0.65)[0][n // 2 : -n // 2]
    seen = jnp.asarray(np.asarray(wide) * image).reshape(coils, n, 2, n)
    folded = jnp.roll(seen.sum(2), n // 2, axis=2)
    maps, values = map(np.asarray, calibrate(fourier(folded), threshold=0.005, crop=0.0, num_sets=2))
    parts = np.asarray(jnp.roll(jnp.abs(image).reshape(n, 2, n), n // 2, axis=2)) > 0
    both, one = parts.all(1), parts.any(1) & ~parts.all(1)
    # with one layer alone the second eigenvalue is anything, and small over part of it
    assert np.percentile(values[1][both], 1) > 0.98 and np.percentile(values[1][one], 10) < 0.5 and np.percentile(values[0][one], 10) > 0.99
    for part in range(2):
        target = np.asarray(jnp.roll(wide.reshape(coils, n, 2, n)[:, :, part], n // 2, axis=2))
        inside = sum(np.abs((m.conj() * target).sum(0)) ** 2 for m in maps)
        assert np.percentile(inside[both], 1) > 0.999


def test_espirit_differentiates_where_eigenvalues_coincide(key):
    """Data of one coil map alone has many equal (zero) singular values; forward, reverse and finite differences agree."""
    image, _ = disc(12, 0.9)
    kspace = fourier(np.asarray(coil_maps((12, 12), 3)) * image)
    direction, weights = jax.random.normal(key, (2, *kspace.shape), jnp.complex128)

    @partial(jax.jit, static_argnums=(1, 2))
    def loss(t, width, k):
        maps, values = espirit(kspace + t * direction, width, k, threshold=0.2, crop=0.0, num_steps=200)
        return jnp.sum(values[0, 4:8, 4:8]) + jnp.sum(jnp.real(weights * maps[0])[:, 4:8, 4:8])

    for width, k in ((10, 3), (6, 4)):
        slope = jax.jit(jax.jacfwd(loss), static_argnums=(1, 2))(0.0, width, k)
        assert np.isclose(slope, (loss(1e-6, width, k) - loss(-1e-6, width, k)) / 2e-6, rtol=1e-4)  # of the finite difference
        assert np.isclose(jax.jit(jax.grad(loss), static_argnums=(1, 2))(0.0, width, k), slope, rtol=1e-9)


def test_phase_reference(key):
    maps, w = jax.random.normal(key, (2, 3, 4, 5), jnp.complex128), jax.random.normal(key, (3,), jnp.complex128)
    turned = phase_reference(maps, w)
    p = np.einsum("c,mcyx->myx", w.conj(), turned)
    assert np.allclose(p.imag, 0, atol=1e-14) and np.all(p.real > 0) and np.allclose(np.abs(turned), np.abs(maps), rtol=1e-13)
    still = maps.at[0, :, 1, 1].set(0)
    assert np.all(jnp.isfinite(jax.grad(lambda m: jnp.abs(phase_reference(m, w)[0, 0, 0, 0]) ** 2)(still)))


def test_whitening_gives_the_identity(key):
    """Exactly on the scan itself, statistically on another."""
    mix = jax.random.normal(key, (6, 6), jnp.complex128)
    scan, other = mix @ jax.random.normal(jax.random.fold_in(key, 1), (2, 6, 20_000), jnp.complex128)
    covariance = noise_covariance(scan)
    assert np.allclose(noise_covariance(whiten(scan, covariance)), np.eye(6), rtol=0, atol=1e-12)
    # entries of a sample covariance of n draws have standard deviation 1 / sqrt(n), here of two scans; 4.5 of them
    assert np.abs(noise_covariance(whiten(other, covariance)) - np.eye(6)).max() < 4.5 * np.sqrt(2 / 20_000)
    assert np.allclose(noise_covariance(scan.reshape(6, 40, 500), bandwidth_ratio=0.79), 0.79 * covariance, rtol=1e-12)
    assert np.allclose(covariance, mix @ mix.conj().T, rtol=0, atol=0.4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
def test_whitening_keeps_single_precision(key, dtype):
    """A covariance in double precision does not widen the data, and its gradient is that of data in double precision."""
    y, covariance = jax.random.normal(key, (2, 5), dtype), jnp.array([[2.0, 0.5], [0.5, 1.0]])
    wide = y.astype(jnp.result_type(dtype, jnp.float64))
    assert whiten(y, covariance).dtype == dtype and whiten(y, covariance.astype(complex)).dtype == jnp.complex64
    slope, wanted = (jax.grad(lambda c, y=y: jnp.sum(jnp.abs(whiten(y, c)) ** 2))(covariance) for y in (y, wide))
    assert slope.dtype == jnp.float64 and np.allclose(slope, wanted, rtol=1e-5)  # float32


def test_walsh_follows_the_maps(key):
    """Noise-free block of one pixel: exactly the direction of the images; with noise, a wider block is better."""
    n, true = 32, np.asarray(coil_maps((32, 32), 6))
    image, inside = disc(n, 0.9)
    clean = jnp.asarray(true * image)
    assert np.allclose(overlap(jax.jit(partial(walsh, block=1))(clean), true)[inside], 1, rtol=0, atol=1e-12)
    noisy = clean + 0.1 * jax.random.normal(key, clean.shape, jnp.complex128)
    wide = jax.jit(walsh)
    errors = [1 - overlap(f(noisy), true)[inside].mean() for f in (jax.jit(partial(walsh, block=1)), wide)]
    assert errors[1] < 0.3 * errors[0] and errors[1] < 3e-3
    maps = wide(1e-25 * noisy.astype(jnp.complex64))
    assert maps.dtype == jnp.complex64 and np.allclose(overlap(maps, wide(noisy)), 1, atol=1e-4)  # float32
    assert np.array_equal(wide(jnp.zeros_like(clean)), np.zeros(clean.shape))


def test_real_data_are_complex_ones_without_phase(key):
    """Maps of real k-space are complex all the same, and a reference keeps its phase beside real images."""
    kspace, weights = jax.random.normal(key, (3, 10, 10)), jnp.array([1.0, 1j, 0.5])
    estimate = jax.jit(partial(espirit, calibration_width=8, kernel_width=3, crop=0.0, num_steps=20, reference=weights))
    for real, whole in zip(estimate(kspace), estimate(kspace + 0j), strict=True):
        assert real.dtype == whole.dtype and np.allclose(real, whole, rtol=0, atol=1e-12)
    p = jnp.sum(weights.conj()[:, None, None] * walsh(kspace, reference=weights), 0)
    assert np.allclose(jnp.imag(p), 0, atol=1e-12) and np.all(jnp.real(p) > 0)
    counts = jnp.round(10 * kspace).astype(int)
    assert np.allclose(walsh(counts), walsh(counts.astype(float)), rtol=0, atol=1e-12)


def test_adaptive_combine_is_the_matched_filter(key):
    maps = jax.random.normal(key, (4, 5, 6), jnp.complex128).at[:, 0, 0].set(0)
    x = jax.random.normal(jax.random.fold_in(key, 1), (5, 6), jnp.complex128)
    assert np.allclose(adaptive_combine(maps * x[None], maps), x.at[0, 0].set(0), rtol=0, atol=1e-13)
    noise = jax.random.normal(key, (4000, 4, 5, 6), jnp.complex128)
    spread = jnp.mean(jnp.abs(jax.vmap(lambda m: adaptive_combine(m, maps))(noise)) ** 2, axis=0)
    wanted = 1 / np.sum(np.abs(maps) ** 2, 0)[1:]
    # a mean of 4000 exponentials; 4.5 standard deviations
    assert np.abs(spread[1:] / wanted - 1).max() < 4.5 / np.sqrt(4000)


@pytest.mark.parametrize(
    "build",
    [
        lambda: birdcage((8,), 4),
        lambda: birdcage((8, 8), 0),
        lambda: birdcage((8, 8), 4, radius=1.0),
        lambda: birdcage((8, 8), 8, coils_per_ring=4),
        lambda: espirit(jnp.ones((4, 20, 20), complex)),
        lambda: espirit(jnp.ones((4, 32, 32), complex), 4, 6),
        lambda: espirit(jnp.ones((4, 32, 32), complex), num_sets=5),
        lambda: walsh(jnp.ones((8, 8), complex)),
        lambda: walsh(jnp.ones((4, 8, 8), complex), block=4),
        lambda: adaptive_combine(jnp.ones((4, 8, 8)), jnp.ones((4, 8, 9))),
        lambda: noise_covariance(jnp.ones((4, 3), complex)),
        lambda: whiten(jnp.ones((4, 8)), jnp.eye(3)),
        lambda: whiten(jnp.ones((2, 8)), jnp.ones((2, 2))),
        lambda: whiten(jnp.ones((2, 8)), jnp.full((2, 2), jnp.nan)),
        lambda: dominant_eigenvectors(jnp.eye(3), 4),
        lambda: phase_reference(jnp.ones((3, 4, 4), complex), jnp.ones(4)),
    ],
)
def test_refuses_what_cannot_be(build):
    with pytest.raises(ValueError, match="needs"):
        build()
