"""Alternating direction method of multipliers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import checks, linalg
from medjax.solvers.checked_relaxation import checked_relaxation
from medjax.typing import Info, Solver


class AdmmState(NamedTuple):
    """x: iterate; z: its copy K x; y: multiplier of K x = z; rho: penalty."""

    x: Any
    z: Any
    y: Any
    rho: Array


def admm(prox_f: Callable, prox_g: Callable, rho, K: Callable | None = None, relaxation=1.0, balance: bool = False) -> Solver:
    r"""ADMM for min_x f(x) + g(K x).

    .. math::
        x_{k+1} = \arg\min_x f(x) + \tfrac{\rho}{2} \|K x - z_k + y_k / \rho\|^2, \quad h = \alpha K x_{k+1} + (1 - \alpha) z_k, \\
        z_{k+1} = \mathrm{prox}_{g / \rho}(h + y_k / \rho), \quad y_{k+1} = y_k + \rho (h - z_{k+1})

    It converges for every rho > 0. Its `change` is that of :math:`(\rho^{1/2} z, \rho^{-1/2} y)`, which without relaxation joins the primal residual
    K x - z and the dual one rho (z_{k+1} - z_k), and whose numerator then never rises.

    Args:
      prox_f: `(v, tau) -> argmin_x f(x) + ||x - v||^2 / (2 tau)`; with K `(v, tau, x) -> argmin_u f(u) + ||K u - v||^2 / (2 tau)`, x being the last
        iterate, where an inner solver may start, at `lax.stop_gradient(x)`. For derivatives it must be a `lax.custom_linear_solve`: at the solution
        it takes no step, and none that could be differentiated.
      prox_g: `(v, tau) -> argmin_z g(z) + ||z - v||^2 / (2 tau)`.
      rho: penalty > 0, scalar; tau is 1 / rho.
      K: linear map, the identity if None.
      relaxation: alpha in (0, 2); 1.5 to 1.8 often is faster than 1.
      balance: doubles rho where the primal residual is ten times the dual one and halves it in the opposite case. The state then has no smooth fixed
        point, and convergence is proven only if the changes end: for derivatives leave it off.

    Returns:
      A `Solver` that starts from z = K x0, y = 0. x minimises f + g o K in the limit; z lies in the domain of g at every step.

    Raises:
      ValueError: for a known rho or relaxation that is not positive.

    Reference:
      Boyd et al. (2011), Distributed optimization and statistical learning via ADMM, sections 3.1-3.4, https://doi.org/10.1561/2200000016
    """
    checks.positive(rho, "rho")
    checked_relaxation(relaxation)

    def solve(v, tau, x):
        return prox_f(v, tau) if K is None else prox_f(v, tau, x)

    def init(x0):
        z = x0 if K is None else K(x0)
        return AdmmState(x0, z, jax.tree.map(jnp.zeros_like, z), jnp.asarray(rho, linalg.real_dtype(z)))

    def step(state):
        rho = state.rho
        u = jax.tree.map(lambda a: a / rho, state.y)
        x = solve(jax.tree.map(jnp.subtract, state.z, u), 1 / rho, state.x)
        Kx = x if K is None else K(x)
        h = jax.tree.map(lambda a, b: relaxation * a + (1 - relaxation) * b, Kx, state.z)
        z = prox_g(jax.tree.map(jnp.add, h, u), 1 / rho)
        following = jax.tree.map(lambda a, b, c: a + b - c, u, h, z)
        change = linalg.change((z, following), (state.z, u))
        y = jax.tree.map(lambda a: rho * a, following)
        if balance:  # eq. 3.13
            primal = linalg.norm(jax.tree.map(jnp.subtract, Kx, z))
            dual = rho * linalg.norm(jax.tree.map(jnp.subtract, z, state.z))
            rho = jnp.where(primal > 10 * dual, 2 * rho, jnp.where(dual > 10 * primal, rho / 2, rho))
        return AdmmState(x, z, y, rho), Info(change, jnp.zeros_like(change))

    return Solver(init, step)
