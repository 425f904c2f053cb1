"""Singular values made smaller by a threshold."""

import functools

import jax
import jax.numpy as jnp

from medjax import linalg


def singular_value_threshold(x, threshold, by_gram: bool = False):
    r"""Soft thresholding of the singular values of matrices.

    .. math:: U \max(\Sigma - t, 0) V^H = X f(X^H X), \quad f(\lambda) = \max(0, 1 - t \lambda^{-1/2})

    The derivative is that of f by divided differences, which stay finite where singular values are equal or 0.

    Args:
      x: real or complex `[..., m, n]`.
      threshold: t >= 0, scalar.
      by_gram: the eigenvalues of the smaller Gram matrix instead of an SVD: 2 to 4 times as fast in large batches on a CPU. Its error is about
        eps s^2 / t, with s the largest singular value, and at most sqrt(eps) s.

    Returns:
      Like x.

    Reference:
      Cai, Candes & Shen (2010), A singular value thresholding algorithm for matrix completion, theorem 2.1, https://doi.org/10.1137/080738970;
      derivative: Daleckii & Krein, in Higham (2008), Functions of Matrices, theorem 3.11.
    """
    threshold = jnp.asarray(threshold, linalg.real_dtype(x))
    if x.shape[-2] < x.shape[-1]:
        return jnp.swapaxes(_shrink(jnp.swapaxes(x, -1, -2), threshold, by_gram), -1, -2)
    return _shrink(x, threshold, by_gram)


def _adjoint(a):
    return jnp.conj(jnp.swapaxes(a, -1, -2))


def _spectrum(x, by_gram):
    """Singular values `[..., n]` and right singular vectors `[..., n, n]` of tall matrices."""
    if by_gram:
        squares, vectors = jnp.linalg.eigh(_adjoint(x) @ x, symmetrize_input=False)
        return jnp.sqrt(jnp.maximum(squares, 0)), vectors
    _, values, rows = jnp.linalg.svd(x, full_matrices=False)
    return values, _adjoint(rows)


def _factor(values, vectors, threshold):
    """f(X^H X) `[..., n, n]`."""
    above = values > threshold
    kept = jnp.where(above, 1 - threshold / jnp.where(above, values, 1), 0)
    return (vectors * kept[..., None, :]) @ _adjoint(vectors)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _shrink(x, threshold, by_gram):
    return x @ _factor(*_spectrum(x, by_gram), threshold)


@_shrink.defjvp
def _shrink_jvp(by_gram, primals, tangents):
    (x, threshold), (dx, dthreshold) = primals, tangents
    values, vectors = _spectrum(x, by_gram)
    factor = _factor(values, vectors, threshold)
    above = values > threshold
    inverse = jnp.where(above, 1 / jnp.where(above, values, 1), 0)
    # (f(a^2) - f(b^2)) / (a^2 - b^2): with both above t, with the larger one above, 0 below
    a, b = jnp.maximum(values[..., :, None], values[..., None, :]), jnp.minimum(values[..., :, None], values[..., None, :])
    both, one = b > threshold, (a > threshold) & (b <= threshold)
    differences = jnp.where(both, threshold / jnp.where(both, a * b * (a + b), 1), 0)
    differences += jnp.where(one, (a - threshold) / jnp.where(one, a * (a - b) * (a + b), 1), 0)
    half = _adjoint(x @ vectors) @ (dx @ vectors)
    dfactor = vectors @ (differences * (half + _adjoint(half))) @ _adjoint(vectors) - dthreshold * (vectors * inverse[..., None, :]) @ _adjoint(
        vectors
    )
    return x @ factor, dx @ factor + x @ dfactor
