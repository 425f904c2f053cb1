"""Decomposed diffusion sampling: data consistency by conjugate gradient on the denoised image."""

import jax.numpy as jnp
from jax.core import Tracer

from medjax.linalg import conjugate_gradient
from medjax.typing import Guide, Operator


def dds(A: Operator, y, sigma_y=1.0, *, variance: float = 1.0, num_krylov: int = 5) -> Guide:
    r"""DDS: the denoised image is pulled to the data by a few conjugate gradient steps of a proximal problem.

    .. math::
        D_y(x, \sigma) = \arg\min_z \; \| (y - A z) / \sigma_y \|^2 + \| z - D(x, \sigma) \|^2 / r^2, \quad
        r^2 = \frac{\sigma^2 v}{\sigma^2 + v}

    The paper's weight gamma is r^2 / sigma_y^2 here: r^2 is what remains unknown of an image of variance v after noise sigma, so no step size
    is left to be tuned by task. Meant for `ddim(0.85)`, the paper's choice.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y.
      variance: v, the prior variance of a pixel.
      num_krylov: conjugate gradient steps, from D(x, sigma).

    Raises:
      ValueError: for a number that is out of range.

    Returns:
      A `Guide`; one denoiser call, no derivative of it.

    Reference:
      Chung, Lee & Ye (2024), decomposed diffusion sampler, https://arxiv.org/abs/2303.05754
    """
    if num_krylov < 1 or (not isinstance(variance, Tracer) and variance <= 0):
        raise ValueError(f"dds needs num_krylov >= 1 and variance > 0, got {num_krylov} and {variance}")
    precision = 1 / jnp.asarray(sigma_y) ** 2

    def guide(denoise):
        def guided(x, sigma):
            denoised = denoise(x, sigma)
            spread = sigma**2 * variance / (sigma**2 + variance)
            change = conjugate_gradient(
                lambda v: spread * A.adjoint(precision * A(v)) + v,
                spread * A.adjoint(precision * (y - A(denoised))),
                num_steps=num_krylov,
            )
            return denoised + change

        return guided

    return guide
