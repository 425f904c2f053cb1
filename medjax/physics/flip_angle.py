"""Flip angle of a radio-frequency pulse."""

import jax.numpy as jnp

from medjax.physics.larmor import gamma_bar


def flip_angle(b1, dt, nucleus="1H"):
    r"""Angle by which a pulse tips a spin on resonance.

    .. math::
        \alpha = 2 \pi \left|\frac{\gamma}{2 \pi} \int B_1 \, dt\right|

    Exact for a pulse of constant phase that is short against T1 and T2; one that sweeps its phase needs `bloch`.

    Args:
      b1: `[num_steps]` [uT], real or complex.
      dt: length of a step [ms], scalar or `[num_steps]`.
      nucleus: a name of `larmor.GAMMA_BAR`.

    Returns:
      alpha [rad], a scalar >= 0: 1 ms of 5.872 uT tips protons by 90 degrees.
    """
    return 2e-3 * jnp.pi * abs(gamma_bar(nucleus)) * jnp.abs(jnp.sum(b1 * dt))
