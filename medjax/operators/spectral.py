"""What an operator sees and what it does not: singular values, range and null space, at small sizes."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from medjax import linalg
from medjax.checks import is_concrete, nonnegative
from medjax.operators.dense import dense
from medjax.typing import Leaf, Operator


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SingularSystem:
    r"""A = U S V^H; build it with `singular_system`, or with `krylov_system` at any size. With k = min(m, n), m data and n entries of x:

    left: `[k, ...]`, U, one array of data (or a tuple of them, as A gives) a singular value.
    values: `[k]`, descending.
    right: `[k, *shape]`, V, one image a singular value.
    rank: scalar, how many values are above the tolerance; values that are NaN count, so that all that is computed from them is NaN.
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

    def num_data(self):
        """m, the number of data that `rank` is to be compared with: real ones of real x, complex ones of complex x."""
        pairs = 2 if self._real() else 1
        return sum(math.prod(u.shape[1:]) * (pairs if jnp.iscomplexobj(u) else 1) for u in jax.tree.leaves(self.left))

    def components(self, y):
        """`[k]` inner products <u_i, y> of data with the left singular vectors, 0 where the value counts as zero."""
        return self.seen() * inner_products(self.left, y, self._real())

    def range_projection(self, y):
        """The part of data y that some x explains, U U^H y."""
        return combine(self.left, self.components(y))

    def row_space_projection(self, x):
        """The part of x that A sees, V V^H x."""
        return combine(self.right, self.seen() * inner_products(self.right, x, self._real()))

    def null_space_projection(self, x):
        """The part of x that A does not see, x - V V^H x: A of it is zero."""
        return x - self.row_space_projection(x)

    def pseudo_inverse(self, y, filter_fn=None):
        r"""V S^+ U^H y, the generalised inverse: the least-squares solution of least norm.

        With p the rank: the inverse (p = m = n), least squares :math:`(A^H A)^{-1} A^H y` (p = n < m), the solution of least length
        :math:`A^H (A A^H)^{-1} y` (p = m < n), and between the two of them else. `filter_fn(values)` damps components, `s**2 / (s**2 + a)` for
        Tikhonov's.
        """
        seen = self.seen()
        factors = seen / jnp.where(seen > 0, self.values, 1)
        if filter_fn is not None:
            factors = factors * filter_fn(self.values)
        return combine(self.right, factors * self.components(y))

    def truncated(self, num_values: int):
        """The system of the `num_values` largest values alone: its `pseudo_inverse` is the truncated SVD solution.

        Raises:
          ValueError: for less than one value.
        """
        if num_values < 1:
            raise ValueError(f"a truncated system needs at least 1 singular value, got {num_values}")
        return dataclasses.replace(self, rank=jnp.minimum(self.rank, num_values))

    def multiplier(self, y):
        r"""U S^-2 U^H y, the Lagrange multiplier t of :math:`\min \|x\|^2 / 2` with A x = y.

        From :math:`x - A^H t = 0`: A^H t is the `pseudo_inverse`, and t the gradient of the least :math:`\|x\|^2 / 2` for y.
        """
        seen = self.seen()
        return combine(self.left, seen / jnp.where(seen > 0, self.values, 1) ** 2 * self.components(y))

    def tikhonov(self, y, strength):
        """argmin ||A x - y||^2 + strength ||x||^2 by filter factors; `jax.vmap` over strengths gives the whole path from this one decomposition.

        Raises:
          ValueError: for a known strength below 0.
        """
        return combine(self.right, self.values / self._damped(strength) * self.components(y))

    def tikhonov_norms(self, y) -> Callable:
        """`strength -> (||A x - y||, ||x||)` of `tikhonov`, without forming x."""
        sizes = jnp.abs(self.components(y))
        unexplained = jax.tree.map(jnp.subtract, y, self.range_projection(y))  # by itself, for ||y||^2 - ||U^H y||^2 would cancel
        missing = linalg.norm(unexplained).astype(sizes.dtype)

        def norms(strength):
            share = sizes / self._damped(strength)
            return jnp.sqrt(jnp.sum((strength * share) ** 2) + missing**2), jnp.sqrt(jnp.sum((self.values * share) ** 2))

        return norms

    def tikhonov_freedom(self, strength):
        """The degrees of freedom of `tikhonov`, trace of A (A^H A + strength)^-1 A^H: the rank at strength 0, falling to 0."""
        return jnp.sum(self.seen() * self.values**2 / self._damped(strength))

    def strengths(self, num: int = 200):
        """`[num]` strengths of Tikhonov's regularisation that matter, ascending: from the least value squared, but for rounding, to the largest."""
        largest = jnp.where(self.rank > 0, self.values[0], 1)
        least = jnp.where(self.rank > 0, self.values[jnp.maximum(self.rank - 1, 0)], 1)
        least = jnp.maximum(least, 16 * jnp.finfo(self.values.dtype).eps * largest)
        return jnp.exp(2 * jnp.linspace(jnp.log(least), jnp.log(largest), num))

    def _real(self):
        return not jnp.iscomplexobj(self.right)

    def _damped(self, strength):
        """`[k]` s^2 + strength, 1 where the value counts as zero."""
        return jnp.where(self.seen() > 0, self.values**2 + nonnegative(strength, "strength"), 1)


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
      ValueError: for an empty shape of x, a tolerance outside [0, 1), or an operator known to be not finite.

    Reference:
      Hansen (2010), Discrete Inverse Problems, chapter 3, https://doi.org/10.1137/1.9780898718836
    """
    if tolerance is not None and not 0 <= tolerance < 1:
        raise ValueError(f"singular_system needs a tolerance in [0, 1), got {tolerance}")
    matrix = dense(A, shape, dtype)
    refuse_nonfinite(matrix, "the matrix of A in singular_system")
    pairs = jnp.iscomplexobj(matrix) and not jnp.issubdtype(dtype, jnp.complexfloating)
    if pairs:
        matrix = jnp.concatenate([matrix.real, matrix.imag])
    u, values, vh = jnp.linalg.svd(matrix, full_matrices=False)
    if tolerance is None:
        tolerance = max(matrix.shape) * jnp.finfo(values.dtype).eps
    rank = count_values(values, tolerance)
    u = u.T
    if pairs:
        u = jax.lax.complex(*jnp.split(u, 2, axis=1))
    out = jax.eval_shape(A, jax.ShapeDtypeStruct(tuple(shape), dtype))
    return SingularSystem(_blocks(u, out), values, jnp.conj(vh).reshape(-1, *shape), rank)


def count_values(values, tolerance):
    """How many of the descending values are above this fraction of the first, or NaN."""
    return jnp.sum(~(values <= tolerance * values[0]))


def refuse_nonfinite(tree, what: str):
    """Nothing, of arrays in a tree.

    Raises:
      ValueError: where all of them are known and not all finite; `what` names them.
    """
    leaves = jax.tree.leaves(tree)
    if is_concrete(*leaves) and not all(np.all(np.isfinite(a)) for a in leaves):
        raise ValueError(f"{what} holds NaN or infinite numbers, finite ones are needed")


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


def inner_products(basis, a, real: bool):
    """`[k]` inner products <b_i, a> over all leaves, their real parts where x is real."""
    products = jax.tree.map(lambda b, u: jnp.conj(b.reshape(b.shape[0], -1)) @ u.ravel(), basis, a)
    total = sum(jax.tree.leaves(products))
    return jnp.real(total) if real else total


def combine(basis, weights):
    """The sum of w_i b_i; of weights `[num, k]` a sum for each row, stacked."""
    return jax.tree.map(lambda b: jnp.tensordot(weights.astype(jnp.result_type(weights, b)), b, 1), basis)
