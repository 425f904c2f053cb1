"""One row of a contract table of operators."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Row(NamedTuple):
    """An operator and what it must be.

    make: `key -> A`, small: a few hundred numbers in and out.
    shape: of its input.
    dtype: of its input, float64 or complex128.
    truth: `(A, x) -> A x`, the same map written another way, a dense matrix or a loop.
    tolerance: relative error against the truth; above 1e-11 only with the reason in the row.
    wrong, wrong_data: shapes of x, and of y, that must be refused; None for the usual ones: a batch, an axis too few, a last axis too long.
    constant: its leaves are tables of a known geometry, which take no derivative.
    """

    make: Callable[[Any], Any]
    shape: tuple[int, ...]
    dtype: Any
    truth: Callable[[Any, Any], Any]
    tolerance: float = 1e-11
    wrong: tuple[tuple[int, ...], ...] | None = None
    wrong_data: tuple[tuple[int, ...], ...] | None = None
    constant: bool = False
