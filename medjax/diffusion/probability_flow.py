"""The deterministic path that has the same law as diffusion at every noise level, by Runge and Kutta's fourth order."""

import jax
import jax.numpy as jnp

from medjax import checks
from medjax.typing import Denoiser


def probability_flow(denoise: Denoiser, sigmas, x, *, mean=0.0, variance=1.0):
    r"""Carry x along the probability flow, to less noise or to more.

    .. math::
        \frac{dx}{d \ln \sigma} = x - D(x, \sigma)

    Solved in z of `standardised`, where the path of a Gaussian prior N(m, v) is a point. Up and down again give x back, up to the error of the
    order 4 in the steps of ln sigma: this inverts a deterministic sampler. Four denoiser calls a step; memory does not grow with the steps.

    Args:
      denoise: a `Denoiser`.
      sigmas: `[num_steps + 1]` noise levels > 0, in either order, even in ln sigma if nothing else is known.
      x: at the level `sigmas[0]`.
      mean: m of the data, a scalar or like x.
      variance: v of the data about m, a scalar; neither changes the answer beyond the error of the steps.

    Returns:
      x at the level `sigmas[-1]`.

    Raises:
      ValueError: for levels or a variance that are not positive.

    Reference:
      Song et al. (2021), section 4.3, https://arxiv.org/abs/2011.13456; Karras et al. (2022), eq. 1, https://arxiv.org/abs/2206.00364
    """
    checks.positive(sigmas, "a noise level of probability_flow")
    slope, to_z, from_z = standardised(denoise, mean, checks.positive(variance, "variance"))
    steps = jnp.log(jnp.asarray(sigmas, x.dtype))

    def body(z, ends):
        return runge_kutta(slope, z, *ends), None

    z, _ = jax.lax.scan(body, to_z(x, steps[0]), (steps[:-1], steps[1:]))
    return from_z(z, steps[-1])


def standardised(denoise: Denoiser, mean=0.0, variance=1.0):
    r"""The probability flow in coordinates in which data N(m, v) stand still and are standard normal at every level.

    .. math::
        z = \frac{x - m}{c}, \quad c^2 = v + \sigma^2, \quad \frac{dz}{d \ln \sigma} = \frac{x - D(x, \sigma)}{c} - \frac{\sigma^2}{c^2} z

    Args:
      denoise: a `Denoiser`.
      mean: m.
      variance: v.

    Returns:
      `(slope, to_z, from_z)`: `slope(z, u)` with u = ln sigma, `to_z(x, u)` and `from_z(z, u)`.
    """

    def scale(u):
        return jnp.sqrt(variance + jnp.exp(2 * u))

    def from_z(z, u):
        return (mean + scale(u) * z).astype(z.dtype)

    def to_z(x, u):
        return ((x - mean) / scale(u)).astype(x.dtype)

    def slope(z, u):
        x, sigma = from_z(z, u), jnp.exp(u)
        return ((x - denoise(x, sigma)) / scale(u) - (sigma / scale(u)) ** 2 * z).astype(z.dtype)

    return slope, to_z, from_z


def runge_kutta(slope, state, u, u_next):
    """One step of the classical method of order 4 for d state / du = slope(state, u), states being pytrees."""
    half, h = (u_next - u) / 2, u_next - u

    def along(weight, direction):
        return jax.tree.map(lambda s, d: s + weight * d, state, direction)

    first = slope(state, u)
    second = slope(along(half, first), u + half)
    third = slope(along(half, second), u + half)
    fourth = slope(along(h, third), u_next)
    return along(h / 6, jax.tree.map(lambda a, b, c, d: a + 2 * b + 2 * c + d, first, second, third, fourth))
