"""Distances between two sets of features, in blocks, so that no matrix of all pairs is held."""

import numpy as np

from medjax import checks

_BLOCK, _NUMBERS = 1024, 2**24
"""Rows of a block, and numbers that it holds at most: 8 MB of distances, 128 MB of features."""
_CLOSE = 1e-5
"""Share of |x|^2 + |y|^2 below which |x|^2 + |y|^2 - 2 x.y has lost too many digits, and the difference is taken."""
_PAIRS = 2**20
"""Numbers of such differences held at once."""


def sets(*named, least: int = 1):
    """Sets of features, checked.

    Args:
      named: pairs (name, `[n, d]` real), the name for messages.
      least: n that each needs.

    Returns:
      A list of arrays `[n, d]` of NumPy, in the precision that they came in.

    Raises:
      ValueError: where one is not `[n, d]`, holds NaN, infinite or complex numbers or too few rows, or where d differs.
    """
    found = [np.asarray(array) for _, array in named]
    for (name, _), array in zip(named, found, strict=True):
        if array.ndim != 2 or not array.shape[1] or array.dtype.kind not in "biuf":
            raise ValueError(f"{name} are {array.dtype} {list(array.shape)}, real features [n, d] are needed")
        if len(array) < least:
            raise ValueError(f"{name} are {len(array)}, at least {least} are needed")
        if array.shape[1] != found[0].shape[1]:
            raise ValueError(f"{name} have {array.shape[1]} features and {named[0][0]} {found[0].shape[1]}, one number of features is needed")
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{name} hold {np.sum(~np.isfinite(array))} NaN or infinite numbers, all must be finite")
    return found


def blocks(x) -> list[slice]:
    """Slices that cover the rows of x `[n, d]`."""
    size = max(1, min(_BLOCK, _NUMBERS // x.shape[1]))
    return [slice(start, min(start + size, len(x))) for start in range(0, len(x), size)]


def squared_distances(x, y):
    """Squared Euclidean distances `[n, m]` of `[n, d]` and `[m, d]`, both float64.

    Those of equal rows are exactly 0, and all are good to 1e-9 of their size.
    """
    sizes = np.sum(x * x, 1)[:, None] + np.sum(y * y, 1)
    found = sizes - 2 * x @ y.T
    rows, columns = np.nonzero(found <= _CLOSE * sizes)
    step = max(1, _PAIRS // x.shape[1])
    for start in range(0, len(rows), step):
        i, j = rows[start : start + step], columns[start : start + step]
        found[i, j] = np.sum((x[i] - y[j]) ** 2, 1)
    return found


def nearest(queries, points, num: int = 1, same: bool = False, mirror=None):
    r"""The nearest points of each query, by Euclidean distance.

    .. math:: \min(\|q - p\|, \|M q - p\|)

    Args:
      queries: `[n, d]`.
      points: `[m, d]`.
      num: how many of the nearest.
      same: whether queries are the points, and none is a neighbour of its own.
      mirror: `[n, d] -> [n, d]`, a map M of the queries that keeps distances, such as a mirror image; None for the first term alone.

    Returns:
      `(distances, indices)`, each `[n, num]`, from near to far but for rounding; distances are those of the differences.

    Raises:
      ValueError: for bad features (`sets`), and where there are fewer than `num` neighbours.
    """
    queries, points = sets(("queries", queries), ("points", points))
    checks.count(num, "the number of neighbours")
    if num > len(points) - same:
        raise ValueError(f"{num} nearest neighbours are asked for, among {len(points) - same}")
    centre = points.mean(0, dtype=np.float64)
    distances, indices = np.empty((len(queries), num)), np.empty((len(queries), num), int)
    for rows in blocks(queries):
        part = queries[rows].astype(np.float64)
        versions = [part, mirror(part)] if mirror else [part]
        best = np.full((rows.stop - rows.start, num), np.inf)
        names = np.zeros(best.shape, int)
        for columns in blocks(points):
            squares = np.min([squared_distances(version - centre, points[columns] - centre) for version in versions], 0)
            numbers = np.arange(columns.start, columns.stop)
            if same:
                squares[np.arange(rows.start, rows.stop)[:, None] == numbers] = np.inf
            best = np.concatenate([best, squares], 1)
            names = np.concatenate([names, np.broadcast_to(numbers, squares.shape)], 1)
            order = np.argsort(best, 1, kind="stable")[:, :num]
            best, names = np.take_along_axis(best, order, 1), np.take_along_axis(names, order, 1)
        exact = [np.min([np.linalg.norm(version - points[name], axis=1) for version in versions], 0) for name in names.T]
        distances[rows], indices[rows] = np.stack(exact, 1), names
    return distances, indices
