"""The exact denoiser of a mixture of Gaussians, the reference of samplers where the posterior has several modes."""

import jax
import jax.numpy as jnp
import numpy as np

from medjax import checks
from medjax.typing import Denoiser


def mixture(weights, means, covariances) -> Denoiser:
    r"""Denoiser of x0 ~ sum_k w_k N(m_k, C_k).

    .. math::
        D(x, \sigma) = \sum_k r_k \bigl(m_k + C_k (C_k + \sigma^2 I)^{-1} (x - m_k)\bigr), \quad
        r_k \propto w_k \, N(x; m_k, C_k + \sigma^2 I)

    Its score is (D - x) / sigma^2, the gradient of `mixture_log_density`.

    Args:
      weights: `[K]` w_k > 0, of any sum.
      means: `[K, ...]` m_k, images of n pixels.
      covariances: C_k, a number for all or `[K]` (times the identity), `[K, ...]` like the means (diagonal), or `[K, n, n]`. They may be 0, so
        that the mixture is a set of images; then sigma > 0 is needed.

    Returns:
      A `Denoiser`.

    Raises:
      ValueError: where the shapes do not fit, weights are not positive or numbers and diagonals of covariances negative.

    Reference:
      The conditional mean of a mixture; Bishop (2006), eq. 2.81 and 9.23.
    """
    log_weights, eigenvalues, basis = _decomposed(weights, means, covariances)
    if jnp.ndim(covariances) == 0:
        return _alike(log_weights, means, covariances)

    def denoise(x, sigma):
        offsets = _turn(basis, _rows(x[None] - means))
        totals = eigenvalues + jnp.asarray(sigma, x.dtype) ** 2
        share = jax.nn.softmax(_log_joint(log_weights, offsets, totals))
        parts = _rows(means) + _turn(basis, eigenvalues / totals * offsets, back=True)
        return (share @ parts).reshape(x.shape).astype(x.dtype)

    return denoise


def _alike(log_weights, means, covariance):
    """The denoiser of components that differ by their means only: of x it needs inner products with them, a tenth of the work for many samples."""
    centre = jnp.mean(means, 0)
    rows = _rows(means - centre[None])
    squares = jnp.sum(rows**2, 1) / 2

    def denoise(x, sigma):
        offset, total = (x - centre).ravel(), covariance + jnp.asarray(sigma, x.dtype) ** 2
        mean = jax.nn.softmax(log_weights + (rows @ offset - squares) / total) @ rows
        return (centre + (mean + covariance / total * (offset - mean)).reshape(x.shape)).astype(x.dtype)

    return denoise


def mixture_log_density(weights, means, covariances):
    r"""Exact log density of x0 + sigma n for the x0 of `mixture`.

    .. math:: \log p_\sigma(x) = \log \sum_k w_k N(x; m_k, C_k + \sigma^2 I), \quad \textstyle\sum_k w_k = 1

    Args:
      weights: as in `mixture`.
      means: as in `mixture`.
      covariances: as in `mixture`.

    Returns:
      `(x, sigma) -> log p_sigma(x)` [nat], a scalar; sigma may be 0 for regular covariances.

    Raises:
      ValueError: as in `mixture`.

    Reference:
      Bishop (2006), eq. 2.188.
    """
    log_weights, eigenvalues, basis = _decomposed(weights, means, covariances)

    def log_density(x, sigma):
        totals = eigenvalues + jnp.asarray(sigma, x.dtype) ** 2
        return jax.nn.logsumexp(_log_joint(log_weights, _turn(basis, _rows(x[None] - means)), totals)).astype(x.dtype)

    return log_density


def draw_mixture(key, weights, means, covariances):
    """One draw x0 of the prior of `mixture`, with its arguments.

    Args:
      key: typed key.
      weights: as there.
      means: as there.
      covariances: as there.

    Returns:
      One image `[...]`.

    Raises:
      ValueError: as there.
    """
    log_weights, eigenvalues, basis = _decomposed(weights, means, covariances)
    key_component, key_noise = jax.random.split(key)
    k = jax.random.categorical(key_component, log_weights)
    noise = jnp.sqrt(eigenvalues[k]) * jax.random.normal(key_noise, means[0].size, means.dtype)
    return means[k] + (noise if basis is None else basis[k] @ noise).reshape(means.shape[1:]).astype(means.dtype)


def _rows(images):
    """`[K, ...]` -> `[K, n]`."""
    return images.reshape(images.shape[0], -1)


def _decomposed(weights, means, covariances):
    """Logarithms of the normalised weights `[K]`, eigenvalues `[K, n]` and eigenvectors `[K, n, n]`, None where they are the axes."""
    (num, *shape), size = means.shape, means[0].size
    covariances = jnp.asarray(covariances, means.dtype)
    if jnp.shape(weights) != (num,):
        raise ValueError(f"{num} means need {num} weights, got {list(jnp.shape(weights))}")
    if covariances.shape not in {(), (num,), (num, *shape), (num, size, size)}:
        wanted = f"a number, [{num}], {[num, *shape]} or {[num, size, size]}"
        raise ValueError(f"means {list(means.shape)} need covariances {wanted}, got {list(covariances.shape)}")
    log_weights = jax.nn.log_softmax(jnp.log(jnp.asarray(checks.positive(weights, "weights of the mixture"), means.dtype)))
    if covariances.shape == (num, size, size) and size > 1:
        eigenvalues, basis = jnp.linalg.eigh(covariances)
        if checks.is_concrete(eigenvalues) and np.min(eigenvalues) < -1e-5 * np.max(np.abs(eigenvalues)):
            raise ValueError(f"a covariance of the mixture has the eigenvalue {np.min(eigenvalues):.3g}, at least 0 is needed")
        return log_weights, jnp.maximum(eigenvalues, 0), basis
    checks.nonnegative(covariances, "covariances of the mixture")
    return log_weights, jnp.broadcast_to(_rows(covariances) if covariances.ndim else covariances, (num, size)), None


def _turn(basis, rows, back=False):
    """Rows `[K, n]` in the axes of the eigenvectors of each component, or back."""
    return rows if basis is None else jnp.einsum("kij,kj->ki" if back else "kij,ki->kj", basis, rows)


def _log_joint(log_weights, offsets, totals):
    """log w_k N(x; m_k, C_k + sigma^2 I), `[K]`."""
    return log_weights - jnp.sum(offsets**2 / totals + jnp.log(2 * jnp.pi * totals), 1) / 2
