"""Which views of a scan an operator keeps."""

import numpy as np
from jax.core import Tracer


def chosen_views(indices, num_views: int):
    """Indices of views as an array: JAX would read the last view for any that lies beyond.

    Args:
      indices: a list, an integer array (may be traced, and is then not checked) or a slice.
      num_views: how many views there are.

    Returns:
      `[num_chosen]` integers.

    Raises:
      ValueError: for no views, or one that does not exist.
    """
    if isinstance(indices, Tracer):
        return indices
    indices = np.arange(num_views)[indices] if isinstance(indices, slice) else np.asarray(indices)
    if indices.ndim != 1 or indices.size == 0 or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"got views of shape {indices.shape} and type {indices.dtype}, integers and at least one view are needed")
    if indices.min() < -num_views or indices.max() >= num_views:
        raise ValueError(f"got views {indices.min()} to {indices.max()}, the scan has {num_views}")
    return indices
