"""Contract rows of the MRI operators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from row import Row

from medjax.operators.algebra import compose
from medjax.operators.coil_sensitivities import coil_sensitivities
from medjax.operators.complex_channels import complex_channels
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.nufft import nufft
from medjax.operators.off_resonance import off_resonance
from medjax.operators.phase_constrained import phase_constrained
from medjax.operators.sense import sense
from medjax.operators.toeplitz import toeplitz


def dft(x):
    """The orthonormal sum over pixels of `[h, w]`, both origins at n // 2."""
    rows, columns = (np.arange(n) - n // 2 for n in x.shape)
    left, right = (np.exp(-2j * np.pi * np.outer(k, k) / len(k)) / np.sqrt(len(k)) for k in (rows, columns))
    return left @ np.asarray(x) @ right


def _masked(A, x):
    return np.asarray(A.mask) * dft(x)


def _complex(x):
    return np.asarray(x)[..., 0] + 1j * np.asarray(x)[..., 1]


def _channels(key):
    return compose(masked_fourier(jax.random.uniform(key, (6, 7))), complex_channels())


def nudft(trajectory, x):
    """The sum over pixels of `[..., *n]` for every sample, written out."""
    k = np.asarray(trajectory)
    shape = x.shape[x.ndim - k.shape[-1] :]
    places = np.stack(np.meshgrid(*((np.arange(n) - n // 2) / n for n in shape), indexing="ij"), -1).reshape(-1, k.shape[-1])
    waves = np.exp(-2j * np.pi * k.reshape(-1, k.shape[-1]) @ places.T) / np.sqrt(len(places))
    return (np.asarray(x).reshape(-1, len(places)) @ waves.T).reshape(x.shape[: x.ndim - k.shape[-1]] + k.shape[:-1])


def toeplitz_matrix(trajectory, weights, x):
    """A^H W A by the dense matrix of the sums."""
    basis = np.eye(x.size, dtype=complex).reshape(x.size, *x.shape)
    matrix = nudft(trajectory, basis).reshape(x.size, -1).T
    return (matrix.conj().T @ (np.asarray(weights).ravel() * (matrix @ np.asarray(x).ravel()))).reshape(x.shape)


def in_field(fourier, field_map, times, x):
    """What `fourier` gives where every sample sees the object as it has turned at its own time."""
    turned = [np.asarray(fourier(x * jnp.exp(-2j * jnp.pi * field_map * t))) for t in times.ravel()]
    return np.stack([turn.reshape(-1)[i] for i, turn in enumerate(turned)]).reshape(times.shape)


def draw(key, shape):
    return jax.random.normal(key, shape, jnp.complex128)


def points(key, samples, shape):
    return jax.random.uniform(key, (*samples, len(shape)), minval=-0.5, maxval=0.5) * jnp.broadcast_to(jnp.array(shape), (*samples, len(shape)))


def _coils(A, x):
    images = np.einsum("schw,shw->chw", np.asarray(A.maps).reshape(-1, *A.maps.shape[-3:]), np.asarray(x).reshape(-1, *A.mask.shape))
    return np.stack([np.asarray(A.mask) * dft(image) for image in images])


def _sense(shape, sets=()):
    return lambda key: sense(draw(key, (*sets, 3, *shape)), 1.0 * jax.random.bernoulli(key, 0.6, shape))


def _nufft(A, x):
    return nudft(A.trajectory, x)


def _finufft(key):
    pytest.importorskip("jax_finufft")
    return nufft(points(key, (40,), (9, 10)), (9, 10), backend="finufft")


def _volume(key):
    return nufft(points(key, (30,), (4, 5, 6)), (4, 5, 6), width=4)


def _toeplitz_parts(key):
    return points(key, (40,), (6, 7)), jax.random.uniform(key, (40,))


_jitted_toeplitz = jax.jit(toeplitz)


def _toeplitz(key):
    k, weights = _toeplitz_parts(key)
    return _jitted_toeplitz(nufft(k, (6, 7), width=9, oversampling=2.0), weights)


def _toeplitz_truth(A, x):
    return toeplitz_matrix(*_toeplitz_parts(jax.random.key(5)), x)


FIELD, LINES = 60 * np.sin(np.arange(56).reshape(8, 7) / 5.0), np.linspace(0.0, 0.02, 8)[:, None] * np.ones((1, 7))


def _epi(key):
    return off_resonance(masked_fourier(jax.random.uniform(key, (8, 7))), jnp.asarray(FIELD), LINES, tolerance=1e-7)


OPERATORS = {
    "masked_fourier": Row(lambda key: masked_fourier(1.0 * jax.random.bernoulli(key, 0.5, (10, 15))), (10, 15), jnp.complex128, _masked),
    "masked_fourier_bool": Row(lambda key: masked_fourier(jax.random.bernoulli(key, 0.5, (9, 8))), (9, 8), jnp.complex128, _masked),
    "complex_channels": Row(
        lambda key: complex_channels(), (6, 7, 2), jnp.float64, lambda A, x: _complex(x), wrong=((6, 7), (6, 7, 3)), wrong_data=()
    ),
    "fourier_of_channels": Row(_channels, (6, 7, 2), jnp.float64, lambda A, x: _masked(A.outer, _complex(x))),
    "sense": Row(_sense((6, 10)), (6, 10), jnp.complex128, _coils),
    "sense_odd": Row(_sense((7, 9)), (7, 9), jnp.complex128, _coils),
    "sense_sets": Row(_sense((5, 6), (2,)), (2, 5, 6), jnp.complex128, _coils),
    "phase_constrained": Row(
        lambda key: phase_constrained(jax.random.normal(key, (5, 6))),
        (5, 6),
        jnp.float64,
        lambda A, x: (np.cos(A.phase) + 1j * np.sin(A.phase)) * np.asarray(x),
    ),
    "coil_sensitivities": Row(
        lambda key: coil_sensitivities(draw(key, (3, 4, 5))), (4, 5), jnp.complex128, lambda A, x: np.asarray(A.maps) * np.asarray(x)
    ),
    # what the kernel's width and oversampling leave, see the docstring
    "nufft": Row(lambda key: nufft(points(key, (40,), (9, 10)), (9, 10)), (9, 10), jnp.complex128, _nufft, 1e-5, ((10,), (9, 11)), ((41,),)),
    "nufft_finufft": Row(_finufft, (9, 10), jnp.complex128, _nufft, 1e-5, ((10,), (9, 11)), ((41,),)),
    "nufft_volume": Row(_volume, (4, 5, 6), jnp.complex128, _nufft, 4e-3, ((5, 6), (4, 5, 7)), ((31,),)),
    "toeplitz": Row(lambda key: _toeplitz(jax.random.key(5)), (6, 7), jnp.complex128, _toeplitz_truth, 2e-7, ((7,), (6, 8)), ((7,), (6, 8))),
    "off_resonance": Row(_epi, (8, 7), jnp.complex128, lambda A, x: in_field(A.fourier, FIELD, LINES, x), 1e-6),  # asked for 1e-7
}
