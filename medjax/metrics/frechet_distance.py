"""Frechet distance of two sets of features; on reports "Frechet distance over FEATURES", never by the name of the one with Inception's."""

import jax
import numpy as np

from medjax import checks
from medjax.metrics.nearest import sets


def frechet_distance(generated, reference) -> float:
    r"""Squared Frechet (2-Wasserstein) distance of the Gaussians fitted to two sets of features.

    .. math:: |\mu_1 - \mu_2|^2 + \mathrm{tr}(S_1 + S_2 - 2 (S_1 S_2)^{1/2})

    with unbiased covariances S. With centred features :math:`X_i / \sqrt{n_i - 1} = Q_i R_i` the last trace is the sum of the singular values of
    :math:`R_1 R_2^T`: no covariance is formed and no root of a small eigenvalue taken, and n may be below d.

    It is biased upwards, by about a constant over n, and the more so the more features there are: compare only values of equal n and m and equal
    features, put two halves of the reference beside them as a floor, or take `at_infinity`. n of several times d is needed for it to mean much.

    Args:
      generated: `[n, d]` real, n >= 2.
      reference: `[m, d]` real, m >= 2.

    Returns:
      The distance, in the unit of the features squared; 0 for equal sets, by rounding 1e-13 of the variances.

    Raises:
      ValueError: where d differs, features are not finite or too few.

    Reference:
      Heusel et al. (2017), eq. 6, https://arxiv.org/abs/1706.08500; Dowson & Landau (1982), https://doi.org/10.1016/0047-259X(82)90077-X;
      the bias: Binkowski et al. (2018), https://arxiv.org/abs/1801.01401.
    """
    return _distance(*sets(("generated features", generated), ("reference features", reference), least=2))


def at_infinity(key, generated, reference, num_points: int = 15, smallest: float = 0.25) -> float:
    r"""Frechet distance extrapolated to endless samples.

    .. math:: F(s n, s m) \approx F_\infty + c / s

    fitted by least squares over `num_points` shares s from `smallest` to 1, each of a random part of both sets. The bias has further terms, in
    1 / s^2: what is left of it shrinks with n / d, and the result may be negative.

    Args:
      key: of the parts.
      generated: `[n, d]`.
      reference: `[m, d]`.
      num_points: shares.
      smallest: the least share, of which both sets must have more than d members.

    Returns:
      :math:`F_\infty`.

    Raises:
      ValueError: as `frechet_distance`, for parts that are too small, and for fewer than 2 shares.

    Reference:
      Chong & Forsyth (2020), https://arxiv.org/abs/1911.07023, and their code; that thins the generated images alone, from a tenth
      of them on, for a reference of 50,000 has little bias. One of some hundred scans has as much as they, so both are thinned here.
    """
    generated, reference = sets(("generated features", generated), ("reference features", reference), least=2)
    checks.count(num_points, "num_points", 2)
    least = min(len(generated), len(reference))
    if not 0 < smallest < 1 or round(smallest * least) <= generated.shape[1]:
        found = f"a share of {smallest} of {least} features of {generated.shape[1]} dimensions"
        raise ValueError(f"{found} is extrapolated from, a share below 1 with more members than dimensions is needed")
    shares, values = np.linspace(smallest, 1, num_points), []
    for i, share in enumerate(shares):
        keys = jax.random.split(jax.random.fold_in(key, i))
        parts = [x[np.asarray(jax.random.permutation(k, len(x)))[: round(share * len(x))]] for k, x in zip(keys, (generated, reference), strict=True)]
        values.append(_distance(*parts))
    return float(np.polyfit(1 / shares, values, 1)[1])


def _distance(x, y):
    """`frechet_distance` of checked sets."""
    x, y = (each.astype(np.float64) for each in (x, y))
    shift = x.mean(0) - y.mean(0)
    roots = [np.asarray(np.linalg.qr((each - each.mean(0)) / np.sqrt(len(each) - 1), mode="r")) for each in (x, y)]
    both = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(max(shift @ shift + np.sum(roots[0] ** 2) + np.sum(roots[1] ** 2) - 2 * both, 0))
