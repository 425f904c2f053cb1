"""Signal of an inversion-recovery spin echo."""

import jax.numpy as jnp


def inversion_recovery(pd, t1, t2, tr, te, ti):
    r"""Signed signal of a spin echo that follows a perfect inversion by the time T_I.

    .. math::
        S = \rho \, (1 - 2 e^{-T_I / T_1} + e^{-T_R / T_1}) \, e^{-T_E / T_2}

    It is null at :math:`T_I = T_1 \ln(2 / (1 + e^{-T_R / T_1}))`, which tends to :math:`T_1 \ln 2` at long T_R; the magnitude image is |S|.

    Args:
      pd: proton density rho, `[...]`.
      t1: longitudinal relaxation time [ms], > 0, of the shape of `pd`.
      t2: transverse relaxation time [ms], > 0, of the shape of `pd`.
      tr: repetition time [ms], scalar.
      te: echo time [ms], scalar.
      ti: inversion time [ms], scalar.

    Returns:
      S, of the shape and unit of `pd`, negative before the null.
    """
    return pd * (1 - 2 * jnp.exp(-ti / t1) + jnp.exp(-tr / t1)) * jnp.exp(-te / t2)
