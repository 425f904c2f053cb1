"""Tikhonov's strength at the corner of the L-curve: where less damping begins to cost norm and more begins to cost fit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax.operators.grid_minimum import grid_minimum
from medjax.operators.spectral import SingularSystem


class LCurve(NamedTuple):
    """strength: at the corner; strengths, residual_norms, solution_norms, curvature: `[num]`, the curve."""

    strength: Array
    strengths: Array
    residual_norms: Array
    solution_norms: Array
    curvature: Array


def l_curve(system: SingularSystem, y, strengths=None) -> LCurve:
    r"""The strength of greatest curvature of the curve :math:`(\hat\rho, \hat\eta) = (\log \|A x - y\|, \log \|x\|)` of Tikhonov's x.

    .. math:: \kappa = \frac{\hat\rho' \hat\eta'' - \hat\rho'' \hat\eta'}{(\hat\rho'^2 + \hat\eta'^2)^{3/2}}

    by the logarithm of the strength, from exact derivatives. It needs no noise level, and no white noise, but has no corner to find where the
    data hardly have noise, and damps too little where x is very smooth.

    Args:
      system: of A, from `singular_system` or `krylov_system`.
      y: data; those of the `krylov_system`.
      strengths: `[num]` > 0, ascending, where the corner is looked for; by default `system.strengths()`.

    Returns:
      An `LCurve`; its strength lies between neighbours of the best of the strengths; NaN of data that are.

    Raises:
      ValueError: for strengths that are known and not positive and ascending.

    Reference:
      Hansen & O'Leary (1993), The use of the L-curve in the regularization of discrete ill-posed problems, https://doi.org/10.1137/0914086
    """
    strengths = system.strengths() if strengths is None else jnp.asarray(strengths, system.values.dtype)
    norms = system.tikhonov_norms(y)

    def point(log_strength):
        residual, size = norms(jnp.exp(log_strength))
        return jnp.stack([jnp.log(residual), jnp.log(size)])

    def curvature(strength):
        first, second = jax.jacfwd(point), jax.jacfwd(jax.jacfwd(point))
        (rho, eta), (rho2, eta2) = first(jnp.log(strength)), second(jnp.log(strength))
        return (rho * eta2 - rho2 * eta) / (rho**2 + eta**2) ** 1.5

    strength, values = grid_minimum(lambda s: -curvature(s), strengths)
    residuals, sizes = jax.vmap(norms)(strengths)
    return LCurve(strength, strengths, residuals, sizes, -values)
