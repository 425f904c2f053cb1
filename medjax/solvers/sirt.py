"""Simultaneous iterative reconstruction."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import linalg
from medjax.solvers.checked_relaxation import checked_relaxation
from medjax.solvers.inverse_sums import inverse_sums
from medjax.solvers.step_ratio import step_ratio
from medjax.typing import Info, Operator, Solver


class SirtState(NamedTuple):
    """x: iterate; previous: the one before; back: A^T R (y - A previous)."""

    x: Array
    previous: Array
    back: Array


def sirt(A: Operator, y, relaxation=1.0, nonnegative: bool = False) -> Solver:
    r"""SIRT: least squares where a ray weighs the inverse of its length in the image.

    .. math::
        x_{k+1} = x_k + \omega \, C A^T R \, (y - A x_k), \quad C = \mathrm{diag}(A^T 1)^{-1}, \; R = \mathrm{diag}(A 1)^{-1}

    It converges to the minimiser of :math:`\|R^{1/2} (A x - y)\|` that is nearest to x_0 in the norm :math:`\|C^{-1/2} x\|`, for A >= 0 and
    :math:`0 < \omega < 2`. A sum that is zero has inverse zero: rays that miss the image and pixels that no ray meets are left alone. With
    `parallel_beam`'s model="fourier", which is not quite nonnegative, :math:`\|R^{1/2} A C^{1/2}\|`, the bound on omega being 2 over its square, was
    below 1 in five geometries (see `inverse_sums`); `Info.step_ratio` tells of others.

    Args:
      A: operator of real images, an array, with entries that are not negative or hardly so.
      y: data, an array or pytree.
      relaxation: omega, a scalar.
      nonnegative: projects onto x >= 0 after each step.

    Returns:
      A `Solver`; a step takes one A and one A^T.

    Raises:
      ValueError: where relaxation is known and not between 0 and 2.

    Reference:
      Jiang & Wang (2003), Convergence of the simultaneous algebraic reconstruction technique, https://doi.org/10.1109/TIP.2003.815295, where it is
      SART with one subset; Gregor & Benson (2008), Computational analysis and improvement of SIRT, https://doi.org/10.1109/TMI.2008.923696
    """
    checked_relaxation(relaxation)
    y = jax.tree.map(linalg.inexact, y)
    like = jax.eval_shape(A.adjoint, y)
    rows = jax.tree.map(inverse_sums, A(jnp.ones(like.shape, like.dtype)))
    column_sums = A.adjoint(jax.tree.map(jnp.ones_like, y))
    columns = inverse_sums(column_sums)
    root, size = jnp.sqrt(columns), jnp.asarray(relaxation, like.dtype)

    def init(x0):
        return SirtState(x0, x0, jnp.zeros_like(x0))

    def step(state):
        back = A.adjoint(jax.tree.map(lambda r, b, Ax: r * (b - Ax), rows, y, A(state.x)))
        x = state.x + size * columns * back
        x = jnp.maximum(x, 0) if nonnegative else x
        length = root * column_sums  # C^-1/2, but 0 where C is
        ratio = step_ratio(size, length * state.x, length * state.previous, root * back, root * state.back, bound=2)
        return SirtState(x, state.x, back), Info(linalg.change(x, state.x), ratio)

    return Solver(init, step)
