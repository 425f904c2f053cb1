"""Denoising diffusion restoration models."""

import jax
import jax.numpy as jnp

from medjax import checks
from medjax.typing import Kernel, Operator


def ddrm(A: Operator, y, sigma_y=1.0, *, eta: float = 0.85, eta_b: float = 1.0) -> Kernel:
    r"""DDRM: each coefficient of x in the singular vectors of A goes its own way, by which is noisier, x or the data.

    .. math::
        x'_i = \begin{cases}
        D_i + \sqrt{1 - \eta^2} \, \sigma' (x_i - D_i) / \sigma + \eta \sigma' n_i & s_i = 0 \\
        D_i + \sqrt{1 - \eta^2} \, \sigma' (b_i - D_i) s_i / \sigma_y + \eta \sigma' n_i & \sigma' < \sigma_y / s_i \\
        (1 - \eta_b) D_i + \eta_b b_i + \sqrt{\sigma'^2 - \eta_b^2 \sigma_y^2 / s_i^2} \, n_i & \sigma' \ge \sigma_y / s_i
        \end{cases}

    with D = V^H D(x, sigma), b = S^+ U^H y. eta_b = 1 is DDNM+. The paper also draws the start around b; here the start is what `sample` is given,
    which the first step forgets wherever A sees.

    Args:
      A: operator with a method `svd`, its own or that of `decomposed`.
      y: data.
      sigma_y: standard deviation of y; one number, or, where U does not mix the data (masks of pixels and of k-space), like y.
      eta: share of fresh noise where the data say less than x.
      eta_b: share of the data where they say more.

    Returns:
      A `Kernel` without state, one denoiser call a step.

    Raises:
      ValueError: for an operator without a singular value decomposition, data that do not fit it, or a number that is out of range.

    Reference:
      Kawar et al. (2022), eq. 7 and 8, https://arxiv.org/abs/2201.11793; Wang et al. (2023), eq. 17 to 19 and appendix, for DDNM+.
    """
    y, root = checks.measured(A, y, sigma_y)
    svd, values, data = checks.decomposition(A, y, sigma_y, "ddrm")
    checks.fraction(eta, "eta")
    checks.fraction(eta_b, "eta_b")
    inverse, keep = root * values, jnp.sqrt(1 - eta**2)  # inverse: s / sigma_y
    seen = inverse > 0
    target = data / jnp.where(seen, values, 1)

    def step(key, x, state, sigma, sigma_next, denoise):
        now, denoised = svd.analyse(x), svd.analyse(denoise(x, sigma))
        noise = svd.analyse(jax.random.normal(key, x.shape, x.dtype))
        less = inverse * sigma_next < 1
        toward = jnp.where(seen, (target - denoised) * inverse, (now - denoised) / sigma)
        spare = sigma_next**2 - (eta_b / jnp.where(less, 1, inverse)) ** 2
        clear = denoised + keep * sigma_next * toward + eta * sigma_next * noise
        fresh = jnp.where(spare > 0, jnp.sqrt(jnp.where(spare > 0, spare, 1)), 0)
        noisy = denoised + eta_b * (target - denoised) + fresh * noise
        return svd.synthesise(jnp.where(less, clear, noisy)), state

    return Kernel(lambda x: (), step)
