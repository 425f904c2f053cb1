"""What an operator sees and what it does not: singular values, range and null space, at small sizes."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from medjax.operators.dense import dense
from medjax.typing import Leaf, Operator


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SingularSystem:
    r"""A = U S V^H; build it with `singular_system`. With k = min(m, n), m data and n entries of x:

    left: `[k, ...]`, U, one array of data (or a tuple of them, as A gives) a singular value.
    values: `[k]`, descending.
    right: `[k, *shape]`, V, one image a singular value.
    rank: scalar, how many values are above the tolerance.
    """

    left: Leaf
    values: Leaf
    right: Leaf
    rank: Leaf

    def seen(self):
        """`[k]` ones for the values that count as not zero, then zeros."""
        return (jnp.arange(self.values.shape[0]) < self.rank).astype(self.values.dtype)

    def condition_number(self):
        """The largest over the smallest of the values that are not zero; infinite for the zero operator."""
        smallest = self.values[jnp.maximum(self.rank - 1, 0)]
        return jnp.where(self.rank > 0, self.values[0] / jnp.where(self.rank > 0, smallest, 1), jnp.inf)

    def range_projection(self, y):
        """The part of data y that some x explains, U U^H y."""
        return _combine(self.left, self.seen() * self._components(self.left, y))

    def row_space_projection(self, x):
        """The part of x that A sees, V V^H x."""
        return _combine(self.right, self.seen() * self._components(self.right, x))

    def null_space_projection(self, x):
        """The part of x that A does not see, x - V V^H x: A of it is zero."""
        return x - self.row_space_projection(x)

    def pseudo_inverse(self, y, filter_fn=None):
        """V S^+ U^H y, the least-squares solution of least norm; `filter_fn(values)` damps components, `s**2 / (s**2 + a)` for Tikhonov's."""
        seen = self.seen()
        factors = seen / jnp.where(seen > 0, self.values, 1)
        if filter_fn is not None:
            factors = factors * filter_fn(self.values)
        return _combine(self.right, factors * self._components(self.left, y))

    def _components(self, basis, a):
        """`[k]` inner products <b_i, a> over all leaves, of real x the real ones."""
        products = jax.tree.map(lambda b, u: jnp.conj(b.reshape(b.shape[0], -1)) @ u.ravel(), basis, a)
        total = sum(jax.tree.leaves(products))
        return total if jnp.iscomplexobj(self.right) else jnp.real(total)


def singular_system(A: Operator, shape, dtype=float, tolerance=None) -> SingularSystem:
    r"""The singular value decomposition of an operator, from its matrix.

    .. math:: A x = \sum_i \sigma_i u_i \langle v_i, x \rangle, \quad A^+ y = \sum_{i \le r} \sigma_i^{-1} v_i \langle u_i, y \rangle

    Of complex data on real x the real inner product is meant: real and imaginary parts are separate measurements.

    Args:
      A: operator, small.
      shape: of x.
      dtype: of x, real or complex.
      tolerance: singular values up to this fraction of the largest count as zero; by default max(m, n) times the rounding unit.

    Returns:
      A `SingularSystem`.

    Raises:
      ValueError: for an empty shape of x, or a tolerance outside [0, 1).

    Reference:
      Hansen (2010), Discrete Inverse Problems, chapter 3, https://doi.org/10.1137/1.9780898718836
    """
    if tolerance is not None and not 0 <= tolerance < 1:
        raise ValueError(f"singular_system needs a tolerance in [0, 1), got {tolerance}")
    matrix = dense(A, shape, dtype)
    pairs = jnp.iscomplexobj(matrix) and not jnp.issubdtype(dtype, jnp.complexfloating)
    if pairs:
        matrix = jnp.concatenate([matrix.real, matrix.imag])
    u, values, vh = jnp.linalg.svd(matrix, full_matrices=False)
    if tolerance is None:
        tolerance = max(matrix.shape) * jnp.finfo(values.dtype).eps
    rank = jnp.sum(values > tolerance * values[0])
    u = u.T
    if pairs:
        u = jax.lax.complex(*jnp.split(u, 2, axis=1))
    out = jax.eval_shape(A, jax.ShapeDtypeStruct(tuple(shape), dtype))
    return SingularSystem(_blocks(u, out), values, jnp.conj(vh).reshape(-1, *shape), rank)


def _blocks(rows, like):
    """`[k, m]` cut into arrays like the leaves of `like`, each with k in front."""
    leaves, tree = jax.tree.flatten(like)
    blocks, start = [], 0
    for leaf in leaves:
        size = math.prod(leaf.shape)
        block = rows[:, start : start + size].reshape(-1, *leaf.shape)
        blocks.append(block if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else block.real)
        start += size
    return jax.tree.unflatten(tree, blocks)


def _combine(basis, weights):
    """The sum of w_i b_i."""
    return jax.tree.map(lambda b: jnp.tensordot(weights.astype(jnp.result_type(weights, b)), b, 1), basis)
