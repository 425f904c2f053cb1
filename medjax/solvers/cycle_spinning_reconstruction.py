"""Regularised least squares whose regulariser moves over the image from step to step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import linalg
from medjax.solvers.data_term import data_term
from medjax.solvers.fista import FistaState, fista
from medjax.typing import Functional, Operator, Solver


class CycleSpinningState(NamedTuple):
    """inner: of FISTA; count: of the steps, a float."""

    inner: FistaState
    count: Array

    @property
    def x(self):
        """The iterate."""
        return self.inner.x


def cycle_spinning_reconstruction(A: Operator, y, sigma_y, regulariser: Functional, reach: int, key=None, step_size=None) -> Solver:
    r"""Least squares with the mean of a regulariser over shifts of the image, by random ones.

    .. math:: \min_x \tfrac12 \left\| \frac{A x - y}{\sigma_y} \right\|^2 + \mathbb{E}_s R(T_s x), \qquad
        x_{k+1} = T_{-s_k} \, \mathrm{prox}_{\tau R}(T_{s_k} (z_k - \tau \nabla f(z_k)))

    T_s rolls the last two axes by s in {0, ..., reach - 1}^2, drawn anew in each step of `fista`. Wavelets and blocks of low rank treat a feature
    differently wherever their grid lies; the mean over shifts leaves no grid in the image. Its prox has no closed form; a random one in its place
    leaves x moving about the minimum by an amount that grows with the strength: it ends by the number of steps, not by `change`.

    Args:
      A: operator; by its `normal` where it has one and sigma_y is a scalar.
      y: data.
      sigma_y: standard deviation of y (of each component of a complex y), a scalar or like y, positive; infinite where nothing was measured.
      regulariser: R, with its strength, such as `wavelet_l1` or `locally_low_rank`, of `[..., h, w]`.
      reach: number of shifts along an axis: the side of a block, or 2^levels.
      key: of the shifts; fixed if None.
      step_size: at most 1 / ||A / sigma_y||^2; from the operator norm if None.

    Returns:
      A `Solver`.

    Raises:
      ValueError: for a reach below 1, a known sigma_y that is not positive.

    Reference:
      Figueiredo & Nowak (2003), An EM algorithm for wavelet-based image restoration, https://doi.org/10.1109/TIP.2003.814255; by FISTA in the
      BART toolbox, https://mrirecon.github.io/bart, `pics`.
    """
    if reach < 1:
        raise ValueError(f"reach of cycle_spinning_reconstruction is {reach}, at least 1 is needed")
    key = jax.random.key(0) if key is None else key
    data = data_term(A, y, sigma_y)
    if step_size is None:
        step_size = 1 / data.curvature()

    def at(shift):
        """FISTA with the regulariser moved there."""

        def prox(v, tau):
            return jnp.roll(regulariser.prox(jnp.roll(v, shift, (-2, -1)), tau), -shift, (-2, -1))

        return fista(data.grad, prox, step_size)

    def init(x0):
        return CycleSpinningState(at(jnp.zeros(2, int)).init(x0), jnp.zeros((), linalg.real_dtype(x0)))

    def step(state):
        shift = jax.random.randint(jax.random.fold_in(key, state.count.astype(jnp.uint32)), (2,), 0, reach)
        inner, info = at(shift).step(state.inner)
        return CycleSpinningState(inner, state.count + 1), info

    return Solver(init, step)
