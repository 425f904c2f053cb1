"""Signal of balanced steady-state free precession."""

import jax.numpy as jnp


def balanced_ssfp(pd, t1, t2, tr, te, flip, off_resonance=0.0):
    r"""Steady-state signal of a train of pulses of alternating sign with all gradients balanced.

    .. math::
        S = \rho \, \sin\alpha \, \frac{(1 - E_1) (1 - E_2 e^{-i \phi})}{C \cos\phi + D} \, e^{-T_E / T_2} e^{i \varphi(T_E)}, \quad
        C = E_2 (E_1 - 1) (1 + \cos\alpha), \; D = 1 - E_1 \cos\alpha - (E_1 - \cos\alpha) E_2^2

    with E_i = exp(-TR / T_i), :math:`\phi = \pi - 2 \pi \Delta f T_R` and :math:`\varphi(t) = -2 \pi \Delta f t`. On resonance S is real and equal to

    .. math::
        \rho \, \sin\alpha \, \frac{1 - E_1}{1 - (E_1 - E_2) \cos\alpha - E_1 E_2} \, e^{-T_E / T_2}

    and at :math:`\Delta f = \pm 1 / (2 T_R)` it is nearly lost: the dark bands.

    Args:
      pd: proton density rho, `[...]`.
      t1: longitudinal relaxation time [ms], > 0, of the shape of `pd`.
      t2: transverse relaxation time [ms], > 0, of the shape of `pd`.
      tr: repetition time [ms], scalar > 0.
      te: echo time [ms], from the pulse's middle, usually TR / 2.
      flip: flip angle alpha [rad].
      off_resonance: Delta f [Hz], of the shape of `pd` or a scalar; precession is exp(-2 pi i Delta f t), as in `bloch`.

    Returns:
      S, complex, of the shape and unit of `pd`, demodulated by the phase of the pulse before.

    Reference:
      Freeman & Hill (1971), Journal of Magnetic Resonance 4, 366-383. We divide by the same C cos(phi) + D as a sum of positive terms,
      (1 - E_1) cos^2(alpha / 2) |1 - E_2 e^{-i phi}|^2 + (1 + E_1) (1 - E_2^2) sin^2(alpha / 2), which loses no digit at short TR and small alpha.
    """
    angle = 2e-3 * jnp.pi * jnp.asarray(off_resonance) * tr
    e2, recovered, lost = jnp.exp(-tr / t2), -jnp.expm1(-tr / t1), -jnp.expm1(-tr / t2)  # E_2, 1 - E_1, 1 - E_2
    sin, cos = jnp.sin(flip / 2), jnp.cos(flip / 2)
    together = 2 * e2 * jnp.cos(angle / 2) ** 2
    opened = lost + together + 1j * (e2 * jnp.sin(angle))  # 1 - E_2 exp(-i phi), whose squared length is the bracket below
    below = recovered * cos**2 * (lost**2 + 2 * together) + (2 - recovered) * -jnp.expm1(-2 * tr / t2) * sin**2
    steady = 2 * sin * cos * recovered * opened / below
    return pd * steady * jnp.exp(-te / t2) * jnp.exp(-1j * angle * (te / tr))
