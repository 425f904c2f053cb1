"""Magnetisation of nuclei in thermal equilibrium."""

import math

import numpy as np
from jax.core import Tracer

from medjax.physics.larmor import gamma_bar

_HBAR, _BOLTZMANN = 1.054571817e-34, 1.380649e-23  # [J s], [J/K]


def bulk_magnetisation(field, temperature=310.0, density=6.69e28, nucleus="1H", spin=0.5):
    r"""Curie's law for the equilibrium magnetisation.

    .. math::
        M_0 = \frac{\rho \, \gamma^2 \hbar^2 \, I (I + 1) \, B_0}{3 k T}

    which for spin 1/2 is rho gamma^2 hbar^2 B_0 / (4 k T).

    Args:
      field: B_0 [T].
      temperature: T > 0 [K].
      density: rho, nuclei [1/m^3]; the default is that of protons in water, two a molecule at 1 g/cm^3.
      nucleus: a name of `larmor.GAMMA_BAR`.
      spin: I, 3/2 for 23Na, 1 for 2H.

    Returns:
      M_0 [A/m]: 4.665e-3 for water at 1.5 T and 310 K.

    Raises:
      ValueError: for an unknown nucleus, or a known temperature that is not positive.

    Reference:
      Haacke et al., Magnetic Resonance Imaging: Physical Principles and Sequence Design (1999), chapter 6.
    """
    if not isinstance(temperature, Tracer) and not np.all(np.asarray(temperature) > 0):
        raise ValueError(f"bulk_magnetisation needs a temperature > 0 [K], got {temperature}")
    moment = 2e6 * math.pi * gamma_bar(nucleus) * _HBAR  # squared before it meets the density, in floats: no underflow in float32
    return density * (moment**2 * spin * (spin + 1) / (3 * _BOLTZMANN)) * field / temperature
