"""Normalised mean squared error."""

import jax.numpy as jnp


def nmse(estimate, reference):
    r"""Normalised mean squared error :math:`\|e - r\|^2 / \|r\|^2`.

    Args:
      estimate: `[...]`.
      reference: `[...]`, the truth, in a unit whose zero means nothing is there (not HU).

    Returns:
      Scalar.

    Reference:
      Zbontar et al. (2018), https://arxiv.org/abs/1811.08839
    """
    return jnp.sum(jnp.abs(estimate - reference) ** 2) / jnp.sum(jnp.abs(reference) ** 2)
