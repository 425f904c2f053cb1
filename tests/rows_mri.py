"""Contract rows of the MRI operators."""

import jax
import jax.numpy as jnp
import numpy as np
from row import Row

from medjax.operators.algebra import compose
from medjax.operators.complex_channels import complex_channels
from medjax.operators.masked_fourier import masked_fourier


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


OPERATORS = {
    "masked_fourier": Row(lambda key: masked_fourier(1.0 * jax.random.bernoulli(key, 0.5, (10, 15))), (10, 15), jnp.complex128, _masked),
    "masked_fourier_bool": Row(lambda key: masked_fourier(jax.random.bernoulli(key, 0.5, (9, 8))), (9, 8), jnp.complex128, _masked),
    "complex_channels": Row(
        lambda key: complex_channels(), (6, 7, 2), jnp.float64, lambda A, x: _complex(x), wrong=((6, 7), (6, 7, 3)), wrong_data=()
    ),
    "fourier_of_channels": Row(_channels, (6, 7, 2), jnp.float64, lambda A, x: _masked(A.outer, _complex(x))),
}
