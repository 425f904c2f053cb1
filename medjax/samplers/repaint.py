"""RePaint: what is known is put in, and each step is taken several times."""

import jax
import jax.numpy as jnp
from jax import lax

from medjax import checks
from medjax.samplers.ddim import ddim
from medjax.typing import Kernel, Operator


def repaint(A: Operator, y, sigma_y=1.0, *, num_resamplings: int = 10) -> Kernel:
    r"""RePaint: an ancestral step, the known part from the data, then noise back and again.

    .. math::
        u = D + \frac{\sigma'^2}{\sigma^2} (x - D) + \frac{\sigma' \sqrt{\sigma^2 - \sigma'^2}}{\sigma} n, \quad
        x'_i = \begin{cases}
        b_i + \sqrt{\sigma'^2 - \sigma_y^2 / s_i^2} \, n'_i & \sigma' \ge \sigma_y / s_i \\
        u_i & \text{else}
        \end{cases}

    in the coefficients of the singular vectors, b = S^+ U^H y, and x = x' + sqrt(sigma^2 - sigma'^2) n'' before each further time. For inpainting
    these are the pixels, and with the paper's data, which have no noise, x' = m (y + sigma' n') + (1 - m) u. Noisy data are an image at the noise
    level sigma_y: they replace x' down to that level, and below it the prior denoises them.

    Args:
      A: operator with a method `svd`, its own or that of `decomposed`.
      y: data.
      sigma_y: standard deviation of y; one number, or, where U does not mix the data (masks of pixels and of k-space), like y.
      num_resamplings: the paper's U, how often each step is taken.

    Returns:
      A `Kernel` without state, `num_resamplings` denoiser calls a step.

    Raises:
      ValueError: for an operator without a singular value decomposition, data that do not fit it, or a number that is out of range.

    Reference:
      Lugmayr et al. (2022), algorithm 1, https://arxiv.org/abs/2201.09865, with jumps of one level, the last step too.
    """
    y, root = checks.measured(A, y, sigma_y)
    svd, values, data = checks.decomposition(A, y, sigma_y, "repaint")
    checks.count(num_resamplings, "num_resamplings")
    inverse, move = root * values, ddim(1.0).step
    target = data / jnp.where(values > 0, values, 1)

    def once(key, x, sigma, sigma_next, denoise):
        x, _ = move(jax.random.fold_in(key, 0), x, (), sigma, sigma_next, denoise)
        noise = svd.analyse(jax.random.normal(jax.random.fold_in(key, 1), x.shape, x.dtype))
        spare = (inverse * sigma_next) ** 2 - 1
        fresh = jnp.where(spare > 0, jnp.sqrt(jnp.where(spare > 0, spare, 1)) / jnp.where(spare > 0, inverse, 1), 0)
        return svd.synthesise(jnp.where(spare >= 0, target + fresh * noise, svd.analyse(x)))

    def step(key, x, state, sigma, sigma_next, denoise):
        def resample(i, x):
            key_now = jax.random.fold_in(key, i)
            below = once(key_now, x, sigma, sigma_next, denoise)
            noise = jnp.sqrt(sigma**2 - sigma_next**2) * jax.random.normal(jax.random.fold_in(key_now, 2), x.shape, x.dtype)
            return jnp.where(i < num_resamplings - 1, below + noise, below)

        return lax.fori_loop(0, num_resamplings, resample, x), state

    return Kernel(lambda x: (), step)
