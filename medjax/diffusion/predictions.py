r"""Denoisers from networks that predict something else.

A network takes (x_t, t) with x_t = alpha(t) x0 + sigma(t) n; a denoiser takes x = x_t / alpha and the level s = sigma / alpha. To train such a
network, wrap it and minimise any loss on the denoiser: the errors differ by a factor that depends on s alone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from medjax.typing import Denoiser, Schedule


def from_eps(network: Callable, schedule: Schedule) -> Denoiser:
    r"""Denoiser from a prediction of the noise n.

    .. math:: D(x, s) = x - s \, \epsilon(\alpha x, t), \quad t = t(s)

    Args:
      network: `(x_t, t) -> E[n | x_t]`.
      schedule: path that the network was trained on.

    Returns:
      A `Denoiser`.

    Reference:
      Ho, Jain & Abbeel (2020), eq. 15, https://arxiv.org/abs/2006.11239
    """
    return _wrapped(network, schedule, lambda x, sigma, t, eps: x - sigma * eps)


def from_v(network: Callable, schedule: Schedule) -> Denoiser:
    r"""Denoiser from a prediction of v = alpha n - sigma x0.

    .. math:: D(x, s) = \frac{\alpha x_t - \sigma v(x_t, t)}{\alpha^2 + \sigma^2}, \quad x_t = \alpha x, \; t = t(s)

    Args:
      network: `(x_t, t) -> E[alpha n - sigma x0 | x_t]`.
      schedule: path that the network was trained on.

    Returns:
      A `Denoiser`.

    Reference:
      Salimans & Ho (2022), section 4, https://arxiv.org/abs/2202.00512, where alpha^2 + sigma^2 = 1.
    """

    def denoised(x, sigma, t, v):
        return (x - sigma * v / schedule.alpha(t).astype(x.dtype)) / (1 + sigma**2)

    return _wrapped(network, schedule, denoised)


def from_x0(network: Callable, schedule: Schedule) -> Denoiser:
    r"""Denoiser from a prediction of the image x0.

    .. math:: D(x, s) = f(\alpha x, t), \quad t = t(s)

    Args:
      network: `(x_t, t) -> E[x0 | x_t]`.
      schedule: path that the network was trained on.

    Returns:
      A `Denoiser`.

    Reference:
      Salimans & Ho (2022), section 4, https://arxiv.org/abs/2202.00512
    """
    return _wrapped(network, schedule, lambda x, sigma, t, x0: x0)


def from_score(network: Callable, schedule: Schedule) -> Denoiser:
    r"""Denoiser from the score of x_t, by Tweedie's formula.

    .. math:: D(x, s) = \frac{x_t + \sigma^2 \nabla \log p_t(x_t)}{\alpha}, \quad x_t = \alpha x, \; t = t(s)

    Args:
      network: `(x_t, t) -> gradient of log p_t at x_t`.
      schedule: path that the network was trained on.

    Returns:
      A `Denoiser`.

    Reference:
      Efron (2011), Tweedie's formula and selection bias; Song et al. (2021), https://arxiv.org/abs/2011.13456
    """
    return _wrapped(network, schedule, lambda x, sigma, t, score: x + sigma**2 * schedule.alpha(t).astype(x.dtype) * score)


def from_velocity(network: Callable, schedule: Schedule) -> Denoiser:
    r"""Denoiser from the velocity of a flow.

    .. math::
        u = \alpha' x_0 + \sigma' n, \quad
        D(x, s) = \frac{\sigma' x_t - \sigma u(x_t, t)}{\sigma' \alpha - \sigma \alpha'}, \quad x_t = \alpha x, \; t = t(s)

    On `rectified_flow` u = n - x0 and D = x_t - t u.

    Args:
      network: `(x_t, t) -> E[dx_t / dt | x_t]`; t = 0 is data, t = 1 noise.
      schedule: path that the network was trained on.

    Returns:
      A `Denoiser`.

    Reference:
      Lipman et al. (2023), eq. 15, https://arxiv.org/abs/2210.02747, whose time runs from noise to data.
    """

    def denoised(x, sigma, t, velocity):
        (alpha, alpha_rate), (noise, noise_rate) = (jax.jvp(f, (t,), (jnp.ones_like(t),)) for f in (schedule.alpha, schedule.sigma))
        share, part = (w / (noise_rate * alpha - noise * alpha_rate) for w in (noise_rate * alpha, noise))
        return share.astype(x.dtype) * x - part.astype(x.dtype) * velocity

    return _wrapped(network, schedule, denoised)


def _wrapped(network, schedule, denoised):
    def denoise(x, sigma):
        sigma = jnp.asarray(sigma, x.dtype)
        t = schedule.time(sigma).astype(x.dtype)
        return denoised(x, sigma, t, network(schedule.alpha(t).astype(x.dtype) * x, t)).astype(x.dtype)

    return denoise
