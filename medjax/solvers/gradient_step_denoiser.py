"""A denoiser that is a gradient step on a potential."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from medjax import linalg
from medjax.typing import Denoiser


class GradientStep(NamedTuple):
    """denoise: `(x, sigma) -> x - grad g_sigma(x)`, a `Denoiser`; potential: `(x, sigma) -> g_sigma(x)`, a scalar."""

    denoise: Denoiser
    potential: Callable


def gradient_step_denoiser(network: Callable) -> GradientStep:
    r"""The gradient-step denoiser of a network, so that plug-and-play has an objective.

    .. math::
        D_\sigma(x) = x - \nabla g_\sigma(x), \quad g_\sigma(x) = \tfrac12 \|x - N_\sigma(x)\|^2 \quad \text{or any other potential}

    :math:`D_\sigma(x) = N_\sigma(x) + J^T (x - N_\sigma(x))`, J the Jacobian of N, is another denoiser than N and wants a training of its own, by
    `score_matching`, too. With :math:`g_\sigma = -\sigma^2 \log p_\sigma` it is the exact one, by Tweedie's formula.

    Args:
      network: N, `(x, sigma) -> like x`, or g, `(x, sigma) -> scalar`.

    Returns:
      A `GradientStep`.

    Reference:
      Hurault, Leclaire & Papadakis (2022), Gradient step denoiser for convergent plug-and-play, https://arxiv.org/abs/2110.03220; code:
      https://github.com/samuro95/GSPnP
    """

    def potential(x, sigma):
        out = network(x, sigma)
        if jnp.shape(out) == ():
            return out
        removed = x - out
        return linalg.vdot(removed, removed) / 2

    def denoise(x, sigma):
        return x - jnp.conj(jax.grad(potential)(x, sigma))  # jax has the conjugate of what a complex x moves along

    return GradientStep(denoise, potential)
