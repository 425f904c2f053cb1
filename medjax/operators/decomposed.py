"""A small operator with its singular value decomposition beside it."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from medjax import linalg
from medjax.operators.spectral import combine, inner_products, singular_system
from medjax.typing import SVD, Leaf, Operator


def decomposed(A: Operator, shape, dtype=float, tolerance=None):
    r"""A with its dense singular value decomposition, for the methods that need one.

    .. math:: A x = \sum_i s_i u_i \langle v_i, x \rangle, \quad i = 1 \ldots n

    Of complex data on real x the real inner product is meant. The n v_i hold n^2 numbers, so n is a few thousand at most; `A(x)` is computed as
    before.

    First derivatives reach the leaves of A: with G the matrix of <A v_i, A v_j>,

    .. math:: d s_i = d G_{i i} / 2 s_i, \quad d v_j = \sum_i v_i \, d G_{i j} / (s_j^2 - s_i^2), \quad u_i = A v_i / s_i

    where values that are equal do not turn into one another: exact for what does not depend on the choice of v_i among equal values, as long as
    these stay equal.

    Args:
      A: operator whose data are one array.
      shape: of x, n entries.
      dtype: of x, real or complex.
      tolerance: singular values up to this fraction of the largest count as zero, as in `singular_system`.

    Returns:
      An operator with the leaves of A and the tables of its `svd`.

    Raises:
      ValueError: for an empty shape, or a tolerance outside [0, 1).

    Reference:
      Hansen (2010), Discrete Inverse Problems, chapter 3, https://doi.org/10.1137/1.9780898718836
    """
    system = singular_system(jax.tree.map(jax.lax.stop_gradient, A), shape, dtype, tolerance)
    size, found = math.prod(shape), system.values.shape[0]
    right = system.right.reshape(found, size)
    rest = jnp.linalg.qr(right.T, mode="complete")[0][:, found:].T if found < size else right[:0]
    right = jnp.concatenate([right, rest]).reshape(size, *shape)
    values = jnp.concatenate([system.seen() * system.values, jnp.zeros(size - found, system.values.dtype)])
    images = jax.vmap(A)(right)
    change, turn = _changes(images, values, jnp.isrealobj(right))
    sizes = jnp.where(values > 0, values + change, 1).reshape(-1, *(1,) * (images.ndim - 1))
    turned = (combine(images, turn) / sizes)[:found]
    left = system.left + turned - jax.lax.stop_gradient(turned)  # the more exact value, the derivative of the other
    return Decomposed(A, left, values + change, combine(right, turn))


def _changes(images, values, real):
    """The derivatives of the values, `[n]`, and the turn of the basis, `[n, n]`, from A v_i: of value 0 and the identity."""
    rows = images.reshape(images.shape[0], -1)
    gram = jnp.conj(rows) @ rows.T
    gram = gram.real if real else gram
    moved = gram - jax.lax.stop_gradient(gram)
    gaps = values[None, :] ** 2 - values[:, None] ** 2
    apart = jnp.abs(gaps) > jnp.finfo(values.dtype).eps ** 0.6 * jnp.max(values) ** 2
    turn = jnp.eye(values.shape[0], dtype=values.dtype) + jnp.where(apart, moved / jnp.where(apart, gaps, 1), 0)
    change = jnp.where(values > 0, jnp.diag(moved).real / (2 * jnp.where(values > 0, values, 1)), 0)
    return change, turn.T


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Decomposed:
    """A and its SVD; build it with `decomposed`. With n entries of x and k = min(m, n):

    left: `[k, ...]`, u_i like the data.
    values: `[n]`, descending.
    right: `[n, *shape]`, v_i, at the end those of the null space.
    """

    inner: Operator
    left: Leaf
    values: Leaf
    right: Leaf

    def __call__(self, x):
        """A x."""
        return self.inner(x)

    def adjoint(self, y):
        """A^H y."""
        return self.inner.adjoint(y)

    def normal(self, x):
        """A^H A x, by the `normal` of A where it has one."""
        return linalg.gram(self.inner)(x)

    def svd(self):
        """Coefficients `[n]`."""
        real, missing = not jnp.iscomplexobj(self.right), self.values.shape[0] - self.left.shape[0]

        def project(y):
            return (self.values > 0) * jnp.pad(inner_products(self.left, y, real), (0, missing))

        return SVD(self.values, lambda x: jnp.asarray(inner_products(self.right, x, real)), lambda c: combine(self.right, c), project)
