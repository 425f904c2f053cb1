"""The strength that leaves a residual as large as the noise."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from medjax.checks import is_concrete


class Discrepancy(NamedTuple):
    """strength: the choice; strengths, residual_norms: `[max_steps + 2]`, all that were tried, in order, the rest NaN; converged: that they met."""

    strength: Array
    strengths: Array
    residual_norms: Array
    converged: Array


def discrepancy_principle(residual_fn: Callable, noise_norm, low, high, tau=1.0, tolerance=1e-6, max_steps: int = 50) -> Discrepancy:
    r"""Morozov's choice for any regularisation: the residual explains the noise, and no more.

    .. math:: \|A x_\lambda - y\| = \tau \|n\|, \quad \mathrm{E} \|n\|^2 = \sum_i \sigma_i^2

    The residual norm grows with the strength, so there is one solution; Chandrupatla's method on logarithms finds it, by inverse quadratic
    interpolation where that is safe and by halving else.

    Args:
      residual_fn: strength -> ||A x - y||, or of the whitened residual, increasing: the first of a `SingularSystem.tikhonov_norms(y)`, or one that
        runs a solver.
      noise_norm: ||n|| > 0: sigma_y times the root of the number of data; of complex data twice that number.
      low, high: strengths > 0 that hold the choice between them.
      tau: safety factor, a little above 1 where the noise level is not known well.
      tolerance: on the logarithm of the residual norm; of an iterative solver not below its own.
      max_steps: the most evaluations after the two ends.

    Returns:
      A `Discrepancy`; where the ends do not hold the choice, the nearer of them, not converged.

    Raises:
      ValueError: for numbers that are known and not positive, low >= high, or ends that are known not to hold the choice.

    Reference:
      Hansen (2010), Discrete Inverse Problems, section 5.2, https://doi.org/10.1137/1.9780898718836; Chandrupatla (1997),
      https://doi.org/10.1016/S0965-9978(96)00051-8
    """
    if is_concrete(noise_norm, low, high, tau) and not (noise_norm > 0 and tau > 0 and 0 < low < high):
        found = f"noise_norm {noise_norm:.3g}, tau {tau:.3g}, low {low:.3g}, high {high:.3g}"
        raise ValueError(f"discrepancy_principle needs noise_norm > 0, tau > 0 and 0 < low < high, got {found}")
    dtype = jax.eval_shape(residual_fn, low).dtype
    target, start = jnp.asarray(tau * noise_norm, dtype), jnp.log(jnp.asarray([low, high], dtype))

    def gap(log_strength):
        return jnp.log(jnp.maximum(residual_fn(jnp.exp(log_strength)) / target, jnp.finfo(dtype).tiny))

    ends = jnp.stack([gap(start[0]), gap(start[1])])
    held = (ends[0] <= 0) & (ends[1] >= 0)
    if is_concrete(held) and not held:
        found = " to ".join(f"{value:.4g}" for value in jnp.exp(ends) * target)
        raise ValueError(f"strengths from {low:.3g} to {high:.3g} leave residual norms from {found}, which do not hold {target:.4g}")

    def unfinished(carry):
        num, _, gaps, (x1, x2, _), _ = carry
        return (
            held
            & (num < max_steps + 2)
            & ~(jnp.nanmin(jnp.abs(gaps)) <= tolerance)
            & (jnp.abs(x2 - x1) > 4 * jnp.finfo(dtype).eps * (1 + jnp.abs(x1)))
        )

    def body(carry):
        num, logs, gaps, (x1, x2, x3), (f1, f2, f3) = carry
        x = x1 + _share(x1, x2, x3, f1, f2, f3) * (x2 - x1)
        f = gap(x)
        same = jnp.sign(f) == jnp.sign(f1)
        x2, x3 = jnp.where(same, x2, x1), jnp.where(same, x1, x2)
        f2, f3 = jnp.where(same, f2, f1), jnp.where(same, f1, f2)
        return num + 1, logs.at[num].set(x), gaps.at[num].set(f), (x, x2, x3), (f, f2, f3)

    rest = jnp.full(max_steps, jnp.nan, dtype)
    carry = (2, jnp.append(start, rest), jnp.append(ends, rest), (start[0], start[1], start[1]), (ends[0], ends[1], ends[1]))
    _, logs, gaps, _, _ = lax.while_loop(unfinished, body, carry)
    best = jnp.nanargmin(jnp.abs(gaps))
    return Discrepancy(jnp.exp(logs[best]), jnp.exp(logs), jnp.exp(gaps) * target, jnp.abs(gaps[best]) <= tolerance)


def _share(x1, x2, x3, f1, f2, f3):
    """Where from x1 to x2 to look next: a half, unless the inverse parabola through all three is monotonic between them."""
    apart = x3 != x2
    xi, phi = (x1 - x2) / jnp.where(apart, x3 - x2, 1), (f1 - f2) / jnp.where(f3 == f2, 1, f3 - f2)
    safe = apart & (f3 != f2) & (f3 != f1) & (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)

    def over(a, b):
        return a / jnp.where(safe, b, 1)

    share = over(f1, f1 - f2) * over(f3, f3 - f2) - (x3 - x1) / (x2 - x1) * over(f1, f3 - f1) * over(f2, f2 - f3)
    return jnp.where(safe, jnp.clip(share, 1e-6, 1 - 1e-6), 0.5)
