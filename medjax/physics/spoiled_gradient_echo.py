"""Signal of a spoiled gradient echo."""

import jax.numpy as jnp


def spoiled_gradient_echo(pd, t1, t2_star, tr, te, flip):
    r"""Steady-state signal of a gradient echo with perfect spoiling.

    .. math::
        S = \rho \, \sin\alpha \, \frac{1 - e^{-T_R / T_1}}{1 - \cos\alpha \; e^{-T_R / T_1}} \, e^{-T_E / T_2^*}

    It is largest at the Ernst angle :math:`\cos\alpha = e^{-T_R / T_1}`.

    Args:
      pd: proton density rho, `[...]`.
      t1: longitudinal relaxation time [ms], > 0, of the shape of `pd`.
      t2_star: effective transverse relaxation time [ms], > 0, of the shape of `pd`.
      tr: repetition time [ms], scalar > 0.
      te: echo time [ms], scalar.
      flip: flip angle alpha [rad], scalar.

    Returns:
      S, of the shape and unit of `pd`.
    """
    one_minus_e1 = -jnp.expm1(-tr / t1)
    # 1 - cos(a) E1 = (1 - E1) + E1 (1 - cos(a)), written with half angles so that small TR / T1 and small angles keep their digits.
    denominator = one_minus_e1 + (1 - one_minus_e1) * 2 * jnp.sin(flip / 2) ** 2
    return pd * jnp.sin(flip) * one_minus_e1 / denominator * jnp.exp(-te / t2_star)
