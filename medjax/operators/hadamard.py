"""Hadamard's three questions to an inverse problem."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from medjax import linalg
from medjax.operators.spectral import inner_products, refuse_nonfinite, singular_system
from medjax.typing import Operator

_STABLE = 10.0  # condition number up to which no solution needs regularisation


class Hadamard(NamedTuple):
    """Numbers of m data and n unknowns, and of data y where they were given; `verdict` says them in words.

    num_data, num_unknowns: m and n.
    rank: p; m - p dimensions of data no x explains, n - p dimensions of x no data show.
    unexplained: ||y - U U^H y|| / ||y||; None without y.
    null_fraction: (n - p) / n.
    condition_number: an error of data grows at most so many times, both relative.
    power, rate: s_i ~ i^-power, and s_i ~ exp(-rate i), fitted to the p values that are not zero; NaN for less than three.
    exponential: that the second fits better.
    values: `[k]` s_i.
    coefficients: `[k]` |<u_i, y>|; None without y.
    picard_power: coefficients ~ s_i^picard_power; below 1 Picard's condition fails, for |<u_i, y>| / s_i grows. None without y, NaN where s_i
      hardly vary.
    """

    num_data: int
    num_unknowns: int
    rank: Array
    unexplained: Array | None
    null_fraction: Array
    condition_number: Array
    power: Array
    rate: Array
    exponential: Array
    values: Array
    coefficients: Array | None
    picard_power: Array | None

    def verdict(self) -> str:
        """One line each on existence, uniqueness, stability and, of data, Picard's condition; for known numbers."""
        if not jnp.all(jnp.isfinite(self.values)):
            return "the singular values are not finite: nothing is known"
        lines = [self._existence(), self._uniqueness(), self._stability()]
        if self.picard_power is not None and jnp.isfinite(self.picard_power):
            met = "met: y looks like data of a bounded x" if self.picard_power > 1 else "not met: without regularisation the least values decide"
            lines.append(f"Picard: |<u_i, y>| ~ s_i^{float(self.picard_power):.2f}, {met}")
        return "\n".join(lines)

    def _existence(self):
        missing = self.num_data - int(self.rank)
        words = "all data have a solution" if missing == 0 else f"{missing} of {self.num_data} dimensions of the data have none"
        if self.unexplained is not None:
            words += f"; of this y no x explains {100 * float(self.unexplained):.3g} %"
        return f"existence: {words}"

    def _uniqueness(self):
        missing = self.num_unknowns - int(self.rank)
        words = f"{missing} of {self.num_unknowns} dimensions, {100 * float(self.null_fraction):.3g} %, are not seen"
        return f"uniqueness: {'one solution' if missing == 0 else words}"

    def _stability(self):
        words = f"stability: condition number {float(self.condition_number):.3g}"
        if self.condition_number <= _STABLE or not jnp.isfinite(self.power):
            return f"{words}{': stable' if self.condition_number <= _STABLE else ''}"
        if self.exponential:
            return f"{words}, s_i ~ exp(-{float(self.rate):.2g} i): severely ill-posed"
        return f"{words}, s_i ~ i^-{float(self.power):.2g}: {'mildly' if self.power <= 1 else 'moderately'} ill-posed"


def hadamard(A: Operator, shape, y=None, dtype=float, tolerance=None) -> Hadamard:
    """Existence, uniqueness and stability of A x = y, by numbers.

    A discrete problem is never unstable in the strict sense: what counts is how the singular values fall. It is called mildly (s_i ~ i^-a, a <= 1),
    moderately (a > 1) or severely (exponential) ill-posed.

    Args:
      A: operator, small.
      shape: of x.
      y: data, for the questions that depend on them.
      dtype: of x.
      tolerance: as in `singular_system`.

    Returns:
      A `Hadamard`; its method `verdict()` gives lines of text, and `picard_plot` draws its values and coefficients.

    Raises:
      ValueError: as `singular_system`, or for data known to be not finite. Where they are traced, the numbers are NaN.

    Reference:
      Hansen (2010), Discrete Inverse Problems, chapters 1 and 3, https://doi.org/10.1137/1.9780898718836
    """
    refuse_nonfinite(y, "y of hadamard")
    system = singular_system(A, shape, dtype, tolerance)
    values, seen = system.values, system.seen()
    index = jnp.arange(1.0, values.shape[0] + 1).astype(values.dtype)
    logs = jnp.log(jnp.where(seen > 0, values, 1))
    enough = system.rank >= 3
    power, power_gap = _fit(jnp.log(index), logs, seen)
    rate, rate_gap = _fit(index, logs, seen)
    num_unknowns = system.right[0].size
    unexplained = coefficients = picard_power = None
    if y is not None:
        gap, size = linalg.norm(jax.tree.map(jnp.subtract, y, system.range_projection(y))), linalg.norm(y)
        unexplained = gap / jnp.where(size > 0, size, 1)
        coefficients = jnp.abs(inner_products(system.left, y, not jnp.iscomplexobj(system.right)))
        there = seen * (coefficients != 0)  # NaN, too
        fitted = _fit(logs, jnp.log(jnp.where(there > 0, coefficients, 1)), there)[0]
        varied = system.condition_number() > _STABLE
        picard_power = jnp.where(enough & varied, fitted, jnp.nan)
    return Hadamard(
        system.num_data(),
        num_unknowns,
        system.rank,
        unexplained,
        jnp.where(jnp.isnan(values[0]), jnp.nan, (num_unknowns - system.rank) / num_unknowns).astype(values.dtype),
        system.condition_number(),
        jnp.where(enough, -power, jnp.nan),
        jnp.where(enough, -rate, jnp.nan),
        rate_gap < power_gap,
        values,
        coefficients,
        picard_power,
    )


def _fit(x, y, weight):
    """The slope of the line through weighted points, and the sum of squares beside it."""
    total = jnp.maximum(jnp.sum(weight), 1)
    x, y = x - jnp.sum(weight * x) / total, y - jnp.sum(weight * y) / total
    spread = jnp.sum(weight * x**2)
    slope = jnp.sum(weight * x * y) / jnp.where(spread > 0, spread, 1)
    return slope, jnp.sum(weight * (y - slope * x) ** 2)
