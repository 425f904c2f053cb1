"""A slice-selective pulse."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax.physics.larmor import gamma_bar


def sinc_pulse(num_steps, duration, time_bandwidth, flip, nucleus="1H"):
    r"""Sinc pulse under a Hann window.

    .. math::
        B_1(t) \propto \mathrm{sinc}(\mathrm{TBW} \, t / T) \, \tfrac12 (1 + \cos(2 \pi t / T)), \quad |t| \le T / 2

    Its bandwidth is TBW / T, so with the gradient :math:`G = \mathrm{TBW} / (T \, \bar\gamma \, d)`, which is
    1000 TBW / (42.577 T d) [mT/m] for T in ms and d in mm, it excites a slice of protons of thickness d at half maximum (at small angles).
    A slice at z0 needs B_1 times :math:`e^{-2 \pi i \bar\gamma G z_0 t}`, and half the gradient's area must be undone afterwards.

    Args:
      num_steps: samples, at the middles of equal steps (static).
      duration: T [ms].
      time_bandwidth: TBW, number of zero crossings.
      flip: flip angle on resonance [rad].
      nucleus: a name of `larmor.GAMMA_BAR`.

    Returns:
      B_1 `[num_steps]` [uT], real; the step is T / num_steps.

    Raises:
      ValueError: without a step, for a duration or a TBW that is not positive and finite, or a known flip angle that is not finite.

    Reference:
      Bernstein, King & Zhou, Handbook of MRI Pulse Sequences (2004), section 2.2.
    """
    if num_steps < 1 or not 0 < duration < np.inf or not 0 < time_bandwidth < np.inf:
        raise ValueError(f"sinc_pulse needs positive num_steps, duration, time_bandwidth, got {num_steps}, {duration}, {time_bandwidth}")
    if not isinstance(flip, Tracer) and not np.all(np.isfinite(flip)):
        raise ValueError(f"sinc_pulse needs a finite flip angle [rad], got {flip}")
    t = (jnp.arange(num_steps) + 0.5) / num_steps - 0.5
    shape = jnp.sinc(time_bandwidth * t) * jnp.cos(jnp.pi * t) ** 2
    area = 2e-3 * jnp.pi * abs(gamma_bar(nucleus)) * jnp.sum(shape) * duration / num_steps
    return shape * (flip / area)
