"""Tikhonov's strength that predicts left-out data best."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from medjax.operators.grid_minimum import grid_minimum
from medjax.operators.spectral import SingularSystem


class CrossValidation(NamedTuple):
    """strength: of the least score; strengths, scores: `[num]`, the curve."""

    strength: Array
    strengths: Array
    scores: Array


def generalised_cross_validation(system: SingularSystem, y, strengths=None, freedom_fn: Callable | None = None) -> CrossValidation:
    r"""The strength that minimises the score of generalised cross-validation of Tikhonov's x.

    .. math:: V(\lambda) = \frac{m \, \|A x_\lambda - y\|^2}{(m - t(\lambda))^2}, \quad t = \mathrm{tr} \, A (A^H A + \lambda I)^{-1} A^H

    It needs no noise level, but white noise (whiten first), and estimates the mean squared error of A x. The minimum may be flat, and the strength
    far too low once in a while.

    Args:
      system: of A, from `singular_system` or `krylov_system`.
      y: data; those of the `krylov_system`.
      strengths: `[num]` > 0, ascending, where the minimum is looked for; by default `system.strengths()`.
      freedom_fn: t, strength -> degrees of freedom; exact by default, which a `krylov_system` cannot know: give it `influence_trace(key, A, y)`.

    Returns:
      A `CrossValidation`; its strength lies between neighbours of the best of the strengths; NaN of data that are.

    Raises:
      ValueError: for strengths that are known and not positive and ascending.

    Reference:
      Golub, Heath & Wahba (1979), https://doi.org/10.1080/00401706.1979.10489751
    """
    strengths = system.strengths() if strengths is None else jnp.asarray(strengths, system.values.dtype)
    freedom_fn = system.tikhonov_freedom if freedom_fn is None else freedom_fn
    norms, num_data = system.tikhonov_norms(y), system.num_data()

    def score(strength):
        return num_data * (norms(strength)[0] / (num_data - freedom_fn(strength))) ** 2

    strength, scores = grid_minimum(score, strengths)
    return CrossValidation(strength, strengths, scores)
