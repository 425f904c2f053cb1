"""One pass over ordered subsets of the views of a scan."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from medjax.solvers.view_subsets import view_subsets


def over_subsets(A, y, num_subsets: int, visit: Callable) -> Callable:
    """`x -> x` by `visit` of each subset in turn, in one loop: one program serves all subsets.

    Args:
      A: operator with a method `views` that takes traced indices.
      y: `[num_views, ...]` data: their shape and real dtype count.
      num_subsets: as in `view_subsets`.
      visit: `(part, views, keep, x) -> x`, with part the operator of a subset, views `[m]` its indices, and keep, like the subset's data, 1, or 0
        for a view that only fills the subset up.

    Returns:
      The pass.

    Raises:
      ValueError: for an operator without views or a number of subsets out of range.
    """
    if not hasattr(A, "views"):
        raise ValueError(f"ordered subsets need an operator with a method views, such as parallel_beam; got {type(A).__name__}")
    subsets, kept = view_subsets(y.shape[0], num_subsets)
    subsets, kept = jnp.asarray(subsets), jnp.asarray(kept, y.dtype)

    def one(j, x):
        views = subsets[j]
        keep = jnp.broadcast_to(kept[j].reshape(-1, *(1,) * (y.ndim - 1)), (views.size, *y.shape[1:]))
        return visit(A.views(views), views, keep, x)

    return lambda x: lax.fori_loop(0, num_subsets, one, x)
