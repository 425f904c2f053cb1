"""Orthonormal wavelets with compact support."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from medjax import linalg


def wavelet(shape, name: str = "db4", levels: int = 3):
    r"""Daubechies' orthonormal wavelet transform of an image or volume, periodic.

    One level along one axis, with the scaling filter h of L = 2 N taps,

    .. math::
        a_k = \sum_{i=0}^{L-1} h_i \, x_{2 k + i - (N - 1)}, \quad d_k = \sum_{i=0}^{L-1} (-1)^i h_{L - 1 - i} \, x_{2 k + i - (N - 1)}

    indices modulo the length, along all axes; the next level treats the corner of all a. The output has the shape of the input: per axis the
    first half holds a, the second d, and so on inside the corner. That is the layout that `pywt.coeffs_to_array` gives the coefficients of
    `pywt.wavedecn(x, name, mode="periodization")`, with the same values. A^H is the inverse.

    Args:
      shape: of x, one to three axes, each divisible by 2^levels.
      name: "haar" or "db1" to "db10", the number counting the vanishing moments N: Daubechies' filter of 4 taps is "db2", that of 8 taps "db4",
        that of 16 taps "db8".
      levels: number of levels.

    Returns:
      An operator from real or complex `shape` to the same.

    Raises:
      ValueError: for an unknown name, or a shape that 2^levels does not divide.

    Reference:
      Daubechies (1992), Ten Lectures on Wavelets, chapter 6, https://doi.org/10.1137/1.9781611970104; Mallat (1989), A theory for multiresolution
      signal decomposition, https://doi.org/10.1109/34.192463
    """
    shape, known = tuple(int(n) for n in shape), ("haar", *(f"db{n}" for n in range(1, 11)))
    if name not in known:
        raise ValueError(f"got wavelet {name!r}, one of {', '.join(known)} is needed")
    if not 1 <= len(shape) <= 3 or levels < 1 or any(n < 1 or n % 2**levels for n in shape):
        raise ValueError(f"wavelet needs one to three axes, each divisible by 2^levels with levels >= 1, got {shape} and {levels} levels")
    return Wavelet(shape, 1 if name == "haar" else int(name[2:]), levels)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Wavelet:
    """Orthonormal wavelet transform; build it with `wavelet`. No leaves."""

    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    vanishing_moments: int = dataclasses.field(metadata={"static": True})
    levels: int = dataclasses.field(metadata={"static": True})

    def __call__(self, x):
        """Coefficients of x."""
        return self._through_levels(linalg.inexact(x), range(self.levels), self._analyse)

    def adjoint(self, y):
        """The image of coefficients y; also the inverse."""
        return self._through_levels(linalg.inexact(y), reversed(range(self.levels)), self._synthesise)

    def _through_levels(self, x, levels, transform):
        if x.shape != self.shape:
            raise ValueError(f"image is {list(x.shape)}, the wavelet says {list(self.shape)}")
        for level in levels:
            corner = tuple(slice(n >> level) for n in self.shape)
            part = x[corner]
            for axis in range(x.ndim):
                part = jnp.moveaxis(transform(jnp.moveaxis(part, axis, 0)), 0, axis)
            x = x.at[corner].set(part)
        return x

    def _filters(self):
        """h and g as lists of Python numbers, which leave the dtype of x alone."""
        low = _scaling_filter(self.vanishing_moments)
        return low.tolist(), (low[::-1] * (-1.0) ** np.arange(len(low))).tolist()

    def _analyse(self, x):
        """One level along the first axis: weighted sums of the phases x_{2k} and x_{2k + 1}, wrapped around at both ends."""
        low, high = self._filters()
        half, before, after = x.shape[0] // 2, self.vanishing_moments // 2, (len(low) - self.vanishing_moments) // 2
        phases = [jnp.pad(x[p::2], [(before, after)] + [(0, 0)] * (x.ndim - 1), mode="wrap") for p in (0, 1)]
        approximation = detail = jnp.zeros((half, *x.shape[1:]), x.dtype)
        for i in range(len(low)):
            shift, phase = divmod(i - (self.vanishing_moments - 1), 2)
            part = phases[phase][before + shift : before + shift + half]
            approximation, detail = approximation + low[i] * part, detail + high[i] * part
        return jnp.concatenate([approximation, detail])

    def _synthesise(self, y):
        """The transpose of `_analyse`."""
        low, high = self._filters()
        approximation, detail = jnp.split(y, 2)
        phases = [jnp.zeros_like(detail), jnp.zeros_like(detail)]
        for i in range(len(low)):
            shift, phase = divmod(i - (self.vanishing_moments - 1), 2)
            phases[phase] += jnp.roll(low[i] * approximation + high[i] * detail, shift, 0)
        return jnp.stack(phases, 1).reshape(y.shape)


def _scaling_filter(vanishing_moments):
    """Daubechies' filter h `[2 N]` of sum sqrt(2), with the root inside the unit circle of each pair (minimum phase)."""
    N = vanishing_moments
    # |H|^2 = 2 cos(w / 2)^2N P(sin(w / 2)^2) with P(y) = sum_k C(N - 1 + k, k) y^k, and y = (2 - z - 1 / z) / 4
    half = 1 - 2 * np.roots([math.comb(N - 1 + k, k) for k in range(N)][::-1])  # (z + 1 / z) / 2
    root = half - np.sqrt(half - 1 + 0j) * np.sqrt(half + 1 + 0j)
    inner = np.where(np.abs(root) > 1, 1 / root, root)
    h = np.real(np.poly(np.concatenate([-np.ones(N), inner])))
    return h * math.sqrt(2) / h.sum()
