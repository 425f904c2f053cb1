"""Signal of a spin echo."""

import jax.numpy as jnp


def spin_echo(pd, t1, t2, tr, te):
    r"""Signal of a spin echo with a 90 degree excitation, repetition time long against echo time.

    .. math::
        S = \rho \, (1 - e^{-T_R / T_1}) \, e^{-T_E / T_2}

    Args:
      pd: proton density rho, `[...]`.
      t1: longitudinal relaxation time [ms], > 0, of the shape of `pd`.
      t2: transverse relaxation time [ms], > 0, of the shape of `pd`.
      tr: repetition time [ms], scalar.
      te: echo time [ms], scalar.

    Returns:
      S, of the shape and unit of `pd`.
    """
    return -pd * jnp.expm1(-tr / t1) * jnp.exp(-te / t2)
