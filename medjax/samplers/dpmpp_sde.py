"""DPM-Solver++ 2M for the reverse SDE."""

import jax
import jax.numpy as jnp

from medjax import checks, linalg
from medjax.typing import Kernel


def dpmpp_sde(eta: float = 1.0) -> Kernel:
    r"""SDE-DPM-Solver++(2M): the linear part is solved exactly, D is extrapolated from two steps.

    .. math::
        x' = e^{-(1 + \eta) h} x + (1 - e^{-(1 + \eta) h}) \tilde D + \sigma' \sqrt{1 - e^{-2 \eta h}} \, n, \quad
        \tilde D = D + \frac{h}{2 h_{-1}} (D - D_{-1}), \; h = \ln \frac{\sigma}{\sigma'}

    with D = D(x, sigma) and D_{-1} that of the step before, of length h_{-1}. The first step and the one to sigma' = 0 take D itself, of first order;
    the latter gives x' = D.

    Args:
      eta: share of the noise of the reverse SDE; 0 is the ODE, `dpmpp_2m`.

    Returns:
      A `Kernel` whose state is D and sigma of the step before, one denoiser call a step.

    Raises:
      ValueError: for an eta below 0.

    Reference:
      Lu et al. (2022), DPM-Solver++, SDE-DPM-Solver++(2M), https://arxiv.org/abs/2211.01095; eta as in k-diffusion, `sample_dpmpp_2m_sde` with
      `solver_type="midpoint"`, but independent noise, so that other levels draw another path.
    """
    noisy = not (checks.is_concrete(checks.nonnegative(eta, "eta")) and eta == 0)

    def step(key, x, state, sigma, sigma_next, denoise):
        past, sigma_past = state
        denoised, last, first = denoise(x, sigma), sigma_next == 0, sigma_past == 0
        h = jnp.log(sigma / jnp.where(last, sigma / jnp.e, sigma_next))
        h_past = jnp.log(jnp.where(first, jnp.e * sigma, sigma_past) / sigma)
        extrapolated = denoised + jnp.where(first | last, 0, h / (2 * h_past)) * (denoised - past)
        gain = jnp.where(last, 1, -jnp.expm1(-(1 + eta) * h))
        x = (1 - gain) * x + gain * extrapolated
        if noisy:
            x = x + sigma_next * jnp.sqrt(-jnp.expm1(-2 * eta * h)) * jax.random.normal(key, x.shape, x.dtype)
        return x, (denoised, jnp.asarray(sigma, sigma_past.dtype))

    # of x, not zeros: under `shard_map` the state varies over devices as x does
    return Kernel(lambda x: (x, jnp.zeros((), linalg.real_dtype(x))), step)
