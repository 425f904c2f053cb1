"""What follows from a prox by Moreau: the prox of the conjugate, and a smooth envelope."""

from collections.abc import Callable

from jax import lax

from medjax.functionals.length import squares
from medjax.typing import Functional


def prox_conjugate(functional: Functional) -> Callable:
    r"""The prox of the conjugate :math:`f^*(y) = \sup_x \langle x, y \rangle - f(x)`, which `pdhg` asks for.

    .. math:: \mathrm{prox}_{\sigma f^*}(v) = v - \sigma \, \mathrm{prox}_{f / \sigma}(v / \sigma)

    Args:
      functional: f, convex.

    Returns:
      `(v, sigma) -> argmin_y f*(y) + ||y - v||^2 / (2 sigma)`, for sigma > 0; sigma may be an array where f's prox takes arrays for tau.

    Reference:
      Parikh & Boyd (2014), Proximal algorithms, section 2.5, https://doi.org/10.1561/2400000003
    """
    return lambda v, sigma: v - sigma * functional.prox(v / sigma, 1 / sigma)


def moreau_envelope(functional: Functional, tau) -> Callable:
    r"""The smooth function below f that has the same minimisers.

    .. math:: f_\tau(v) = \min_x f(x) + \frac{\|x - v\|^2}{2 \tau}, \quad \nabla f_\tau(v) = \frac{v - \mathrm{prox}_{\tau f}(v)}{\tau}

    First derivatives for v, tau and a strength of f are exact and need no derivative of the prox; second ones do not hold.

    Args:
      functional: f, convex.
      tau: > 0, scalar.

    Returns:
      `v -> f_tau(v)`; `linalg.gradient` of it has Lipschitz constant 1 / tau.

    Reference:
      Moreau (1965), Proximite et dualite dans un espace hilbertien, https://doi.org/10.24033/bsmf.1625
    """

    def value(v):
        x = lax.stop_gradient(functional.prox(lax.stop_gradient(v), tau))
        return functional.value(x) + squares(v - x).sum() / (2 * tau)

    return value
