"""Spiral trajectory of a given shape."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def spiral(num_interleaves, num_samples, size, num_turns, power=1.0, timing=0.5, first_angle=0.0):
    r"""Archimedean (power 1) and variable-density spirals, with smooth parameters and no scanner in mind.

    .. math::
        k_x + i k_y = \frac{n}{2} \tau^\alpha e^{i (2 \pi T \tau + \phi_l)}, \quad \tau = u^\beta, \quad u = \frac{j}{m - 1},
        \quad \phi_l = \theta_0 + \frac{2 \pi l}{L}

    Neighbouring turns of L interleaves are :math:`\frac{n}{2} \alpha \tau^{\alpha - 1} / (T L)` apart: up to 1 is Nyquist, so an Archimedean spiral
    needs T L >= n / 2, and alpha > 1 is denser at the centre. `spiral_waveform` designs spirals within the limits of a gradient system.

    Args:
      num_interleaves: L.
      num_samples: m >= 2, of each interleave.
      size: n, matrix size of the image.
      num_turns: T, turns of one interleave; may be traced and differentiated.
      power: alpha > 0; may be traced and differentiated.
      timing: beta > 0, how samples lie along it: 1 at constant angular speed, 1/2 at nearly constant distance (for alpha = 1); may be traced and
        differentiated.
      first_angle: theta_0 [rad]; may be traced and differentiated.

    Returns:
      `[L, m, 2]`, (k_y, k_x) in cycles per field of view, from the centre outwards.

    Raises:
      ValueError: when there is no interleave or fewer than 2 samples, a count is no integer, or a known number of turns, power, timing or angle is
        not finite.

    Reference:
      Kim, Adalsteinsson & Spielman (2003), Simple analytic variable density spiral design, https://doi.org/10.1002/mrm.10493, for tau^alpha.
    """
    if num_interleaves < 1 or num_samples < 2 or num_interleaves % 1 or num_samples % 1:
        raise ValueError(f"spiral needs whole numbers, at least one interleave of 2 samples, got {num_interleaves} of {num_samples}")
    for name, value in {"num_turns": num_turns, "power": power, "timing": timing, "first_angle": first_angle}.items():
        if not isinstance(value, Tracer) and not np.all(np.isfinite(value)):
            raise ValueError(f"spiral needs a finite {name}, got {value}")
    # u = 0 is set apart: u^beta has no derivative in beta there
    tau = (jnp.arange(1, num_samples) / (num_samples - 1)) ** timing
    radius = size / 2 * tau**power
    angle = first_angle + 2 * jnp.pi * (num_turns * tau[None, :] + jnp.arange(num_interleaves)[:, None] / num_interleaves)
    k = radius[None, :, None] * jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    return jnp.pad(k, ((0, 0), (1, 0), (0, 0)))
