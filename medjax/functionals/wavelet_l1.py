"""Sum of the magnitudes of orthonormal coefficients."""

import jax

from medjax import checks
from medjax.functionals.group_l1 import group_l1
from medjax.functionals.l1 import l1
from medjax.typing import Functional, Operator


def wavelet_l1(W: Operator, strength, channels: bool = False, free_levels: int = 0) -> Functional:
    r"""Sparsity in an orthonormal basis.

    .. math:: \sum_i \lambda_i |(W x)_i|, \quad \mathrm{prox}_\tau(v) = W^H \mathrm{prox}_{\tau \lambda \|\cdot\|_1}(W v), \quad W^H W = W W^H = I

    Args:
      W: orthonormal operator, whose adjoint is its inverse, such as `wavelet`; for another W the prox is wrong.
      strength: lambda >= 0, a scalar or like W x (with `channels`, one channel of size 1).
      channels: x has a last axis that W does not know, whose channels are joined under one root (the two parts of a complex image).
      free_levels: number of levels of W whose coarsest approximation, the corner of a 2^levels-th of each axis, goes unpenalised; 0 penalises all.

    Returns:
      A `Functional` of real or complex x, or with `channels` of real `[h, w, c]`.

    Raises:
      ValueError: for a strength below 0 or NaN, or free levels that W does not have.

    Reference:
      Parikh & Boyd (2014), Proximal algorithms, eq. 2.2 and section 2.1, https://doi.org/10.1561/2400000003
    """
    checks.nonnegative(strength, "strength of wavelet_l1")
    levels = getattr(W, "levels", None)  # a composition does not say
    if free_levels < 0 or (levels is not None and free_levels > levels):
        raise ValueError(f"free_levels of wavelet_l1 is {free_levels}, 0 to {'the levels of W' if levels is None else levels} is needed")
    penalty = group_l1(strength, -1) if channels else l1(strength)
    forward, backward = (jax.vmap(fn, -1, -1) if channels else fn for fn in (lambda x: W(x), lambda c: W.adjoint(c)))

    def corner(c):
        shape = c.shape[: c.ndim - channels]
        if min(shape) >> free_levels < 1:
            raise ValueError(f"free_levels of wavelet_l1 is {free_levels}, coefficients {list(shape)} have no such level")
        return tuple(slice(n >> free_levels) for n in shape)

    def value(x):
        c = forward(x)
        return penalty.value(c.at[corner(c)].set(0) if free_levels else c)

    def prox(v, tau):
        c = forward(v)
        shrunk = penalty.prox(c, tau)
        return backward(shrunk.at[corner(c)].set(c[corner(c)]) if free_levels else shrunk)

    return Functional(value, prox)
