"""Coil maps from the calibration lines of the scan itself."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import lax

from medjax import linalg
from medjax.physics.dominant_eigenvectors import dominant_eigenvectors
from medjax.physics.phase_reference import phase_reference

_ROWS = 16  # rows of the image in work at once: c^2 numbers a pixel stay in cache


def espirit(kspace, calibration_width=24, kernel_width=6, threshold=0.02, crop=0.95, num_sets=1, num_steps=100, reference=None):
    r"""ESPIRiT: coil maps as eigenvectors, of eigenvalue 1, of the projection onto the patches that calibration data consist of.

    With P the projection onto the span of all k x k x c patches of the calibration region, singular values above `threshold` of the largest,

    .. math::
        G_{cc'}(n) = \frac{1}{k^2} \sum_{p, p'} P_{(c, p), (c', p')} \, e^{2 \pi i \langle p - p', n / N \rangle},
        \qquad G(n) \, s(n) = \lambda(n) \, s(n)

    P enters by its sums over equal p - p' alone, of which there are (2 k - 1)^2, and G comes from those by a short Fourier matrix along each axis.

    Args:
      kspace: `[c, h, w]` complex, k = 0 at (h // 2, w // 2), its centre sampled fully; whitened.
      calibration_width: of the square of k-space that is used, in samples.
      kernel_width: k.
      threshold: in (0, 1); may be traced.
      crop: maps are 0 where their eigenvalue is at most this; 0 keeps all. May be traced.
      num_sets: number of sets m; 2 when tissue folds over inside the field of view, or where one map cannot explain the data.
      num_steps: of the orthogonal iteration a pixel.
      reference: `[c]`, weights of the virtual coil whose phase is taken as zero (`phase_reference`); by default the principal component of the
        calibration data.

    Returns:
      maps `[m, c, h, w]`, of unit root sum of squares over coils where not cropped, and eigenvalues `[m, h, w]` in [0, 1].

    Raises:
      ValueError: when the calibration region does not fit into k-space or the kernel not into it, or when m exceeds c.

    Reference:
      Uecker et al. (2014), ESPIRiT, https://doi.org/10.1002/mrm.24751. Differs from it in the phase, see `reference`. The number of kept kernels
      jumps with the threshold: gradients are of the maps at a fixed number.
    """
    kspace = linalg.complex_of(kspace)
    channels, height, width = kspace.shape
    if not kernel_width <= calibration_width <= min(height, width) or kernel_width < 1:
        widths = f"{kernel_width} and {calibration_width}"
        raise ValueError(f"espirit needs kernel_width <= calibration_width <= {min(height, width)}, k-space being {kspace.shape}, got {widths}")
    if not 1 <= num_sets <= channels:
        raise ValueError(f"espirit needs 1 to {channels} map sets of {channels} coils, got {num_sets}")
    top, left = (n // 2 - calibration_width // 2 for n in (height, width))
    calibration = kspace[:, top : top + calibration_width, left : left + calibration_width]
    lags = _lags(_patch_projection(calibration, kernel_width, threshold), channels, kernel_width)
    rows, columns = (_waves(n, kernel_width, kspace.dtype) for n in (height, width))
    lags = jnp.einsum("abij,xj->abix", lags, columns)

    def row(wave):
        return dominant_eigenvectors(jnp.einsum("abix,i->abx", lags, wave), num_sets, num_steps)

    maps, values = lax.map(row, rows, batch_size=min(_ROWS, height))
    maps, values = jnp.moveaxis(maps, 0, -2), jnp.moveaxis(values, 0, -2)
    if reference is None:
        samples = calibration.reshape(channels, -1)
        reference = dominant_eigenvectors(samples @ samples.conj().T)[0][0]
    maps = phase_reference(maps, jnp.asarray(reference, kspace.dtype))
    return jnp.where((values > crop)[:, None], maps, 0), values


def _patch_projection(calibration, kernel_width, threshold):
    """P `[c k k, c k k]`, the projection onto the patches' leading left singular vectors, through the smaller of the two Gram matrices."""
    blocks = calibration.shape[1] - kernel_width + 1
    windows = np.arange(kernel_width)[:, None] + np.arange(blocks)[None, :]
    patches = rearrange(calibration[:, windows][:, :, :, windows], "c i y j x -> (c i j) (y x)")
    # numbers of order 1, whatever the unit of the data
    scale = jnp.max(jnp.abs(patches))
    patches = patches / jnp.where(scale > 0, scale, 1)
    if patches.shape[0] <= patches.shape[1]:
        return _kept(0, patches @ patches.conj().T, threshold)
    return patches @ _kept(1, patches.conj().T @ patches, threshold) @ patches.conj().T


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _kept(power, gram, threshold):
    """U diag(l^-power) U^H over eigenvalues l > threshold^2 l_max; its derivative holds where eigenvalues coincide, unlike that of `eigh`."""
    values, vectors, keep = _spectrum(gram, threshold)
    weights = jnp.where(keep, jnp.where(keep, values, 1) ** -power, 0)
    return (vectors * weights[None, :]) @ vectors.conj().T


def _spectrum(gram, threshold):
    """Eigenvalues, eigenvectors and which of them are kept."""
    values, vectors = jnp.linalg.eigh(gram)
    return values, vectors, values > threshold**2 * jnp.maximum(values[-1], 0)


@_kept.defjvp
def _kept_jvp(power, primals, tangents):
    """Daleckii and Krein: divided differences of l^-power over kept pairs, 1 / (l_i - l_j) times it over mixed pairs, 0 over dropped ones."""
    values, vectors, keep = _spectrum(*primals)
    safe = jnp.where(keep, values, 1)
    weights = jnp.where(keep, safe**-power, 0)
    mixed = keep[:, None] != keep[None, :]
    gap = jnp.where(mixed, values[:, None] - values[None, :], 1)
    inside = -power / (safe[:, None] * safe[None, :])
    divided = jnp.where(mixed, (weights[:, None] - weights[None, :]) / gap, jnp.where(keep[:, None] & keep[None, :], inside, 0))
    tangent = vectors @ (divided * (vectors.conj().T @ tangents[0] @ vectors)) @ vectors.conj().T
    return _kept(power, *primals), tangent


def _lags(projection, channels, k):
    """`[c, c, 2k - 1, 2k - 1]`: means of P over pairs of positions with equal p - p'."""
    blocks = rearrange(projection, "(a i j) (b l m) -> a b j m i l", a=channels, b=channels, i=k, j=k, l=k, m=k)
    blocks = jnp.moveaxis(_sum_by_difference(blocks), -1, 2)
    return _sum_by_difference(blocks) / k**2


def _sum_by_difference(blocks):
    """`[..., k, k]` -> `[..., 2k - 1]`, sums over p - p': rows are skewed by one each by a reshape."""
    k = blocks.shape[-1]
    padded = jnp.pad(blocks[..., ::-1], [(0, 0)] * (blocks.ndim - 1) + [(0, k)])
    flat = padded.reshape(*blocks.shape[:-2], 2 * k * k)[..., : k * (2 * k - 1)]
    return jnp.sum(flat.reshape(*blocks.shape[:-2], k, 2 * k - 1), axis=-2)


def _waves(n, k, dtype):
    """exp(2 pi i d x / n) `[n, 2k - 1]` for pixels x - n // 2 and lags d."""
    phase = 2j * jnp.pi / n * (jnp.arange(n) - n // 2)[:, None] * jnp.arange(1 - k, k)[None, :]
    return jnp.exp(phase).astype(dtype)
