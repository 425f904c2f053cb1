"""The loop of an inner solver."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from medjax import checks


def until_gap(step: Callable, state, gap: Callable, bound, max_steps: int, check_every: int):
    """The state once its duality gap is at most `bound`, looked at every `check_every` steps.

    Args:
      step: `(i, state) -> state`.
      state: the first one.
      gap: `state -> scalar`, a constant for autodiff.
      bound: real scalar.
      max_steps: the most steps, up to the next multiple of `check_every`.
      check_every: steps between two looks.

    Returns:
      The last state; forward mode goes through all steps, reverse mode does not exist.

    Raises:
      ValueError: for no steps.
    """
    checks.positive(max_steps, "max_steps of until_gap")
    checks.positive(check_every, "check_every of until_gap")

    def unfinished(carry):
        _, found, count = carry
        return (found > bound) & (count < max_steps)

    def body(carry):
        state, _, count = carry
        state = lax.fori_loop(0, check_every, step, state)
        return state, gap(lax.stop_gradient(state)).astype(jnp.result_type(bound)), count + check_every

    return lax.while_loop(unfinished, body, (state, jnp.full_like(bound, jnp.inf), jnp.zeros((), int)))[0]
