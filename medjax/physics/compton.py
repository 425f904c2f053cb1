"""Scattering of a photon at a free electron.

In the photoelectric effect, the other process of diagnostic energies, the photon is absorbed: its energy goes to an electron, E - E_binding,
and to the characteristic radiation or Auger electrons of the atom. In Compton scattering it goes on, with less energy in another direction.
"""

import jax.numpy as jnp

ELECTRON_REST_ENERGY = 510.99895
"""m c^2 of the electron [keV]."""
ELECTRON_RADIUS_SQUARED = 0.0794078774
"""Square of the classical electron radius [barn]."""


def scattered_energy(energy, angle):
    r"""Energy of a photon after Compton scattering.

    .. math::
        E' = \frac{E}{1 + \frac{E}{m c^2} (1 - \cos\theta)}

    The electron takes the rest, E - E'.

    Args:
      energy: E [keV], any shape.
      angle: theta by which the photon turns [rad], of the shape of E or a scalar.

    Returns:
      E' [keV].

    Reference:
      Compton (1923), https://doi.org/10.1103/PhysRev.21.483
    """
    return energy / (1 + energy / ELECTRON_REST_ENERGY * 2 * jnp.sin(angle / 2) ** 2)


def klein_nishina(energy, angle):
    r"""Differential cross section of Compton scattering at a free electron at rest.

    .. math::
        \frac{d\sigma}{d\Omega} = \frac{r_e^2}{2} q^2 \left(q + \frac1q - \sin^2\theta\right), \quad q = E' / E

    Args:
      energy: E [keV], any shape.
      angle: theta [rad], of the shape of E or a scalar.

    Returns:
      Cross section [barn / (sr electron)]; it tends to Thomson's r_e^2 (1 + cos^2) / 2 at low energies.

    Reference:
      Klein & Nishina (1929), Zeitschrift fuer Physik 52, 853-868.
    """
    q = scattered_energy(energy, angle) / energy
    return ELECTRON_RADIUS_SQUARED / 2 * q**2 * (q + 1 / q - jnp.sin(angle) ** 2)
