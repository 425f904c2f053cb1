"""Contract rows of the operators between images, and of those made of operators."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from row import Row
from rows_ct import ANGLES, rays
from scipy import ndimage
from skimage import transform

from medjax.operators.algebra import add, adjoint, compose, each, identity, normal, restrict, scale, stack
from medjax.operators.blur import blur
from medjax.operators.complex_channels import complex_channels
from medjax.operators.downsample import downsample
from medjax.operators.gradient import gradient
from medjax.operators.inpaint import inpaint
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.measured_channels import measured_channels
from medjax.operators.parallel_beam import parallel_beam
from medjax.operators.pet import pet
from medjax.operators.ultrasound import ultrasound
from medjax.operators.upsample import upsample
from medjax.operators.warp import warp
from medjax.operators.wavelet import wavelet

DAUBECHIES_2 = np.array([1 + 3**0.5, 3 + 3**0.5, 3 - 3**0.5, 1 - 3**0.5]) / 4 / 2**0.5  # 4 taps


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Flip:
    """An operator without leaves, from images to images."""

    def __call__(self, x):
        """Rows in the other order."""
        return x[::-1]

    adjoint = __call__


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Matrix:
    """w x on columns, an operator from `[n]` to `[m]` with the leaf w."""

    w: jax.Array

    def __call__(self, x):
        """w x."""
        return self.w.astype(x.dtype) @ x

    def adjoint(self, y):
        """w^H y."""
        return jnp.conj(self.w.astype(y.dtype)).T @ y


def _matrix(key, *shape):
    return Matrix(jax.random.normal(key, shape))


def _scaled(A, x):
    return 0.7 * rays(A.inner, x)


def _composed(A, x):
    return (2 - 1j) * (rays(A.outer, x.real[::-1]) + 1j * rays(A.outer, x.imag[::-1]))


def _added(A, x):
    return (np.asarray(A.first.w) + 0.3 * np.asarray(A.second.inner.w)) @ np.asarray(x)


def _several(key):
    return stack(complex_channels(), compose(_matrix(key, 3, 4), Flip()), scale(jnp.asarray(0.2), identity()))


def _stacked(A, x):
    x = np.asarray(x)
    return x[:, 0] + 1j * x[:, 1], np.asarray(A.operators[1].outer.w) @ x[::-1], 0.2 * x


def _frames(key):
    """A mask of its own for every image, and a flip and a factor that all share."""
    factor = jnp.asarray(0.3)
    masks = jax.random.uniform(key, (3, 4, 5))
    return each(*[compose(inpaint(m), scale(factor, Flip())) for m in masks])


def _normal(A, x):
    return np.asarray(A.inner.w).T @ (np.asarray(A.inner.w) @ np.asarray(x))


def _restricted(A, x):
    return np.asarray(A.inner.mask * x)[[5, 1, 1, 7]]


def convolved(A, x):
    """The sum over kernel entries of shifted images."""
    kernel, x, out = np.asarray(A.kernel), np.asarray(x), 0
    for j in np.ndindex(kernel.shape):
        shift = [a - n // 2 for a, n in zip(j, kernel.shape, strict=True)]
        moved = np.roll(x, shift, range(x.ndim)) if A.boundary == "periodic" else ndimage.shift(x, shift, order=0, mode="grid-constant")
        out = out + kernel[j] * moved
    return out


def _resized(A, x):
    shape = [n // w.shape[1] for n, w in zip(x.shape, A.weights, strict=True)]
    return jax.image.resize(x, shape, "cubic", antialias=True)


def _block_means(A, x):
    return np.asarray(x).reshape(4, 3, 5, 2).mean((1, 3))


def _one_level(low, x, axis):
    """Daubechies' step along one axis by its matrix, row by row."""
    length, high = x.shape[axis], low[::-1] * (-1.0) ** np.arange(low.size)
    matrix = np.zeros((length, length))
    for k, i in itertools.product(range(length // 2), range(low.size)):
        column = (2 * k + i - (low.size // 2 - 1)) % length
        matrix[k, column] += low[i]
        matrix[length // 2 + k, column] += high[i]
    return np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)


def _wavelets(low):
    def truth(A, x):
        x = np.array(x)
        for level in range(A.levels):
            corner = tuple(slice(n >> level) for n in x.shape)
            for axis in range(x.ndim):
                x[corner] = _one_level(low, x[corner], axis)
        return x

    return truth


def _differences(A, x):
    x, out = np.asarray(x), np.zeros((len(A.spacing), *x.shape), x.dtype)
    for axis, step in enumerate(np.asarray(A.spacing)):
        to, of = (tuple(slice(*bounds) if a == axis else slice(None) for a in range(x.ndim)) for bounds in ((1, None), (None, -1)))
        out[axis][of] = (x[to] - x[of]) / step
    return out


def _moved(A, x):
    places = np.asarray(A.field) + np.indices(A.field.shape[1:])
    mode = {"zero": "grid-constant", "nearest": "nearest"}[A.boundary]
    return ndimage.map_coordinates(np.asarray(x), places, order=1, mode=mode)


_jitted_pet = jax.jit(pet)


def _pet(key):
    return _jitted_pet(parallel_beam(12, ANGLES, model="joseph"), 0.1 * jax.random.uniform(key, (12, 12)), jax.random.uniform(key, (6, 17)))


def echoes(A, x):
    """Channel data, scatterer by scatterer, with the sum over samples written out."""
    out = np.zeros((len(A.transmits), len(A.elements), A.num_samples), complex)
    pulse, k = A.pulse(), np.arange(A.num_samples)
    reach = np.arange(len(pulse)) - len(pulse) // 2
    for t, e, r, c in np.ndindex(*out.shape[:2], *x.shape):
        (px, pz), transmit = np.asarray(A.grid[:, r, c]), np.asarray(A.transmits[t])
        away = pz * np.cos(transmit) + px * np.sin(transmit) if transmit.ndim == 0 else np.hypot(px - transmit[0], pz - transmit[1])
        delay = (away + np.hypot(px - A.elements[e], pz)) / A.sound_speed
        if A.f_number and abs(px - A.elements[e]) > pz / (2 * A.f_number):
            continue
        hat = np.maximum(0, 1 - np.abs(k - (delay - A.first_time) * A.sampling_rate))
        line = sum(g * np.interp(k - shift, k, hat, left=0, right=0) for g, shift in zip(pulse, reach, strict=True))
        out[t, e] += x[r, c] * np.exp(-2j * np.pi * A.frequency * delay) * line
    return out


def _contrasts(key):
    """Two complex contrasts of five real channels, each with its own mask; the fifth channel was not measured."""
    masks = jax.random.uniform(key, (2, 6, 5))
    one, other = (compose(masked_fourier(mask), complex_channels()) for mask in masks)
    return measured_channels({(3, 0): one, (1, 2): other}, 5)


def _two_spectra(A, x):
    x = np.asarray(x)
    spectra = [np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x[..., a] + 1j * x[..., b]), norm="ortho")) for a, b in ((3, 0), (1, 2))]
    return np.stack([np.asarray(each.outer.mask) * spectrum for each, spectrum in zip(A.operators, spectra, strict=True)])


def _plane_waves(key):
    return ultrasound((4, 5), 0.2, 4, 0.3, 40, first_depth=2.0, angles=(-0.2, 0.1), first_time=1.5)


def _synthetic(key):
    sources = ((-0.5, 0.0), (0.3, -1.0))
    return ultrasound((3, 4), 0.25, 3, 0.4, 30, first_depth=2.0, sources=sources, first_time=2.0, f_number=1.7, sampling_rate=6.0)


def _field(key, *shape):
    return 2 * jax.random.normal(key, (len(shape), *shape))


REAL, COMPLEX = jnp.float64, jnp.complex128
COLUMN = {"wrong": ((4,), ()), "wrong_data": ((4,), ())}  # a matrix takes several columns, too
OPERATORS = {
    "scale": Row(lambda key: scale(jnp.asarray(0.7), parallel_beam(12, ANGLES, model="joseph")), (12, 12), REAL, _scaled),
    "compose": Row(lambda key: compose(parallel_beam(12, ANGLES, model="joseph"), scale(jnp.asarray(2 - 1j), Flip())), (12, 12), COMPLEX, _composed),
    "add": Row(
        lambda key: add(_matrix(key, 3, 5), scale(jnp.asarray(0.3), _matrix(key, 3, 5))),
        (5,),
        COMPLEX,
        _added,
        wrong=((4,), ()),
        wrong_data=((4,), ()),
    ),
    "stack": Row(_several, (4, 2), REAL, _stacked, wrong=((4, 3), (5, 2))),
    "each": Row(_frames, (3, 4, 5), COMPLEX, lambda A, x: np.asarray(A.inner.outer.mask) * np.asarray(x)[:, ::-1] * 0.3),
    "adjoint": Row(
        lambda key: adjoint(_matrix(key, 3, 5)),
        (3,),
        REAL,
        lambda A, x: np.asarray(A.inner.w).T @ np.asarray(x),
        wrong=((4,), ()),
        wrong_data=((4,), ()),
    ),
    "normal": Row(lambda key: normal(_matrix(key, 3, 5)), (5,), COMPLEX, _normal, **COLUMN),
    "restrict": Row(lambda key: restrict(inpaint(jax.random.uniform(key, (8, 5))), [5, 1, 1, -1], 8), (8, 5), COMPLEX, _restricted),
    "identity": Row(lambda key: identity(), (4, 3), COMPLEX, lambda A, x: x, wrong=(), wrong_data=()),
    "blur": Row(lambda key: blur(jax.random.normal(key, (4, 3)), (7, 8)), (7, 8), COMPLEX, convolved),
    "blur_wide": Row(lambda key: blur(jax.random.normal(key, (9, 14)), (8, 5)), (8, 5), REAL, convolved),
    "blur_zero": Row(lambda key: blur(jax.random.normal(key, (4, 19)), (7, 8), "zero"), (7, 8), REAL, convolved),
    "blur_volume": Row(lambda key: blur(jax.random.normal(key, (3, 2, 4)), (4, 5, 6), "zero"), (4, 5, 6), REAL, convolved),
    "downsample": Row(lambda key: downsample((12, 10), (3, 2)), (12, 10), REAL, _block_means),
    "upsample": Row(lambda key: upsample((6, 5), (15, 8)), (6, 5), REAL, lambda A, x: transform.resize(np.asarray(x), (15, 8), order=1)),
    "downsample_cubic": Row(lambda key: downsample((12, 10), (3, 2), "cubic"), (12, 10), REAL, _resized),
    "inpaint": Row(lambda key: inpaint(jax.random.bernoulli(key, 0.5, (8, 7))), (8, 7), COMPLEX, lambda A, x: np.asarray(A.mask) * x),
    "inpaint_channels": Row(
        lambda key: inpaint(jax.random.uniform(key, (6, 7))),
        (6, 7, 2),
        REAL,
        lambda A, x: np.asarray(A.mask)[:, :, None] * x,
        wrong=((7, 6, 2), (6,)),
        wrong_data=((7, 6, 2), (6,)),
    ),
    "measured_channels": Row(_contrasts, (6, 5, 5), REAL, _two_spectra),
    "wavelet_haar": Row(lambda key: wavelet((8, 12), "haar", 2), (8, 12), COMPLEX, _wavelets(np.full(2, 0.5**0.5))),
    "wavelet_volume": Row(lambda key: wavelet((4, 8, 2), "db2", 1), (4, 8, 2), REAL, _wavelets(DAUBECHIES_2)),
    "gradient": Row(lambda key: gradient(), (6, 7), COMPLEX, _differences, wrong=((7,), ()), wrong_data=((6, 7), (3, 6, 7))),
    "gradient_volume": Row(
        lambda key: gradient(3, (3.0, 1.0, 0.5)), (4, 5, 6), REAL, _differences, wrong=((7,), (6, 7)), wrong_data=((3, 5, 6), (2, 4, 5, 6))
    ),
    "warp": Row(lambda key: warp(_field(key, 7, 8)), (7, 8), COMPLEX, _moved),
    "warp_nearest": Row(lambda key: warp(_field(key, 9, 6), "nearest"), (9, 6), REAL, _moved),
    "pet": Row(_pet, (12, 12), REAL, lambda A, x: np.asarray(A.factors) * rays(A.projector, x)),
    "ultrasound": Row(_plane_waves, (4, 5), COMPLEX, echoes),
    "ultrasound_sources": Row(_synthetic, (3, 4), COMPLEX, echoes),
    "warp_volume": Row(lambda key: warp(_field(key, 4, 5, 3)), (4, 5, 3), REAL, _moved),
}
