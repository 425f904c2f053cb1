"""Langevin steps at one noise level, the corrector of predictor-corrector sampling."""

import jax
import jax.numpy as jnp

from medjax import checks
from medjax.linalg import vdot
from medjax.typing import Kernel


def langevin(snr: float = 0.16, num_steps: int = 1) -> Kernel:
    r"""Langevin dynamics that leaves the noise level where it is; predictor-corrector is `chain(langevin(), ddim(1.0))`.

    .. math::
        x \leftarrow x + \epsilon g + \sqrt{2 \epsilon} \, n, \quad g = \frac{D(x, \sigma) - x}{\sigma^2}, \quad
        \epsilon = 2 \Bigl(\frac{r \sqrt{N}}{\|g\|}\Bigr)^2

    for an image of N pixels. A step of finite length leaves too much variance, 1 + r^2 times the right one for white images and more in pixels
    that vary less than the others; a predictor after it takes some of that away.

    Args:
      snr: r, the step's ratio of signal to noise.
      num_steps: Langevin steps, one denoiser call each.

    Returns:
      A `Kernel` without state; it ends at sigma, not at sigma_next.

    Raises:
      ValueError: for an snr that is not positive, or no steps.

    Reference:
      Song et al. (2021), algorithms 4 and 5 (whose alpha is 1 in these coordinates), https://arxiv.org/abs/2011.13456. The norm of the noise is its
      expectation sqrt(N), so that the step does not depend on what is drawn; norms are of one image, not means over a batch.
    """
    checks.positive(snr, "snr")
    checks.count(num_steps, "num_steps")

    def step(key, x, state, sigma, sigma_next, denoise):
        def one(x, i):
            g = (denoise(x, sigma) - x) / sigma**2
            square = vdot(g, g)
            epsilon = 2 * snr**2 * x.size / jnp.where(square > 0, square, 1)
            noise = jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
            return x + epsilon * g + jnp.sqrt(2 * epsilon) * noise, None

        return jax.lax.scan(one, x, jnp.arange(num_steps))[0], state

    return Kernel(lambda x: (), step)
