"""Maximum likelihood for Poisson data by expectation maximisation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import checks, linalg
from medjax.solvers.em_factor import em_factor
from medjax.solvers.em_start import em_start
from medjax.typing import Info, Operator, Solver


class MlemState(NamedTuple):
    """x: iterate."""

    x: Array


def mlem(A: Operator, y, background=0.0) -> Solver:
    r"""MLEM: maximum likelihood of counts y ~ Poisson(A x + b) for x >= 0.

    .. math:: x_{k+1} = \frac{x_k}{A^T 1} \, A^T \frac{y}{A x_k + b}

    For A >= 0 the likelihood never falls, x stays nonnegative, and with b = 0 the expected counts :math:`\sum A x` equal the counts found from the
    first step on. Of `parallel_beam`'s model="fourier", which rings below 0, nothing is promised, but bins within the ringing tell nothing (see
    `em_factor`): of a Shepp-Logan phantom at 128 px, from 90 views and 800,000 counts, its errors after 20, 50 and 100 steps were .227, .278 and
    .405, those of model="joseph" .230, .281 and .400. Noise grows with the steps: stop early, or smooth.

    Args:
      A: operator of real images, an array, with entries that are not negative or hardly so.
      y: counts >= 0, an array or pytree. Of data of `emission_counts`, which come with the background taken off, y + background.
      background: b >= 0, expected randoms and scatter, a scalar or like y.

    Returns:
      A `Solver`. Its init raises pixels of x0 that are not positive, which could never change, to the mean activity; pixels that nothing measures
      keep x0. `Info.step_ratio` is 0.

    Raises:
      ValueError: where y or background is known and negative.

    Reference:
      Shepp & Vardi (1982), Maximum likelihood reconstruction for emission tomography, https://doi.org/10.1109/TMI.1982.4307558
    """
    y = jax.tree.map(lambda a: linalg.inexact(checks.nonnegative(a, "y, the counts,")), y)
    checks.nonnegative(background, "background")
    background = jax.tree.map(lambda b, a: jnp.broadcast_to(jnp.asarray(b, a.dtype), a.shape), jax.tree.broadcast(background, y), y)
    sensitivity = A.adjoint(jax.tree.map(jnp.ones_like, y))

    def init(x0):
        return MlemState(em_start(y, background, sensitivity, x0))

    def step(state):
        x = state.x * em_factor(A, y, background, sensitivity, state.x)
        change = linalg.change(x, state.x)
        return MlemState(x), Info(change, jnp.zeros_like(change))

    return Solver(init, step)
