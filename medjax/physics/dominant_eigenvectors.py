"""Leading eigenvectors of one small Hermitian matrix a pixel."""

import jax.numpy as jnp
import numpy as np
from jax import lax


def dominant_eigenvectors(gram, num_vectors=1, num_steps=100):
    r"""Orthogonal iteration for many positive semidefinite matrices at once.

    .. math::
        V \leftarrow \operatorname{orth}(G V), \qquad \lambda_i = v_i^H G v_i

    Pixels lie along the fast axes, so each step is one vectorised sweep; a batched `eigh` of 8 x 8 matrices takes some three times as long, and has
    no gradient where two of the small eigenvalues coincide. v_i converges like :math:`(\lambda_{i+1} / \lambda_i)^k` in k steps.

    Args:
      gram: G `[c, c, ...]`.
      num_vectors: m in [1, c], how many.
      num_steps: k.

    Returns:
      v `[m, c, ...]`, orthonormal, of any phase, and lambda `[m, ...]` in falling order (once converged); both 0 where G is 0.

    Raises:
      ValueError: when m lies outside [1, c].

    Reference:
      Golub & Van Loan, Matrix Computations, section 8.2, orthogonal iteration.
    """
    channels, pixels = gram.shape[0], gram.shape[2:]
    if not 1 <= num_vectors <= channels:
        raise ValueError(f"dominant_eigenvectors needs 1 to {channels} vectors of matrices {gram.shape[:2]}, got {num_vectors}")
    trace = jnp.real(jnp.trace(gram))
    trace = jnp.where(trace > 0, trace, 1)
    gram = gram / trace[None, None]
    # columns of a chirp times a Fourier matrix: orthonormal, and in no special relation to coils on a ring
    index = np.arange(channels)
    start = np.exp(2.4j * index**2 + 2j * np.pi * np.outer(np.arange(num_vectors), index) / channels) / np.sqrt(channels)
    start = jnp.asarray(start if jnp.iscomplexobj(gram) else np.linalg.qr(start.real.T)[0].T, gram.dtype)
    vectors = tuple(jnp.broadcast_to(v.reshape(-1, *[1] * len(pixels)), (channels, *pixels)) for v in start)

    def apply(v):
        return jnp.sum(gram * v[None], axis=1)

    def step(_, vectors):
        out = []
        for v in map(apply, vectors):
            for u in out:
                v = v - u * jnp.sum(u.conj() * v, axis=0, keepdims=True)
            out.append(_normalise(v))
        return tuple(out)

    vectors = lax.fori_loop(0, num_steps, step, vectors)
    values = jnp.stack([jnp.real(jnp.sum(v.conj() * apply(v), axis=0)) * trace for v in vectors])
    return jnp.stack(vectors), values


def _normalise(v):
    """v / |v| over the first axis, 0 where v is 0."""
    square = jnp.sum(jnp.real(v) ** 2 + jnp.imag(v) ** 2, axis=0, keepdims=True)
    positive = square > 0
    return v * jnp.where(positive, lax.rsqrt(jnp.where(positive, square, 1)), 0)
