"""Classifier guidance."""

import jax

from medjax import checks
from medjax.typing import Guide


def classifier(log_prob_fn, scale: float = 1.0) -> Guide:
    r"""Guidance by a classifier of noisy images.

    .. math:: D_c(x, \sigma) = D + s \, \sigma^2 \, \nabla_x \log p(c | x, \sigma)

    For s = 1 and the true p(c | x, sigma) this is the denoiser of the images of class c.

    Args:
      log_prob_fn: `(x, sigma) -> log p(c | x, sigma)`, a scalar.
      scale: s >= 0; above 1 it sharpens.

    Returns:
      A `Guide`.

    Raises:
      ValueError: for a negative scale.

    Reference:
      Dhariwal & Nichol (2021), algorithm 2, https://arxiv.org/abs/2105.05233
    """
    checks.nonnegative(scale, "scale")
    return lambda denoise: lambda x, sigma: denoise(x, sigma) + scale * sigma**2 * jax.grad(log_prob_fn)(x, sigma)
