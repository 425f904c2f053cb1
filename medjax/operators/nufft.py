"""Non-Cartesian Fourier transform: Kaiser-Bessel gridding without a matrix, with its exact adjoint."""

import functools
import importlib
import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.experimental.layout import Layout, with_layout_constraint
from scipy import special

from medjax import linalg
from medjax.typing import Leaf

_CHUNK = 1024  # samples whose windows are written at a time: they stay in the cache


def nufft(trajectory, image_size, width=7, oversampling=1.5, backend="gridding"):
    r"""Fourier transform at any points of k-space, centred and scaled as the orthonormal one.

    .. math::
        y_s = \frac{1}{\sqrt{\prod N}} \sum_n x_n \, e^{-2 \pi i \langle k_s, (n - c) / N \rangle}, \quad c = \lfloor N / 2 \rfloor

    so k = 0, 1, -1, ... in every axis gives `masked_fourier`, row by row. The image is divided by the transform of the kernel, transformed
    by a zero-padded FFT and interpolated with a separable Kaiser-Bessel kernel; the adjoint is the transpose of these very steps. The error
    relative to the exact sum is about 8e-6 at the default, 1e-6 at width 8, 1e-8 at width 9 and oversampling 2. It is differentiable in the
    trajectory, which may be traced: gradients are those of the kernel. Leading axes of x, coils say, share the work: prefer them to `vmap`.

    Args:
      trajectory: `[..., d]`, d = 2 or 3, in cycles a field of view, so from -n/2 to n/2, in the order of the image's axes: (ky, kx) or
        (kz, ky, kx) for an image `[h, w]` or `[d, h, w]`; periodic beyond.
      image_size: `(h, w)` or `(d, h, w)` [pixels].
      width: of the kernel [points of the padded grid], an integer from 3 to 14.
      oversampling: of the padded grid, above 1.2 and up to 2.
      backend: "gridding", or "finufft" for jax-finufft at the accuracy that this width and oversampling have.

    Returns:
      An operator from complex `[..., *image_size]` to complex `[..., *trajectory.shape[:-1]]`; leaf `trajectory`.

    Raises:
      ValueError: when sizes do not fit, the trajectory is empty, complex or not finite, or width or oversampling is out of range
        or the width no integer.
      ImportError: when the backend is not installed.

    Reference:
      Beatty, Nishimura & Pauly (2005), https://doi.org/10.1109/TMI.2005.848376, for the kernel's shape; Barnett, Magland & af Klinteberg
      (2019), https://doi.org/10.1137/18M120885X, for its evaluation by polynomials; https://github.com/flatironinstitute/jax-finufft.
    """
    if any(n % 1 for n in image_size):
        raise ValueError(f"nufft needs an image of whole sizes [pixels], got {image_size}")
    shape, image_size = jnp.shape(trajectory), tuple(int(n) for n in image_size)
    if len(image_size) not in (2, 3) or min(image_size) < 1 or len(shape) < 2 or shape[-1] != len(image_size) or math.prod(shape) == 0:
        raise ValueError(f"nufft needs samples [..., d] of an image of d = 2 or 3 axes, got a trajectory {shape} and an image {image_size}")
    if np.iscomplexobj(trajectory):
        raise ValueError("nufft needs a real trajectory [..., d], got complex numbers")
    if not isinstance(trajectory, Tracer) and not np.all(np.isfinite(trajectory)):
        raise ValueError("nufft needs a finite trajectory, got one with NaN or infinity")
    if not 3 <= width <= 14 or width % 1 or not 1.2 < oversampling <= 2:
        raise ValueError(f"nufft needs an integer 3 <= width <= 14 and 1.2 < oversampling <= 2, got {width} and {oversampling}")
    if backend not in ("gridding", "finufft"):
        raise ValueError(f"nufft needs backend 'gridding' or 'finufft', got {backend!r}")
    if backend == "finufft":
        _finufft()
    trajectory = jnp.asarray(trajectory)
    trajectory = trajectory if jnp.issubdtype(trajectory.dtype, jnp.floating) else trajectory.astype(float)
    grid_size = tuple(linalg.even_fast_length(max(n * oversampling, width + 1)) for n in image_size)
    return Nufft(trajectory, image_size, grid_size, int(width), backend)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Nufft:
    """y = F x at the points of leaf `trajectory` `[..., d]`."""

    trajectory: Leaf
    image_size: tuple[int, ...] = field(metadata={"static": True})
    grid_size: tuple[int, ...] = field(metadata={"static": True})
    width: int = field(metadata={"static": True})
    backend: str = field(metadata={"static": True})

    @linalg.traced_once
    def __call__(self, x):
        """F x: complex `[..., *image_size]` to `[..., *samples]`."""
        if x.shape[-len(self.image_size) :] != self.image_size:
            raise ValueError(f"nufft of an image {self.image_size} got an array {x.shape}")
        return linalg.linear_with_adjoint(self._forward, self._adjoint, linalg.complex_of(x), self)

    @linalg.traced_once
    def adjoint(self, y):
        """F^H y: complex `[..., *samples]` to `[..., *image_size]`."""
        samples = self.trajectory.shape[:-1]
        if y.shape[-len(samples) :] != samples:
            raise ValueError(f"nufft of samples {samples} got data {y.shape}")
        return linalg.linear_with_adjoint(self._adjoint, self._forward, linalg.complex_of(y), self)

    def interpolate(self, grid):
        """Values at the samples of a function given on the padded grid: real `[prod grid, c]` (FFT order) to `[samples, c]`, not normalised."""
        starts, weights = self._windows(grid.dtype)
        wrapped = grid.reshape(*self.grid_size, -1)
        wrapped = jnp.pad(wrapped, [(0, self.width - 1)] * len(self.grid_size) + [(0, 0)], mode="wrap")
        return _gather(wrapped, starts, weights)

    def spread(self, values):
        """The transpose of `interpolate`: real `[samples, c]` to `[prod grid, c]`."""
        starts, weights = self._windows(values.dtype)
        grid = _scatter(values, starts, weights, tuple(n + self.width - 1 for n in self.grid_size))
        for axis, n in enumerate(self.grid_size):
            inside, beyond = jnp.split(grid, [n], axis)
            grid = inside + jnp.pad(beyond, [(0, n - self.width + 1 if i == axis else 0) for i in range(grid.ndim)])
        return grid.reshape(-1, grid.shape[-1])

    def kernel_integral(self):
        """Integral of the separable kernel over the padded grid, a number."""
        return math.prod(self.width * (1 - math.exp(-2 * b)) / (2 * b * float(special.i0e(b))) for b in self._shapes())

    def _forward(self, x):
        rank, samples = len(self.image_size), self.trajectory.shape[:-1]
        if self.backend == "finufft":
            return self._by_finufft(x, "nufft2").reshape(x.shape[:-rank] + samples)
        images = x.reshape(-1, *self.image_size) * self._apodisation(x.real.dtype)[None]
        margins = [(g // 2 - n // 2, g - g // 2 - n + n // 2) for n, g in zip(self.image_size, self.grid_size, strict=True)]
        grid = jnp.fft.fftn(jnp.pad(images, [(0, 0), *margins]), axes=range(1, rank + 1)).reshape(len(images), -1)
        values = _turned(self.interpolate(_turned(jnp.concatenate([grid.real, grid.imag]))))
        return lax.complex(values[: len(images)], values[len(images) :]).reshape(x.shape[:-rank] + samples)

    def _adjoint(self, y):
        rank, lead = len(self.image_size), y.shape[: y.ndim - self.trajectory.ndim + 1]
        if self.backend == "finufft":
            return self._by_finufft(y, "nufft1").reshape(lead + self.image_size)
        values = y.reshape(-1, math.prod(self.trajectory.shape[:-1]))
        count = len(values)
        grid = _turned(self.spread(_turned(jnp.concatenate([values.real, values.imag])))).reshape(2, count, *self.grid_size)
        images = jnp.fft.ifftn(lax.complex(grid[0], grid[1]), axes=range(1, rank + 1), norm="forward")
        for axis, (n, g) in enumerate(zip(self.image_size, self.grid_size, strict=True), 1):
            images = lax.slice_in_dim(images, g // 2 - n // 2, g // 2 - n // 2 + n, axis=axis)
        return (images * self._apodisation(y.real.dtype)[None]).reshape(lead + self.image_size)

    def _by_finufft(self, z, name):
        """The same sums by jax-finufft, which wants radians a pixel."""
        k = self.trajectory.reshape(-1, len(self.image_size)).astype(z.real.dtype)
        points = [2 * math.pi / n * k[:, axis] for axis, n in enumerate(self.image_size)]
        scale = 1 / math.sqrt(math.prod(self.image_size))
        accuracy = max(math.exp(-math.pi * self.width * math.sqrt(1 - self.image_size[0] / self.grid_size[0])), 1e-14)
        if name == "nufft2":
            return scale * _finufft().nufft2(z.reshape(-1, *self.image_size), *points, eps=accuracy, iflag=-1)
        return scale * _finufft().nufft1(self.image_size, z.reshape(-1, len(k)), *points, eps=accuracy, iflag=1)

    def _shapes(self):
        """The kernel's shape parameter for every axis."""
        ratios = [g / n for n, g in zip(self.image_size, self.grid_size, strict=True)]
        return [math.pi * math.sqrt((self.width / r) ** 2 * (r - 0.5) ** 2 - 0.8) for r in ratios]

    def _apodisation(self, dtype):
        """What the image is multiplied with before the FFT: one over the transform of the kernel, and the scale."""
        product = jnp.full((1,) * len(self.image_size), 1 / math.sqrt(math.prod(self.image_size)), dtype)
        for axis, (n, g, beta) in enumerate(zip(self.image_size, self.grid_size, self._shapes(), strict=True)):
            root = np.sqrt(beta**2 - (np.pi * self.width * (np.arange(n) - n // 2) / g) ** 2)
            factor = special.i0e(beta) * root / (self.width * (np.exp(root - beta) - np.exp(-root - beta)) / 2)
            product = product * jnp.asarray(factor, dtype).reshape([-1 if i == axis else 1 for i in range(len(self.image_size))])
        return product

    def _windows(self, dtype):
        """For every axis the first grid point under each sample's kernel `[samples]` and the kernel's values from there on `[width, samples]`."""
        k = self.trajectory.reshape(-1, len(self.image_size)).astype(dtype)
        starts, weights = [], []
        for axis, (n, g, beta) in enumerate(zip(self.image_size, self.grid_size, self._shapes(), strict=True)):
            nearest = jnp.round(lax.stop_gradient(k[:, axis]))
            # the period in floats, which are exact for it and know no overflow; the rest in integers, so that no digit of k is lost
            whole, rest = jnp.divmod(jnp.mod(nearest, n).astype(jnp.int32) * g, n)
            place = (rest.astype(dtype) + (k[:, axis] - nearest) * g) / n - self.width / 2
            first = lax.stop_gradient(-linalg.below(-place, self.width))
            start = jnp.mod(whole + first.astype(jnp.int32), g)
            tap = jnp.arange(self.width, dtype=jnp.int32)[:, None]
            sign = 1 - 2 * ((start[None] + tap) & 1)  # the image lies in the middle of the padded one
            starts.append(start)
            weights.append(sign.astype(dtype) * _kernel(first - place, self.width, beta))
        return starts, weights


def _kernel(t, width, beta):
    """Kaiser-Bessel values `[width, samples]` at the taps t + 0, 1, ... - width / 2, a polynomial in t from [0, 1) for each."""
    coefficients = _polynomials(width, beta)
    t = (2 * t - 1)[None]
    total = jnp.zeros((width, 1), t.dtype)
    for row in coefficients:
        total = total * t + jnp.asarray(row, t.dtype)[:, None]
    return total


@functools.lru_cache(maxsize=64)
def _polynomials(width, beta):
    """Coefficients `[degree + 1, width]`, highest power first, good to 10^-(width + 2) of the peak."""
    nodes = np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    z = ((nodes[:, None] + 1) / 2 + np.arange(width)) * (2 / width) - 1
    root = np.sqrt(np.maximum(1 - z**2, 0))
    values = special.i0e(beta * root) * np.exp(beta * (root - 1)) / special.i0e(beta)
    for degree in range(width, 40):
        series = np.polynomial.chebyshev.chebfit(nodes, values, degree)
        if np.abs(np.polynomial.chebyshev.chebval(nodes, series).T - values).max() < 10.0 ** -(width + 2):
            break
    powers = np.zeros_like(series)
    for tap in range(width):
        column = np.polynomial.chebyshev.cheb2poly(series[:, tap])
        powers[: len(column), tap] = column
    return powers[::-1]


def _turned(matrix):
    """The transpose, moved in memory: as a mere change of strides it would make the gather and the scatter beside it 4 to 8 times slower."""

    def in_rows(a):
        return lax.optimization_barrier(with_layout_constraint(a, Layout((0, 1))))

    return in_rows(in_rows(matrix).T)


def _gather(grid, starts, weights):
    """Sums over windows: grid `[*g, c]` to `[samples, c]`; the last axis unrolled, so that one loop moves rows of c numbers."""
    strides = [math.prod(grid.shape[axis + 1 : -1]) for axis in range(len(starts))]
    rows, base = grid.reshape(-1, grid.shape[-1]), sum(s * start for s, start in zip(strides, starts, strict=True))

    def window(base, axis):
        if axis == len(starts) - 1:
            taps = enumerate(weights[axis])
            return sum(rows.at[base + j].get(mode="promise_in_bounds") * weight[:, None] for j, weight in taps)

        @jax.checkpoint  # or a gradient for the trajectory keeps every tap's rows
        def step(total, tap):
            offset, weight = tap
            return total + window(base + offset, axis + 1) * weight[:, None], None

        offsets = strides[axis] * jnp.arange(len(weights[axis]), dtype=base.dtype)
        return lax.scan(step, jnp.zeros((len(base), grid.shape[-1]), grid.dtype), (offsets, weights[axis]))[0]

    return window(base, 0)


def _scatter(values, starts, weights, shape):
    """The transpose of `_gather`: values `[samples, c]` to `[*shape, c]`, whole windows at a time."""
    count, channels, rank = *values.shape, len(shape)
    chunk = min(_CHUNK, count)
    fill = -count % chunk

    def parts(a):
        return jnp.moveaxis(jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, fill)]).reshape(*a.shape[:-1], -1, chunk), -2, 0)

    windows = lax.ScatterDimensionNumbers(tuple(range(1, rank + 2)), (), tuple(range(rank)))

    def step(grid, part):
        start, weight, value = part
        update = value.T.reshape(chunk, *(1,) * rank, channels)
        for axis, w in enumerate(weight):
            update = update * w.T.reshape(chunk, *(-1 if i == axis else 1 for i in range(rank)), 1)
        return lax.scatter_add(grid, start.T, update, windows, mode="promise_in_bounds"), None

    chunks = parts(jnp.stack(starts)), [parts(w) for w in weights], parts(values.T)
    return lax.scan(step, jnp.zeros((*shape, channels), values.dtype), chunks)[0]


def _finufft():
    """The optional package."""
    try:
        return importlib.import_module("jax_finufft")
    except ImportError as error:
        raise ImportError("nufft with backend 'finufft' needs the package jax-finufft: pip install jax-finufft") from error
