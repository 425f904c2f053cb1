"""Variational reconstruction with a learned regulariser."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from medjax import checks, descent, implicit, linalg
from medjax.typing import Reconstruction

_FALLEN = 10
"""Whole data terms by which a regulariser must have fallen below its value at 0 to count as unbounded."""


def variational(
    network,
    strength: float = 1.0,
    direct: Callable | None = None,
    solver: str = "lbfgs",
    backward: str = "implicit",
    tolerance: float = 1e-5,
    max_steps: int = 300,
    num_backward: int = 1,
    num_ritz: int | None = None,
) -> Reconstruction:
    r"""The image that fits the data and has little of a learned energy.

    .. math:: \hat x = \arg\min_x \tfrac12 \left\| \frac{A x - y}{\sigma_y} \right\|^2 + \lambda e^s R_\theta(x)

    By `implicit.minimise`; with the loss `supervised` this is bilevel learning of theta and s. Where R is not convex the minimum is the one below the
    start, and its derivative that of this branch.

    Args:
      network: R, `init(key, x)` and `apply(params, x) -> scalar`, smooth, of x as A takes it.
      strength: lambda, > 0, that of the first step: s, `params["log_strength"]`, is learned and 0 at first. After training another lambda weakens or
        strengthens what was learned.
      direct: `(A, y) -> x`, the start; zeros if None.
      solver: of `implicit.minimise`.
      backward: likewise; "implicit", "jfb" or "unroll".
      tolerance: likewise, of the gradient over that at 0. At the minimum the gradients of both terms are of the size of the noise, a hundredth of
        that, say, so that 1e-3 is no solution yet.
      max_steps: the most steps, of "unroll" all.
      num_backward: of "jfb".
      num_ritz: products with the Hessian, each of some two gradients, that look for its extreme curvatures at the answer; 0 for none. If None, 20 of
        "jfb", whose gradient at a saddle is silently wrong, and 0 of the others: that of "implicit" is NaN there, "unroll" differentiates its steps.

    Returns:
      A `Reconstruction` with its `regulariser` lambda e^s R. It tells what `implicit.told` does and `lower_unbounded`, 1 where the regulariser fell
      below its value at 0 by more than ten whole data terms |y / sigma_y|^2 / 2, or is not finite: it has no minimum near the data. See
      `implicit.trouble`.

    Raises:
      ValueError: for a strength or tolerance that is not positive, counts below 1, another solver or backward; from it, for data that do not fit A.

    Reference:
      Arridge, Maass, Oktem & Schonlieb (2019), Solving inverse problems using data-driven models, section 4.3,
      https://doi.org/10.1017/S0962492919000059
    """
    for name, value in (("strength", strength), ("tolerance", tolerance)):
        checks.positive(value, f"{name} of variational")
    for name, chosen, known in (("solver", solver, descent.LOWER), ("backward", backward, implicit.BACKWARD)):
        if chosen not in known:
            raise ValueError(f"{name} of variational is {chosen!r}, one of {', '.join(known)} is needed")
    options = {"solver": solver, "backward": backward, "tolerance": tolerance, "max_steps": max_steps}
    options |= {"num_backward": num_backward, "num_ritz": (20 if backward == "jfb" else 0) if num_ritz is None else num_ritz}

    def init(key, A, y):
        like = jax.eval_shape(A.adjoint, y)
        return {"network": network.init(key, jnp.zeros(like.shape, like.dtype)), "log_strength": jnp.zeros((), linalg.real_dtype(like))}

    def regulariser(params, x):
        return strength * jnp.exp(params["log_strength"].astype(linalg.real_dtype(x))) * network.apply(params["network"], x)

    def energy(x, theta):
        params, A, y, root = theta
        error = root * (A(x) - y)
        return linalg.vdot(error, error) / 2 + regulariser(params, x)

    def apply(params, A, y, sigma_y):
        y, root = checks.measured(A, y, sigma_y)
        like = jax.eval_shape(A.adjoint, y)
        zeros = jnp.zeros(like.shape, like.dtype)
        start = zeros if direct is None else direct(A, y)
        found = implicit.minimise(energy, start, ({name: params[name] for name in ("network", "log_strength")}, A, y, root), **options)
        whole, fallen = linalg.norm(root * y) ** 2 / 2, regulariser(params, zeros) - regulariser(params, found.x)
        unbounded = jax.lax.stop_gradient(~(fallen <= _FALLEN * whole)).astype(whole.dtype)
        return found.x, implicit.told(found) | {"lower_unbounded": unbounded}

    return Reconstruction(init, apply, regulariser)
