"""Monte Carlo guided diffusion: particles that meet noisy coordinates at the noise level where the data stand."""

import jax
import jax.numpy as jnp

from medjax import checks, linalg
from medjax.samplers.particles import drawn_anew, multinomial, of_images
from medjax.typing import Kernel, Operator


def mcg_diff(A: Operator, y, sigma_y=1.0, *, kappa: float = 1e-8) -> Kernel:
    r"""MCGDiff: in the coordinates of the SVD of A, a datum is the coordinate itself at the noise level tau = sigma_y / s.

    .. math::
        \frac{u_i^H y}{s_i} = v_i^H x_0 + \tau_i n, \quad
        p(v_i^H x_\sigma \mid y) \approx N\Bigl(\frac{u_i^H y}{s_i}, \; \sigma^2 - \tau_i^2 + \kappa (1 + \tau_i^2)\Bigr), \; \sigma \ge \tau_i

    While a coordinate lies above its tau, the ancestral step is multiplied by this potential, particles are drawn anew by how well their prediction
    met it, and afterwards the potential is divided out; below the least tau they follow the prior, and are weighted by the likelihood at the end.

    Args:
      A: operator with an `svd`, see `decomposed`.
      y: data.
      sigma_y: standard deviation of y, a scalar.
      kappa: variance left at tau.

    Returns:
      A `Kernel` for x `[p, ...]`, p particles that each start at sigmas[0], one denoiser call a step. The p that are returned stem from few
      ancestors: the authors take one of each run.

    Raises:
      ValueError: for an operator without an SVD, data that do not fit it, sigma_y that is no positive scalar, kappa that is not positive, or,
        in `sample`, levels that do not end at 0.

    Reference:
      Cardoso et al. (2024), Monte Carlo guided diffusion for Bayesian linear inverse problems, algorithm 2, https://arxiv.org/abs/2308.07983, in
      variance-exploding coordinates; potentials at each step as in the authors' code.
    """
    y, root = checks.measured(A, y, sigma_y)
    checks.positive(kappa, "kappa")
    svd, values, data = checks.decomposition(A, y, sigma_y, "mcg_diff")
    gain, seen = root * values, values > 0
    tau = jnp.where(seen, 1 / jnp.where(seen, gain, 1), jnp.inf)
    wanted = jnp.where(seen, data / jnp.where(seen, values, 1), 0)[None]

    def spread(sigma):
        active = (tau <= sigma)[None]
        known = jnp.where(seen, tau, 0)[None]
        return active, jnp.where(active, sigma**2 - known**2 + kappa * (1 + known**2), 1)

    def log_density(z, variance, active):
        return -jnp.sum(jnp.where(active, jnp.abs(z - wanted) ** 2 / variance, 0), axis=tuple(range(1, z.ndim))) / 2

    def step(key, x, state, sigma, sigma_next, denoise):
        keys = jax.random.split(key, 3)
        ratio = (sigma_next / sigma) ** 2
        mean = jax.vmap(lambda x: svd.analyse((1 - ratio) * denoise(x, sigma) + ratio * x))(x)
        noise = jax.vmap(svd.analyse)(jax.random.normal(keys[0], x.shape, x.dtype))
        (before, variance_before), (active, variance), step_variance = spread(sigma), spread(sigma_next), sigma_next**2 * (1 - ratio)
        state = jnp.where(jnp.any(before), log_density(jax.vmap(svd.analyse)(x), variance_before, before), state)
        met = log_density(mean, step_variance + variance, active) - state
        filtered = drawn_anew(multinomial(keys[1], met), met, mean)
        pulled = jnp.where(active, step_variance / (step_variance + variance), 0)
        near = filtered + pulled * (wanted - filtered) + jnp.sqrt(step_variance * (1 - pulled)) * noise
        z = jnp.where(jnp.any(active), near, mean + jnp.sqrt(step_variance) * noise)
        x_next = jax.vmap(svd.synthesise)(z).astype(x.dtype)
        fit = -jnp.sum(jnp.abs(gain[None] * (z - wanted)) ** 2, axis=tuple(range(1, z.ndim))) / 2 - state
        last = drawn_anew(multinomial(keys[2], fit), fit, x_next)
        return jnp.where(sigma_next > 0, x_next, last), state

    return Kernel(lambda x: linalg.zeros_along(of_images(x, A, y)), step, particles=True, ends_at_zero=True)
