"""One row of the contract table of solvers."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medjax.typing import Leaf


class SolverRow(NamedTuple):
    """A solver, a small problem and what is known of its answer. Solvers see problems in float64, float32 and under `vmap`.

    make: `theta -> Solver`; with `step_bound` `(theta, stretch) -> Solver`, whose step sizes are `stretch` times those of the theorem. Whatever is
        differentiated or batched comes from theta, step sizes too are computed in here (`jnp.linalg.norm(w, 2)`).
    problem: `(key, dtype) -> (theta, x0)`, dtype float64 or complex128: theta a pytree of arrays, floating or complex, with data, strengths and the
        operator (`Dense(w)`, whose matrix is a leaf); x0 the start, an array. Two keys must give the same shapes.
    optimum: `(theta, x0) -> x*`, called with known arrays, outside jit: a closed form, a dense solve in numpy, or another method run for long.
    num_steps: after so many steps |x - x*| <= tolerance |x*|, and still after three times as many.
    tolerance: above 1e-7 only with the reason in the row.
    step_bound: that the method has a step bound, at which `stretch` = 1 stands (or just below); three times that must be seen, by `step_ratio` or
        by `diverged`.
    limit: `(theta, x0, x*) -> (quantity, bound)`, the theorem on its rate: `quantity(state) <= bound(k)` for the state after k = 1, 2, ... steps.
    falls: `(theta, x0, x*) -> quantity`: `quantity(state)` never rises.
    complex: that it takes complex problems.
    backward: the ways of `implicit.solution` that are right for it.
    """

    make: Callable[..., Any]
    problem: Callable[[Any, Any], tuple[Any, Any]]
    optimum: Callable[[Any, Any], Any]
    num_steps: int
    tolerance: float = 1e-7
    step_bound: bool = False
    limit: Callable[[Any, Any, Any], tuple[Callable, Callable]] | None = None
    falls: Callable[[Any, Any, Any], Callable] | None = None
    complex: bool = False
    backward: tuple[str, ...] = ("unroll", "implicit")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dense:
    """The operator x -> w x of a matrix `[m, n]`."""

    w: Leaf

    def __call__(self, x):
        """w x."""
        return self.w @ x

    def adjoint(self, y):
        """w^H y."""
        return jnp.conj(self.w).T @ y
