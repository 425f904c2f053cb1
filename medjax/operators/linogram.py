"""Linograms: line integrals of an image by the Fourier slice theorem, O(n^2 log n), with an exact adjoint.

A view at angle theta is seen along u = t / a, where a is cos(theta) or sin(theta), the larger in magnitude. Its spectrum at frequency k of u
lies at (k, -k b / a) in the plane, b the other of the two: on the FFT's own grid along one axis, so that only the other axis is interpolated.
Steep views (a = cos) read the transform of the image, shallow ones that of its transpose.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from medjax import linalg
from medjax.typing import Leaf

OVERSAMPLING = 1.5
"""Of the interpolated axis of the spectrum, and of the grid that projections are resampled from."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Linogram:
    """Tables of A views of D detectors, F frequencies and M points of a fine grid of u; inside, the steep views come first.
    Indices are unsigned: signed ones are tested for being negative, at each gather.

    deconvolution: `[n]`, one over the kernel's transform, of alternating sign so that frequency 0 is in the middle of the interpolated axis.
    weights `[num_taps, A, F]`, base `[A, F]` uint32: how a slice reads the spectrum, flat `[num_rows, F]`.
    phases `[A, F]` complex: the image's centre, the windows of pixel and detector, and all scales. back `[F]`: what the adjoint's FFTs scale.
    taps `[num_taps, A, D]`, first `[A, D]` uint32: how a detector reads the fine rows, flat `[A, M]`.
    taps_adjoint `[K, A, M]`, first_adjoint `[A, M]` uint32: how a fine point reads the sinogram, flat with K zeros around it.
    """

    deconvolution: Leaf
    weights: Leaf
    base: Leaf
    phases: Leaf
    back: Leaf
    taps: Leaf
    first: Leaf
    taps_adjoint: Leaf
    first_adjoint: Leaf
    num_steep: int = dataclasses.field(metadata={"static": True})
    num_rows: int = dataclasses.field(metadata={"static": True})
    num_columns: int = dataclasses.field(metadata={"static": True})

    def project(self, x):
        """`[n, n]` real -> `[A, D]`: the sum over pixels along each ray."""
        dtype = x.dtype
        images = ((x, slice(None, self.num_steep)), (x.T, slice(self.num_steep, None)))
        slices = [self._slices(self._spectrum(image), views, dtype) for image, views in images]
        fine = jnp.fft.irfft(jnp.concatenate(slices), n=self.taps_adjoint.shape[-1], axis=1).ravel()
        total = jnp.zeros(self.first.shape, dtype)
        for i in range(self.taps.shape[0]):
            total += linalg.take(fine, self.first + i) * self.taps[i].astype(dtype)
        return total

    def backproject(self, y):
        """The adjoint of `project`: `[A, D]` real -> `[n, n]`."""
        dtype, margin = y.dtype, self.taps_adjoint.shape[0]
        padded = jnp.pad(y.ravel(), (margin, margin))
        fine = jnp.zeros(self.first_adjoint.shape, dtype)
        for i in range(margin):
            fine += linalg.take(padded, self.first_adjoint + i) * self.taps_adjoint[i].astype(dtype)
        num_frequencies = self.phases.shape[1]
        slices = jnp.fft.rfft(fine, axis=1)[:, :num_frequencies]
        slices *= jnp.conj(self.phases.astype(slices.dtype)) * self.back.astype(dtype)[None, :]
        steep = self._spectrum_adjoint(self._slices_adjoint(slices, slice(None, self.num_steep)), dtype)
        shallow = self._spectrum_adjoint(self._slices_adjoint(slices, slice(self.num_steep, None)), dtype)
        return steep + shallow.T

    def _spectrum(self, x):
        """`[n, n]` -> flat `[num_rows, F]`: rows start at the image's middle, so that the kernel's transform is centred on it."""
        n = x.shape[0]
        middle = n // 2
        x = jnp.pad(x * self.deconvolution.astype(x.dtype)[:, None], ((0, 0), (0, self.num_columns - n)))
        gap = jnp.zeros((self.num_rows - n, self.num_columns), x.dtype)
        return jnp.fft.rfft2(jnp.concatenate([x[middle:], gap, x[:middle]])).ravel()

    def _spectrum_adjoint(self, spectrum, dtype):
        """Flat `[num_rows, F]`, already scaled for the implied conjugate half -> `[n, n]`."""
        n = self.deconvolution.shape[0]
        middle = n // 2
        x = jnp.fft.irfft2(spectrum.reshape(self.num_rows, -1), s=(self.num_rows, self.num_columns))
        return jnp.concatenate([x[self.num_rows - middle :, :n], x[: n - middle, :n]]) * self.deconvolution.astype(dtype)[:, None]

    def _slices(self, spectrum, views, dtype):
        """Flat spectrum -> `[views, F]`."""
        base, num_frequencies = self.base[views], self.base.shape[1]
        total = jnp.zeros(base.shape, spectrum.dtype)
        for i in range(self.weights.shape[0]):
            index = _wrap(base + i * num_frequencies, spectrum.shape[0])
            total += linalg.take(spectrum, index) * self.weights[i, views].astype(dtype)
        return total * self.phases[views].astype(spectrum.dtype)

    def _slices_adjoint(self, slices, views):
        """`[views, F]`, phases already applied -> flat spectrum."""
        base, num_frequencies, slices = self.base[views], self.base.shape[1], slices[views]
        size = self.num_rows * num_frequencies

        def scatter(i, spectrum):
            index = _wrap(base + i * num_frequencies, size)
            return spectrum.at[index].add(slices * self.weights[i, views].astype(slices.real.dtype), mode="promise_in_bounds")

        return jax.lax.fori_loop(0, self.weights.shape[0], scatter, jnp.zeros(size, slices.dtype))  # unrolled, all terms would be held at once


