"""Runge-Kutta steps between noise levels, by the methods of diffrax."""

import jax
import jax.numpy as jnp
import numpy as np

from medjax.typing import Kernel


def runge_kutta(solver: str = "Bosh3") -> Kernel:
    r"""One step of an explicit Runge-Kutta method for the probability-flow ODE, with fixed steps.

    .. math::
        \frac{dx}{d\sigma} = \frac{x - D(x, \sigma)}{\sigma}

    The step to sigma' = 0 gives x' = D(x, sigma).

    Args:
      solver: an explicit method of diffrax: "Midpoint", "Ralston", "Bosh3" (order 3), "Tsit5", "Dopri5" (order 5), "Dopri8".

    Returns:
      A `Kernel` without state, as many denoiser calls a step as the method has stages (3 of Bosh3, 6 of Tsit5 and Dopri5).

    Raises:
      ImportError: without diffrax.
      ValueError: for a solver that is no explicit method of diffrax.

    Reference:
      Kidger (2021), On neural differential equations, https://arxiv.org/abs/2202.02435; the ODE is eq. 1 of Karras et al. (2022),
      https://arxiv.org/abs/2206.00364. Only the coefficients are diffrax's: its own stepping estimates errors that fixed levels do not ask for,
      and does not run under `shard_map`.
    """
    try:
        import diffrax
    except ImportError as error:
        raise ImportError("runge_kutta needs diffrax, which is not installed: pip install diffrax") from error
    method = getattr(diffrax, str(solver), None)
    if not (isinstance(method, type) and issubclass(method, diffrax.AbstractERK) and method is not diffrax.AbstractERK):
        raise ValueError(f"solver is {solver!r}; an explicit Runge-Kutta method of diffrax is needed, such as Midpoint, Bosh3 or Dopri5")
    a, b, c = _tableau(method)

    def step(key, x, state, sigma, sigma_next, denoise):
        length = sigma_next - sigma

        def stage(slopes, i):
            at = x + length * jnp.tensordot(a[i].astype(x.dtype), slopes, 1)
            level = sigma + c[i].astype(x.dtype) * length
            return slopes.at[i].set((at - denoise(at, level)) / level), None

        def move(x):
            slopes, _ = jax.lax.scan(stage, jnp.stack([x] * len(b)), jnp.arange(len(b)))
            return x + length * jnp.tensordot(b.astype(x.dtype), slopes, 1)

        return jax.lax.cond(sigma_next > 0, move, lambda x: denoise(x, sigma), x), state

    return Kernel(lambda x: (), step)


def _tableau(method):
    """Butcher's a `[s, s]`, b `[s]` and c `[s]`, without the stages that only estimate the error."""
    tableau = method.tableau
    b = np.trim_zeros(np.asarray(tableau.b_sol), "b")
    a = [np.pad(np.asarray(row), (0, len(b) - len(row))) for row in ((), *tableau.a_lower)[: len(b)]]
    return jnp.asarray(np.stack(a)), jnp.asarray(b), jnp.asarray(np.append(0.0, tableau.c)[: len(b)])
