"""Least squares whose solution is sparse after a linear map: total variation, redundant wavelets."""

import jax
import jax.numpy as jnp

from medjax import checks, lanczos
from medjax.solvers.data_term import data_term
from medjax.solvers.nested_fista import nested_fista
from medjax.solvers.shortened import shortened
from medjax.typing import Operator, Solver


def analysis_reconstruction(
    A: Operator,
    y,
    sigma_y,
    K: Operator,
    strength,
    group: int | None = None,
    nonnegative: bool = False,
    step_size=None,
    K_norm=None,
    num_inner: int = 10,
    restart: bool = True,
) -> Solver:
    r"""Sparse analysis: an L1 norm of K x, of entries or of groups, for data of known noise.

    .. math:: \min_x \tfrac12 \left\| \frac{A x - y}{\sigma_y} \right\|^2 + \lambda \sum_i |(K x)_i|
        \quad \text{or} \quad \lambda \sum_i \Big( \sum_a |(K x)_{a i}|^2 \Big)^{1/2}

    With `gradient()` it is total variation, anisotropic by entries and isotropic by groups along axis 0; with a wavelet after a padding that keeps it
    from wrapping around, or with shifted ones in a `stack`, redundant wavelets. By `nested_fista`: for data of even noise, where A^H A has a
    `normal` and a product with it costs many with K, as in MRI; where weights differ by orders of magnitude `tv_reconstruction` is faster.

    Args:
      A: operator; by its `normal` where it has one and sigma_y is a scalar.
      y: data.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured.
      K: operator on x; its output one array or a tuple of them.
      strength: lambda >= 0, scalar.
      group: axis of K x that is joined under one root; None for none.
      nonnegative: constrains a real x to x >= 0.
      step_size: at most 1 / ||A / sigma_y||^2; from the operator norm if None.
      K_norm: at least ||K||; from the operator norm if None. sqrt(8) for 2-D differences.
      num_inner: steps of the inner loop in each step.
      restart: as in `fista`.

    Returns:
      A `Solver`.

    Raises:
      ValueError: for a known strength below zero, a known sigma_y or step size that is not positive.

    Reference:
      Beck & Teboulle (2009), https://doi.org/10.1109/TIP.2009.2028250
    """
    checks.nonnegative(strength, "strength")
    data = data_term(A, y, sigma_y)
    if step_size is None:
        step_size = 1 / data.curvature()
    if K_norm is None:
        K_norm = 1.02 * lanczos.operator_norm(K, data.back, 30)

    axes = () if group is None else (group,)
    return nested_fista(
        data.grad,
        K,
        K.adjoint,
        lambda p, _: jax.tree.map(lambda a: shortened(a, strength, axes), p),
        step_size,
        K_norm,
        num_inner,
        (lambda x: jnp.maximum(x, 0)) if nonnegative else (lambda x: x),
        restart,
    )