def linogram(n, angles, t, width, scale, num_taps):
    """Tables for rays at `t` `[D]`, sorted, or `[A, D]`, of detectors `width` wide, both in pixels; projections are multiplied by `scale`."""
    cos, sin = np.cos(angles), np.sin(angles)
    steep = np.abs(cos) >= np.abs(sin)
    order = np.concatenate([np.flatnonzero(steep), np.flatnonzero(~steep)])
    along, across = np.where(steep, cos, sin)[order], np.where(steep, sin, cos)[order]
    columns, rows = linalg.even_fast_length(2 * n + 18), linalg.even_fast_length(OVERSAMPLING * n)
    fine = linalg.even_fast_length(OVERSAMPLING * columns)
    k = np.arange(columns // 2 + 1)
    omega = 2 * np.pi * k / columns  # [rad / pixel]
    kappa = -omega * (across / along)[:, None]
    place = kappa * (rows / (2 * np.pi)) + rows // 2
    base = np.floor(place - num_taps / 2).astype(int) + 1
    weights = np.stack([_kernel(place - base - i, num_taps) for i in range(num_taps)])
    window = np.sinc(omega / (2 * np.pi)) * np.sinc(kappa / (2 * np.pi)) * np.sinc(omega * width / (2 * np.pi) / along[:, None])
    window *= (fine / columns * scale) / _kernel_transform(omega * columns / fine, num_taps) / np.abs(along)[:, None]
    window[:, -1] /= 2  # the Nyquist frequency stands for two once it is not the last
    centre = (n - 1) / 2
    phases = window * np.exp(1j * (omega * centre + kappa * (centre - n // 2))) * (-1.0) ** k  # u = 0 in the middle of the fine grid
    back = np.where(k == k[-1], 2, 1) * (columns * rows / fine)
    middle = np.arange(n) - n // 2
    deconvolution = (-1.0) ** middle / _kernel_transform(2 * np.pi * middle / rows, num_taps)

    u = np.where(steep[order], 1, -1)[:, None] * np.broadcast_to(t, (len(angles), np.shape(t)[-1])) / along[:, None]
    sorted_row = np.argsort(order)
    taps, first, taps_adjoint, first_adjoint = _resampling(u * (fine / columns) + fine // 2, fine, num_taps, order, sorted_row)
    real, whole, phasor = (lambda a: jnp.asarray(a, float)), (lambda a: jnp.asarray(a, jnp.uint32)), (lambda a: jnp.asarray(a, complex))
    return Linogram(
        deconvolution=real(deconvolution),
        weights=real(weights),
        base=whole(base % rows * len(k) + k),
        phases=phasor(phases),
        back=real(back),
        taps=real(taps),
        first=whole(first),
        taps_adjoint=real(taps_adjoint),
        first_adjoint=whole(first_adjoint),
        num_steep=int(steep.sum()),
        num_rows=rows,
        num_columns=columns,
    )


def check_taps(num_taps):
    """Refuse widths of the kernel for which there is none."""
    if num_taps not in range(2, 17):
        raise ValueError(f"got num_taps {num_taps}, an integer from 2 to 16 is needed")


def _resampling(place, fine, num_taps, order, row_of_view):
    """How detectors at `place` `[A, D]` on the fine grid read its rows, and how its points read them back: the tables of `Linogram`."""
    num_views, num_detectors = place.shape
    seen = (place > num_taps / 2 + 1) & (place < fine - num_taps / 2 - 1)
    first = np.where(seen, np.floor(place - num_taps / 2).astype(int) + 1, 0)
    taps = np.stack([_kernel(place - first - i, num_taps) * seen for i in range(num_taps)])
    first = first + fine * np.arange(num_views)[:, None]

    # the detectors within half a kernel of a fine point are neighbours: search for the first and the last of them
    rising = place[:, -1] >= place[:, 0]
    shift = np.arange(num_views)[:, None] * (2.0 * (np.abs(place).max() + fine))
    line = (np.where(rising[:, None], place, place[:, ::-1]) + shift).ravel()
    points = np.arange(fine) + shift
    low, high = np.searchsorted(line, points - num_taps / 2, "right"), np.searchsorted(line, points + num_taps / 2, "left")
    starts = num_detectors * np.arange(num_views)[:, None]
    low, high = low - starts, high - starts
    count = high - low
    start = np.where(rising[:, None], low, num_detectors - high)
    num_back = max(int(count.max()), 1)
    taps_adjoint = np.zeros((num_back, num_views, fine))
    for i in range(num_back):
        k = np.clip(start + i, 0, num_detectors - 1)
        read = (i < count) & np.take_along_axis(seen, k, 1)
        taps_adjoint[i] = _kernel(np.take_along_axis(place, k, 1) - np.arange(fine), num_taps) * read
    first_adjoint = start + num_detectors * order[:, None] + num_back
    return taps[:, row_of_view], first[row_of_view], taps_adjoint, first_adjoint


def _kernel(z, width):
    """Exponential of a semicircle, of z in grid steps, zero from half the width on."""
    inside, exponent = 1 - (2 * z / width) ** 2, 0.98 * np.pi * width * (1 - 1 / (2 * OVERSAMPLING))
    return np.where(inside > 0, np.exp(exponent * (np.sqrt(np.maximum(inside, 0)) - 1)), 0)


def _kernel_transform(frequency, width):
    """The kernel's Fourier integral at `frequency` [rad / grid step], by Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(40 + 4 * width)
    return width / 2 * (np.cos(np.multiply.outer(frequency, nodes * width / 2)) @ (weights * _kernel(nodes * width / 2, width)))


def _wrap(index, size):
    """`index` modulo `size` for indices below twice the size."""
    return index - jnp.where(index >= size, size, 0)
