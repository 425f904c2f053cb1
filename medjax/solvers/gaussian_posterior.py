"""The posterior of a Gaussian prior and linear data: mean, covariance, evidence and exact samples, the reference of every sampler."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax

from medjax import checks, linalg
from medjax.iterate import iterate_until
from medjax.solvers.conjugate_gradient import conjugate_gradient
from medjax.solvers.measured import measured
from medjax.typing import Leaf, Operator


def gaussian_posterior(
    A: Operator,
    y,
    sigma_y,
    *,
    prior_mean=None,
    covariance=None,
    root: Operator | None = None,
    G: Operator | None = None,
    strength=1.0,
    floor=0.0,
    tolerance=1e-6,
    max_steps: int = 1000,
) -> "GaussianPosterior":
    r"""p(x | y) of y = A x + n, n ~ N(0, sigma_y^2), and x ~ N(m, Lambda^-1).

    .. math::
        x \mid y \sim N\big(m + H^{-1} A^H \Sigma_y^{-1} (y - A m), \; H^{-1}\big), \quad H = \Lambda + A^H \Sigma_y^{-1} A

    The prior is told in one of two forms: by a precision :math:`\Lambda = \lambda G^H G + \epsilon I`, as of smooth images with G the `gradient`, or
    by a covariance :math:`\Lambda^{-1} = C / \lambda`, :math:`C = S S^H`, perhaps singular: then x = m + S z, and z has the precision
    :math:`\lambda I`. The posterior mean is Tikhonov's estimate. Samples are solutions for perturbed data and a perturbed prior, whose law is exactly
    that of the posterior:

    .. math:: H (x - m) = A^H \Sigma_y^{-1} (y + \sigma_y n_1 - A m) + \sqrt\lambda \, G^H n_2 + \sqrt\epsilon \, n_3

    Complex x and y have the standard deviations by component, real and imaginary, as everywhere; so has :math:`H^{-1}`, half of
    :math:`E (x - \bar x)(x - \bar x)^H`.

    Args:
      A: operator, x -> y; of complex x linear over the complex numbers.
      y: data, one array.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured.
      prior_mean: m, like x; 0 if None.
      covariance: C `[n, n]` over the n flattened entries of x, positive semidefinite.
      root: S instead of C, an operator z -> x, at any size.
      G: of the precision, x -> any array; the identity if None.
      strength: lambda > 0.
      floor: epsilon >= 0; 0 with a covariance. Where neither A nor G sees something, it must be positive.
      tolerance: relative residual of the conjugate gradients in `mean` and `sample`.
      max_steps: of them, the most.

    Returns:
      A `GaussianPosterior`.

    Raises:
      ValueError: for both forms of a prior, shapes that do not fit, a known sigma_y or strength that is not positive, or a floor below 0.

    Reference:
      Bishop (2006), Pattern Recognition and Machine Learning, eq. 2.113-2.117; samples: Papandreou & Yuille (2010), Gaussian sampling by local
      perturbations; Orieux, Feron & Giovannelli (2012), https://doi.org/10.1109/LSP.2012.2189104
    """
    if (covariance is not None) + (root is not None) + (G is not None or not checks.is_concrete(floor) or floor != 0) > 1:
        raise ValueError("gaussian_posterior takes one of covariance, root and (G, floor), got more")
    like = jax.eval_shape(A.adjoint, y)
    mean = jnp.zeros(like.shape, like.dtype) if prior_mean is None else jnp.asarray(prior_mean, like.dtype)
    if mean.shape != like.shape or jnp.shape(sigma_y) not in ((), y.shape):
        found = f"prior_mean {list(mean.shape)} and sigma_y {list(jnp.shape(sigma_y))}"
        raise ValueError(f"x is {list(like.shape)} and y {list(y.shape)}, got {found}")
    y, _ = measured(y, sigma_y)
    checks.positive(strength, "strength")
    checks.nonnegative(floor, "floor")
    if covariance is not None:
        root = _matrix_root(covariance, like)
    return GaussianPosterior(A, y, sigma_y, mean, root, G, strength, floor, tolerance, max_steps)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GaussianPosterior:
    """Build it with `gaussian_posterior`, which tells the letters; A, y, sigma_y, prior_mean, root, G, strength and floor are leaves."""

    A: Operator
    y: Leaf
    sigma_y: Leaf
    prior_mean: Leaf
    root: Operator | None
    G: Operator | None
    strength: Leaf
    floor: Leaf
    tolerance: float = dataclasses.field(metadata={"static": True})
    max_steps: int = dataclasses.field(metadata={"static": True})

    def mean(self):
        """The posterior mean, like x, at any size; differentiable."""
        return self._solve(self._pull(self.y - self.A(self.prior_mean)))

    def sample(self, key):
        """One exact sample, like x, at any size; `jax.vmap` over keys gives independent ones."""
        keys = jax.random.split(key, 3)
        z = self._latent()
        measured = jnp.isfinite(jnp.asarray(self.sigma_y))
        noise = jnp.where(measured, self.sigma_y, 0) * _normal(keys[0], self.y)
        pull = self._pull(self.y - self.A(self.prior_mean) + noise.astype(self.y.dtype))
        white = _normal(keys[1], z if self.G is None else jax.eval_shape(self.G, z))
        spread = jnp.sqrt(self.strength) * (white if self.G is None else self.G.adjoint(white))
        return self._solve(pull + (spread + jnp.sqrt(self.floor) * _normal(keys[2], z)).astype(pull.dtype))

    def moments(self):
        """Mean, like x, and covariance `[n, n]` over the n flattened entries of x, by Cholesky's decomposition: for small x.

        Raises:
          ValueError: where neither data nor prior tell something, so that there is no covariance, if it is known.
        """
        factor = self._cholesky(self._precision)
        pull = self._pull(self.y - self.A(self.prior_mean))
        z = jax.scipy.linalg.cho_solve((factor, True), pull.ravel())
        columns = _columns(self._push, self._latent())  # S
        half = jax.scipy.linalg.solve_triangular(factor, columns.conj().T, lower=True)
        return self.prior_mean + self._push(z.reshape(pull.shape)), half.conj().T @ half

    def log_evidence(self):
        """log p(y), the logarithm of the density of N(A m, A Lambda^-1 A^H + Sigma_y), for small x: its maximum is the strength the data speak for.

        Raises:
          ValueError: for a prior precision that is not positive definite, if it is known.
        """
        factor, prior = self._cholesky(self._precision), self._cholesky(self._prior_precision)
        residual = self.y - self.A(self.prior_mean)
        half = jax.scipy.linalg.solve_triangular(factor, self._pull(residual).ravel(), lower=True)
        parts = 2 if jnp.iscomplexobj(self.y) else 1
        sigma = jnp.broadcast_to(jnp.asarray(self.sigma_y, linalg.real_dtype(self.y)), self.y.shape)
        measured = jnp.isfinite(sigma)
        density = jnp.sum(jnp.where(measured, jnp.log(jnp.where(measured, sigma, 1)) + math.log(2 * math.pi) / 2, 0)) * parts
        determinants = jnp.sum(jnp.log(jnp.diag(factor).real) - jnp.log(jnp.diag(prior).real)) * (2 if jnp.iscomplexobj(factor) else 1)
        explained = jnp.sum(jnp.abs(half) ** 2)
        return (explained - jnp.sum(jnp.abs(residual / sigma) ** 2)) / 2 - determinants - density

    def _latent(self):
        """The shape and dtype of z in x = m + S z."""
        like = jax.ShapeDtypeStruct(self.prior_mean.shape, self.prior_mean.dtype)
        return like if self.root is None else jax.eval_shape(self.root.adjoint, like)

    def _push(self, z):
        """S z."""
        return z if self.root is None else self.root(z)

    def _pull(self, residual):
        """S^H A^H Sigma_y^-1 residual."""
        back = self.A.adjoint((residual / self.sigma_y**2).astype(residual.dtype))
        return back if self.root is None else self.root.adjoint(back)

    def _prior_precision(self, z):
        """Of z: (strength G^H G + floor) z."""
        return (self.strength * (z if self.G is None else self.G.adjoint(self.G(z))) + self.floor * z).astype(z.dtype)

    def _precision(self, z):
        """Of z given y."""
        return self._prior_precision(z) + self._pull(self.A(self._push(z)))

    def _solve(self, pull):
        """m + S z with precision z = pull; on real vectors, for which a Hermitian matrix is symmetric, as the derivative of a solution wants it."""
        size, unflat = linalg.flattening(pull)

        def solve(matvec, b):
            return iterate_until(conjugate_gradient(matvec, b), jnp.zeros(size, b.dtype), self.tolerance, self.max_steps)[0].x

        z = lax.custom_linear_solve(lambda v: linalg.flat(self._precision(unflat(v))), linalg.flat(pull), solve, symmetric=True)
        return self.prior_mean + self._push(unflat(z))

    def _cholesky(self, matvec):
        """The lower factor of the matrix of a map of z."""
        factor = jnp.linalg.cholesky(_columns(matvec, self._latent()))
        if checks.is_concrete(factor) and not jnp.all(jnp.isfinite(factor)):
            raise ValueError("the precision is not positive definite: a floor above 0, or a G that sees what is not measured, is needed")
        return factor


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Root:
    """S of a covariance, a matrix `[n, n]` from vectors to arrays of a shape."""

    matrix: Leaf
    shape: tuple = dataclasses.field(metadata={"static": True})

    def __call__(self, x):
        """`[n]` -> an array of the shape."""
        return (self.matrix @ x).reshape(self.shape)

    def adjoint(self, y):
        """An array of the shape -> `[n]`."""
        return self.matrix.conj().T @ y.ravel()


def _matrix_root(covariance, like):
    """S with S S^H = C."""
    covariance = jnp.asarray(covariance)
    size = math.prod(like.shape)
    if covariance.shape != (size, size):
        raise ValueError(f"x has {size} entries, a covariance [{size}, {size}] is needed, got {list(covariance.shape)}")
    values, basis = jnp.linalg.eigh(covariance)
    if checks.is_concrete(values) and values[0] < -1e3 * jnp.finfo(values.dtype).eps * jnp.abs(values[-1]):
        raise ValueError(f"the covariance has an eigenvalue of {float(values[0]):.3g}, none below 0 is needed")
    return _Root(basis * jnp.sqrt(jnp.maximum(values, 0))[None], like.shape)


def _columns(fn, like):
    """`[m, n]`, the matrix of a linear map of arrays of n entries."""
    size = math.prod(like.shape)
    out = jax.vmap(fn)(jnp.eye(size, dtype=like.dtype).reshape(size, *like.shape))
    return out.reshape(size, -1).T


def _normal(key, like):
    """Standard normal numbers, in both parts of complex ones."""
    scale = math.sqrt(2) if jnp.issubdtype(like.dtype, jnp.complexfloating) else 1.0
    return scale * jax.random.normal(key, like.shape, like.dtype)
