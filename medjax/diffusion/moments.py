"""The Gaussian that a denoiser tells of x0 given x: its mean, its covariance, draws of it, and what linear data change."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from medjax import lanczos, linalg
from medjax.typing import Denoiser, Operator


class Moments(NamedTuple):
    """N(mean, C) for x0 given x.

    mean: like x.
    covariance: `v -> C v`, symmetric and linear.
    """

    mean: jax.Array
    covariance: Callable


def moments(denoise: Denoiser, x, sigma, isotropic_above=jnp.inf, variance=1.0) -> Moments:
    r"""Mean and covariance of x0 given x, by one denoiser call.

    .. math:: E[x_0 \mid x] = D(x, \sigma), \quad \mathrm{Cov}[x_0 \mid x] = \sigma^2 \nabla_x D(x, \sigma)

    At much noise the derivative of a learned D is the small difference of large numbers, and useless. There `isotropic_above` takes r^2 I with
    r^2 = sigma^2 v / (sigma^2 + v) for the covariance, which also saves the derivative.

    Args:
      denoise: a `Denoiser`; each product with C is one of its vector-Jacobian products.
      x: one image at noise level sigma.
      sigma: noise level.
      isotropic_above: noise level above which the covariance is r^2 I; never by default, and then it is known to be infinite, not traced.
      variance: v, what remains unknown of a pixel there; less than the prior's variance, for neighbours tell of each other.

    Returns:
      `Moments`.

    Reference:
      Tweedie's first and second formula; Efron (2011), https://doi.org/10.1198/jasa.2011.tm11181
    """
    mean, vjp = jax.vjp(lambda x: denoise(x, sigma), x)
    if not isinstance(isotropic_above, Tracer) and isotropic_above == jnp.inf:
        return Moments(mean, lambda v: sigma**2 * vjp(v)[0])
    spread = sigma**2 * variance / (sigma**2 + variance)
    return Moments(mean, lambda v: jax.lax.cond(sigma > isotropic_above, lambda v: spread * v, lambda v: sigma**2 * vjp(v)[0], v))


def draw(key, prior: Moments, num_krylov: int):
    r"""One draw of N(mean, C), :math:`m + C^{1/2} n`, the root by Lanczos' method.

    Args:
      key: typed key.
      prior: its moments; negative Ritz values of a learned C count as 0.
      num_krylov: products with C.

    Returns:
      Like the mean.

    Reference:
      Chow & Saad (2014), Preconditioned Krylov subspace methods for sampling multivariate Gaussian distributions, algorithm 2.1,
      https://doi.org/10.1137/130920587
    """
    normal = jax.random.normal(key, prior.mean.shape, prior.mean.dtype)
    return prior.mean + lanczos.root_times(prior.covariance, normal, num_krylov)


def pull(prior: Moments, A: Operator, error, root, num_krylov: int):
    r"""What data change of a draw or of the mean: :math:`C A^H (\Sigma_y + A C A^H)^{-1} e`.

    Args:
      prior: moments of x0.
      A: operator.
      error: e, y - A m for the posterior mean; y + noise - A x0 turns a draw x0 of the prior into one of the posterior.
      root: 1 / sigma_y.
      num_krylov: conjugate gradient steps on the whitened system, each a product with C. A residual that grows threefold ends them: that shows a
        learned C which is not symmetric, though an exact one can do it, too, where the entries of A and sigma_y differ by a factor of 1,000.

    Returns:
      Like the mean.

    Reference:
      Bishop (2006), eq. 2.116; of draws: Papandreou & Yuille (2010), Gaussian sampling by local perturbations.
    """

    def back(u):
        return prior.covariance(A.adjoint(root * u))

    u = linalg.conjugate_gradient(lambda u: u + root * A(back(u)), root * error, num_steps=num_krylov, growth=3.0)
    return back(u)


def data_noise(key, y, root):
    """Noise like that of y: of standard deviation 1 / root in each component, and 0 where nothing was measured.

    Args:
      key: typed key.
      y: data, real or complex.
      root: 1 / sigma_y.

    Returns:
      Like y.
    """
    parts = 2.0**0.5 if jnp.iscomplexobj(y) else 1.0
    return jnp.where(root > 0, parts * jax.random.normal(key, y.shape, y.dtype) / jnp.where(root > 0, root, 1), 0)


def posterior_draw(key, prior: Moments, A: Operator, y, root, num_krylov: int):
    """One draw of x0 given x and y, under the Gaussian of the denoiser: a draw of x0 given x, pulled to perturbed data.

    Args:
      key: typed key.
      prior: moments of x0 given x.
      A: operator.
      y: data, 0 where nothing was measured.
      root: 1 / sigma_y.
      num_krylov: products with C for the root of C, and for the pull.

    Returns:
      Like the mean.
    """
    key_prior, key_data = jax.random.split(key)
    x0 = draw(key_prior, prior, num_krylov)
    return x0 + pull(prior, A, y + data_noise(key_data, y, root) - A(x0), root, num_krylov)


def bridged(prior: Moments, x, x_next, sigma, sigma_next, num_krylov: int) -> Moments:
    r"""Moments of x0 given x at noise level sigma and x_next at sigma_next, both of one noise process.

    .. math::
        m' = m + C (C + \hat v I)^{-1} (\hat x - m), \quad C' = \hat v (C + \hat v I)^{-1} C, \quad
        \hat x = \frac{\sigma^2 x' - \sigma'^2 x}{\sigma^2 - \sigma'^2}, \; \hat v = \frac{\sigma^2 \sigma'^2}{\sigma^2 - \sigma'^2}

    Args:
      prior: moments of x0 given x.
      x, x_next: images at both levels.
      sigma, sigma_next: levels, sigma > sigma_next >= 0.
      num_krylov: conjugate gradient steps of each product with C'.

    Returns:
      `Moments`, for a Gaussian prior those of x0 given x_next.
    """
    change = sigma**2 - sigma_next**2
    seen, variance = (sigma**2 * x_next - sigma_next**2 * x) / change, sigma**2 * sigma_next**2 / change

    def shrunk(v):  # (C + v)^{-1} C
        return linalg.conjugate_gradient(lambda u: prior.covariance(u) + variance * u, prior.covariance(v), num_steps=num_krylov)

    return Moments(prior.mean + shrunk(seen - prior.mean), lambda v: variance * shrunk(v))


def log_evidence(prior: Moments, A: Operator, y, root):
    r"""log N(y; A m, Sigma_y + A C A^H) of few data, up to a constant, by the matrix of the whitened system.

    Args:
      prior: moments of x0.
      A: operator.
      y: data, few: the matrix costs a product with C for each.
      root: 1 / sigma_y.

    Returns:
      A real scalar.
    """
    size, unflat = linalg.flattening(y)

    def matvec(u):
        return u + linalg.flat(root * A(prior.covariance(A.adjoint(root * unflat(u)))))

    factor = jnp.linalg.cholesky(jax.vmap(matvec)(jnp.eye(size, dtype=linalg.real_dtype(y))))
    half = jax.scipy.linalg.solve_triangular(factor, linalg.flat(root * (y - A(prior.mean))), lower=True)
    return -half @ half / 2 - jnp.sum(jnp.log(jnp.diag(factor)))


def log_misfit(prior: Moments, A: Operator, y, root, num_krylov: int):
    r"""The exponent of `log_evidence`, without its determinant, by conjugate gradient: for any number of data.

    Args:
      prior: moments of x0.
      A: operator.
      y: data.
      root: 1 / sigma_y.
      num_krylov: products with C.

    Returns:
      A real scalar.
    """
    error = root * (y - A(prior.mean))
    u = linalg.conjugate_gradient(lambda u: u + root * A(prior.covariance(A.adjoint(root * u))), error, num_steps=num_krylov)
    return -linalg.vdot(error, u) / 2


def bridged_log_misfit(prior: Moments, A: Operator, y, root, x, x_next, sigma, sigma_next, num_krylov: int):
    r"""`log_misfit` of the `bridged` moments, by one system for y and x_next instead of one inside the other.

    .. math:: \log p(y \mid x', x) = \log p(y, x' \mid x) - \log p(x' \mid x)

    Args:
      prior: moments of x0 given x.
      A, y, root: operator, data, 1 / sigma_y.
      x, x_next, sigma, sigma_next: as in `bridged`, sigma_next > 0.
      num_krylov: products with C in each of the two systems.

    Returns:
      A real scalar.
    """
    change = sigma**2 - sigma_next**2
    weight = jnp.sqrt(change) / (sigma * sigma_next)  # 1 / sqrt(v)
    first, second = root * (y - A(prior.mean)), weight * ((sigma**2 * x_next - sigma_next**2 * x) / change - prior.mean)

    def joint(pair):
        u, w = pair
        common = prior.covariance(A.adjoint(root * u) + weight * w)
        return u + root * A(common), w + weight * common

    def alone(w):
        return w + weight**2 * prior.covariance(w)

    both = linalg.conjugate_gradient(joint, (first, second), num_steps=num_krylov)
    one = linalg.conjugate_gradient(alone, second, num_steps=num_krylov)
    return (linalg.vdot(second, one) - linalg.vdot(first, both[0]) - linalg.vdot(second, both[1])) / 2
