"""How probable an image is under a denoiser's prior."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from medjax import checks, linalg
from medjax.diffusion.probability_flow import runge_kutta, standardised
from medjax.typing import Denoiser


def likelihood(key, denoise: Denoiser, sigmas, x, *, mean=0.0, variance=1.0, num_probes: int = 0):
    r"""Log density of x along the probability flow, by the change of variables.

    .. math::
        \log p_{\sigma_0}(x) = \log N(z_T; 0, I) - d \ln c(\sigma_0)
            + \int_{\ln \sigma_0}^{\ln \sigma_T} \Bigl(\frac{d v}{v + \sigma^2} - \mathrm{tr} \frac{\partial D}{\partial x}\Bigr) d \ln \sigma

    with z and c of `standardised`. The prior at the last level is N(m, (v + sigma_T^2) I): exact for such data, else off by O(|mean - m| / sigma_T)
    and O(|variance - v| / sigma_T^2) nat per pixel, so tell the mean and end at some hundred standard deviations. Integrated like
    `probability_flow`: four denoiser calls and traces a step, some images of memory; 25 to 50 steps are 1e-3 nat per pixel off on Gaussians and
    mixtures.

    Args:
      key: typed key of the probes; not used for the exact trace.
      denoise: a `Denoiser`.
      sigmas: `[num_steps + 1]` increasing noise levels > 0, even in ln sigma if nothing else is known. The density is that of
        x0 + sigmas[0] n: a discrete or very thin prior has none at 0.
      x: image of d pixels at the level `sigmas[0]`.
      mean: m of the data, a scalar or like x.
      variance: v of a pixel of the data, a scalar.
      num_probes: Rademacher vectors for Hutchinson's unbiased estimate of the trace, drawn anew each step; 0 for the exact trace, of d products.

    Returns:
      log p(x) [nat], a scalar; divide by d ln 2 for bits per pixel.

    Raises:
      ValueError: for fewer than two levels, or some that do not increase from above 0, a variance that is not positive, or num_probes below 0.

    Reference:
      Song et al. (2021), eq. 39 and 40, https://arxiv.org/abs/2011.13456; Grathwohl et al. (2019), FFJORD, https://arxiv.org/abs/1810.01367
    """
    _check(sigmas)
    if num_probes != 0:
        checks.count(num_probes, "num_probes")
    slope, to_z, _ = standardised(denoise, mean, checks.positive(variance, "variance"))
    steps = jnp.log(jnp.asarray(sigmas, x.dtype))

    def body(state, inputs):
        step, u, u_next = inputs
        trace = _exact_trace if num_probes == 0 else _hutchinson(jax.random.fold_in(key, step), num_probes)

        def both(state, u):
            return trace(lambda z: slope(z, u), state[0])

        return runge_kutta(both, state, u, u_next), None

    start = (to_z(x, steps[0]), linalg.zero_tied_to(x, x.dtype))
    (z, gain), _ = jax.lax.scan(body, start, (jnp.arange(len(steps) - 1), steps[:-1], steps[1:]))
    scale = jnp.log(2 * math.pi * (variance + jnp.exp(2 * steps[0])))
    return (gain - linalg.vdot(z, z) / 2 - x.size * scale / 2).astype(x.dtype)


def _exact_trace(fn, z):
    """fn(z) and the trace of its derivative, one column after another in blocks that keep a few images."""
    value, product = jax.linearize(fn, z)

    def entry(i):
        return product((jnp.zeros(z.size, z.dtype).at[i].set(1) + linalg.zero_tied_to(z, z.dtype)).reshape(z.shape)).ravel()[i]

    return value, jnp.sum(jax.lax.map(entry, jnp.arange(z.size), batch_size=min(z.size, 16)))


def _hutchinson(key, num):
    """fn, z -> fn(z) and an unbiased estimate of the trace of its derivative."""

    def trace(fn, z):
        value, product = jax.linearize(fn, z)
        probes = jax.random.rademacher(key, (num, *z.shape), z.dtype) + linalg.zero_tied_to(z, z.dtype)
        return value, jnp.mean(jax.vmap(lambda v: linalg.vdot(v, product(v)))(probes))

    return trace


def _check(sigmas):
    if jnp.ndim(sigmas) != 1 or len(sigmas) < 2:
        raise ValueError(f"sigmas is {list(jnp.shape(sigmas))}, a vector of at least 2 noise levels is needed")
    checks.positive(sigmas, "a noise level of likelihood")
    if checks.is_concrete(sigmas) and not np.all(np.asarray(sigmas)[1:] > np.asarray(sigmas)[:-1]):
        raise ValueError(f"likelihood needs increasing noise levels, got {float(sigmas[0]):.4g} to {float(sigmas[-1]):.4g} not in order")
