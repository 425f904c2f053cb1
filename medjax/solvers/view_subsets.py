"""Ordered subsets of the views of a scan."""

import numpy as np


def view_subsets(num_views: int, num_subsets: int):
    r"""Interleaved subsets of one size, each far in angle from those before it.

    Subset j has the views j, j + S, j + 2 S, ...; the k-th visit goes to the subset whose j is the rank of the fractional part of
    :math:`k (\sqrt 5 - 1) / 2` among k = 0 ... S - 1. Where S does not divide the number of views, short subsets are filled up by their last view,
    which is not kept.

    Args:
      num_views: n, of a scan whose angles rise or fall evenly.
      num_subsets: S.

    Returns:
      `(views, kept)`, `[S, ceil(n / S)]` int32 and float32, of the subsets in the order of their visits; kept is 1, or 0 for what fills up.

    Raises:
      ValueError: where S is no integer from 1 to n.
    """
    if num_subsets % 1 or not 1 <= num_subsets <= num_views:
        raise ValueError(f"num_subsets is {num_subsets}, an integer from 1 to the {num_views} views is needed")
    visits = np.arange(num_subsets)
    order = np.argsort(np.argsort(visits * ((np.sqrt(5) - 1) / 2) % 1))
    views = order[:, None] + num_subsets * np.arange(-(-num_views // num_subsets))[None, :]
    kept = views < num_views
    return np.where(kept, views, views - num_subsets).astype(np.int32), kept.astype(np.float32)
