"""The strength of a solver's regularisation, learned."""

import inspect
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from medjax import checks, implicit, linalg
from medjax.typing import Reconstruction


def learned_strength(
    make: Callable, direct: Callable, strength: float = 1.0, tolerance: float = 1e-6, max_steps: int = 1000, backward: str = "implicit"
) -> Reconstruction:
    r"""The solution of a solver whose one number is learned: a strength of total variation, a denoiser's noise level, any other scalar that is
    positive.

    .. math:: \hat x = \lim_k x_k, \; x_{k+1} = T_\lambda(x_k; A, y, \sigma_y), \quad \lambda = e^\theta

    With the loss `supervised` it is bilevel learning of lambda.

    Args:
      make: `(A, y, sigma_y, strength=lambda) -> Solver`, such as `tv_reconstruction`, or in a config its `Spec`; what else it depends on, the
        denoiser of a plug-and-play method, say, is bound before and not differentiated.
      direct: `(A, y) -> x`, the start.
      strength: lambda at first.
      tolerance: of the solver, on the relative change of a step.
      max_steps: the most steps; all are taken where `backward` is "unroll".
      backward: how to differentiate, as `implicit.solution`; "jfb" is a poor choice, for one step of a primal-dual method hardly moves with its
        strength (total variation of 9 x 9 pixels: 0.013 of the derivative).

    Returns:
      A `Reconstruction`; it tells the `strength`, `lower_residual`, the relative change that one more step would make, and, for
      `implicit.trouble`, `lower_converged`, whether that is at most twice the tolerance, for changes need not fall at every step. Only then is the
      implicit derivative true; unrolled steps have a true one wherever they end, and are not judged.

    Raises:
      ValueError: for a strength that is not positive, or a function that does not take these arguments alone.

    Reference:
      Kunisch & Pock (2013), A bilevel optimization approach for parameter learning in variational models, https://doi.org/10.1137/120882706
    """
    checks.positive(strength, "strength of learned_strength")
    try:
        inspect.signature(make).bind(None, None, None, strength=strength)
    except TypeError as error:
        raise ValueError(f"learned_strength calls make(A, y, sigma_y, strength=...): {error}") from error

    def solver(theta):
        A, y, sigma_y, chosen = theta
        return make(A, y, sigma_y, strength=chosen)

    def init(key, A, y):
        return {"log_strength": jnp.asarray(math.log(strength), linalg.real_dtype(y))}

    def apply(params, A, y, sigma_y):
        theta = (A, y, sigma_y, jnp.exp(params["log_strength"]))
        state = implicit.solution(solver, theta, direct(A, y), tolerance=tolerance, max_steps=max_steps, backward=backward)
        still = jax.lax.stop_gradient((theta, state))
        change = solver(still[0]).step(still[1])[1].change
        judged = {} if backward == "unroll" else {"lower_converged": (change <= 2 * tolerance).astype(change.dtype)}
        return state.x, {"strength": theta[3], "lower_residual": change, **judged}

    return Reconstruction(init, apply)
