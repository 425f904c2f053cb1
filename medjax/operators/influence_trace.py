"""The degrees of freedom of Tikhonov's regularisation at any size, from random probes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from medjax.operators.krylov_system import krylov_system
from medjax.typing import Operator


def influence_trace(key, A: Operator, y, num_probes: int = 8, num_steps: int = 30) -> Callable:
    r"""Hutchinson's estimate of the trace of the influence matrix, for all strengths from one bidiagonalisation a probe.

    .. math:: t(\lambda) = \mathrm{tr} \, A (A^H A + \lambda I)^{-1} A^H \approx \frac1N \sum_i w_i^H A (A^H A + \lambda I)^{-1} A^H w_i

    with random signs w, like y. Each term is the Gauss quadrature of the Krylov space of w: too low until k steps resolve the spectrum down to the
    strength. The variance over probes is at most 2 ||.||_F^2 / N, hence a standard deviation of at most sqrt(2 t / N).

    Args:
      key: random key.
      A: operator.
      y: array like the data, or a pytree of them; only shape and dtype count.
      num_probes: N, one after another.
      num_steps: k of `krylov_system`.

    Returns:
      `strength -> t`, for `generalised_cross_validation`: counted in real data for real x, in complex data for complex x, like
      `SingularSystem.num_data`.

    Raises:
      ValueError: for less than one probe or step.

    Reference:
      Golub & von Matt (1997), Generalized cross-validation for large-scale problems, https://doi.org/10.1080/10618600.1997.10474725
    """
    if num_probes < 1:
        raise ValueError(f"influence_trace needs num_probes >= 1, got {num_probes}")

    def probe(key):
        leaves, tree = jax.tree.flatten(y)
        keys = jax.random.split(key, (len(leaves), 2))
        signs = [_signs(k, a) for k, a in zip(keys, leaves, strict=True)]
        w = jax.tree.unflatten(tree, signs)
        system = krylov_system(A, w, num_steps)
        # of complex y and complex x each probe counts twice, real and imaginary parts
        size = sum(jnp.sum(jnp.abs(a) ** 2) for a in signs)
        return system.values, jnp.abs(system.components(w)) ** 2 / size * system.num_data()

    values, weights = lax.map(probe, jax.random.split(key, num_probes))

    def trace(strength):
        squares = values**2
        damped = jnp.where(weights > 0, squares + strength, 1)
        return jnp.sum(weights * squares / damped) / num_probes

    return trace


def _signs(keys, like):
    """Random signs like an array, of complex ones in both parts."""
    real = jnp.finfo(like.dtype).dtype
    parts = [jax.random.rademacher(k, like.shape, real) for k in keys]
    return lax.complex(*parts) if jnp.issubdtype(like.dtype, jnp.complexfloating) else parts[0]
