"""The discrete path of denoising diffusion probabilistic models: T small steps, x_i = sqrt(1 - beta_i) x_{i-1} + sqrt(beta_i) n.

Tables are float64 of numpy, indices run from 0 to T - 1. Algorithm 1 of the paper is `ddpm_loss`, algorithm 2 is `sample` with the kernel
`ancestral` over all `ddpm_levels`.
"""

import math

import jax.numpy as jnp
import numpy as np

from medjax import linalg
from medjax.typing import Schedule


def linear_betas(num_steps: int = 1000, first: float = 1e-4, last: float = 0.02, power: float = 1.0):
    r"""Variances beta_i whose roots rise evenly, :math:`\beta_i^{1/p} = \beta_0^{1/p} + \tfrac{i}{T-1} (\beta_{T-1}^{1/p} - \beta_0^{1/p})`.

    Args:
      num_steps: T.
      first: beta_0.
      last: beta_{T-1}.
      power: p; 2 with 0.00085 and 0.012 is "scaled_linear" of diffusers.

    Returns:
      `[T]` betas.

    Reference:
      Ho, Jain & Abbeel (2020), section 4, https://arxiv.org/abs/2006.11239; power 2: Rombach et al. (2022), latent diffusion models, by their code.
    """
    return np.linspace(first ** (1 / power), last ** (1 / power), num_steps) ** power


def cosine_betas(num_steps: int = 1000, offset: float = 0.008, largest: float = 0.999):
    r"""Variances of the path `vp_cosine`, "squaredcos_cap_v2" of diffusers.

    .. math::
        \beta_i = \min\Bigl(1 - \frac{\cos^2 \phi((i + 1) / T)}{\cos^2 \phi(i / T)}, \; \beta_{max}\Bigr)

    Args:
      num_steps: T.
      offset: of the angle phi, as in `vp_cosine`.
      largest: beta_max.

    Returns:
      `[T]` betas.

    Reference:
      Nichol & Dhariwal (2021), eq. 17, https://arxiv.org/abs/2102.09672
    """
    share = np.cos((np.arange(num_steps + 1) / num_steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return np.minimum(1 - share[1:] / share[:-1], largest)


def alphas_bar(betas):
    r"""The table :math:`\bar\alpha_i = \prod_{j \le i} (1 - \beta_j)`, so that :math:`x_i = \sqrt{\bar\alpha_i} x_0 + \sqrt{1 - \bar\alpha_i} n`.

    Args:
      betas: `[T]`.

    Returns:
      `[T]`, decreasing.

    Raises:
      ValueError: for betas that are not in (0, 1).

    Reference:
      Ho, Jain & Abbeel (2020), eq. 4, https://arxiv.org/abs/2006.11239
    """
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or not np.all((betas > 0) & (betas < 1)):
        raise ValueError(f"betas [T] in (0, 1) are needed, got {list(betas.shape)} from {betas.min():.4g} to {betas.max():.4g}")
    return np.cumprod(1 - betas)


def linear_rate(sigma):
    r"""beta of `linear_betas` where the noise level is sigma, by its limit of many steps, which is `vp_linear`.

    .. math:: \beta(\sigma) = \frac{1}{T} \sqrt{\beta_{min}^2 + 2 (\beta_{max} - \beta_{min}) \log(1 + \sigma^2)}, \quad T = 1000

    Args:
      sigma: noise level, variance exploding.

    Returns:
      beta, of the shape of sigma; within a twentieth of the table from its 30th entry on.

    Reference:
      Song et al. (2021), appendix C, https://arxiv.org/abs/2011.13456
    """
    return 1e-3 * jnp.sqrt(0.1**2 + 2 * (20.0 - 0.1) * jnp.log1p(sigma**2))


def ddpm_levels(betas, indices=None):
    r"""Noise levels :math:`\sqrt{1 / \bar\alpha_i - 1}` from the noisiest index down, and 0, for `sample`.

    Args:
      betas: `[T]`.
      indices: `[num_steps]` decreasing whole numbers below T, all T by default: the "timesteps" of diffusers.

    Returns:
      `[num_steps + 1]` decreasing levels.

    Raises:
      ValueError: for indices that do not decrease or are not below T.

    Reference:
      Song, Meng & Ermon (2021), section 4.2 (fewer steps), https://arxiv.org/abs/2010.02502
    """
    sigmas = np.sqrt(1 / alphas_bar(betas) - 1)
    indices = np.arange(len(sigmas))[::-1] if indices is None else np.asarray(indices)
    if np.any(np.diff(indices) >= 0) or indices.min() < 0 or indices.max() >= len(sigmas):
        raise ValueError(f"indices must decrease from below {len(sigmas)} to 0 or more, got {indices.tolist()}")
    return jnp.asarray(np.append(sigmas[indices], 0), float)


def ddpm(betas) -> Schedule:
    r"""The table as a path, for networks trained on it: t = i / (T - 1) at index i, the logarithm of the noise level linear between.

    A network that takes the index is `lambda x, t: network(x, t * (T - 1))`, and `from_eps` makes it a denoiser. Levels outside the table are
    taken for its ends.

    Args:
      betas: `[T]`, T >= 2.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: for betas that are not in (0, 1).
    """
    logs = np.log(1 / alphas_bar(betas) - 1) / 2
    times = np.linspace(0, 1, len(logs))

    def between(value, at, of):
        value = linalg.inexact(value)
        return jnp.interp(value, jnp.asarray(at, value.dtype), jnp.asarray(of, value.dtype))

    def level(t):
        return jnp.exp(between(t, times, logs))

    return Schedule(
        lambda t: 1 / jnp.sqrt(1 + level(t) ** 2),
        lambda t: 1 / jnp.sqrt(1 + level(t) ** -2),
        lambda sigma: between(jnp.log(sigma), logs, times),
    )
