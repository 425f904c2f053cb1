"""Attenuation of a beam of many energies."""

import jax
import jax.numpy as jnp
from jax import lax

from medjax import linalg


def polychromatic(lengths, coefficients, weights):
    r"""Attenuation that a detector sees behind several materials, in a beam of many energies.

    .. math::
        y = -\log \frac{\sum_E w_E \exp(-\sum_m \mu_m(E) A_m)}{\sum_E w_E}

    Its slope falls from :math:`\sum_E w_E \mu(E)` at thin objects to the least mu at thick ones: beam hardening. The sum is shifted
    by its largest term, so that metal does not underflow, and runs over one energy at a time, so that memory does not grow with their number.

    Args:
      lengths: A_m, line integrals of the amount of each material `[num_materials, ...]` [mm]: `A(fraction)` of an image of volume fractions.
      coefficients: mu_m(E) `[num_materials, num_energies]` [1/mm], rows of `attenuation(material, spectrum.energies)`.
      weights: w_E >= 0 `[num_energies]`, `spectrum.weights`; need not sum to 1.

    Returns:
      y without unit, of the shape of a single A_m. Differentiable in all arguments.

    Raises:
      ValueError: when numbers of materials or energies differ.

    Reference:
      Alvarez & Macovski (1976), https://doi.org/10.1088/0031-9155/21/5/002
    """
    lengths, coefficients, weights = (linalg.inexact(a) for a in (lengths, coefficients, weights))
    if lengths.ndim < 1 or coefficients.shape != (lengths.shape[0], *weights.shape) or weights.ndim != 1:
        shapes = f"{list(lengths.shape)}, {list(coefficients.shape)} and {list(weights.shape)}"
        raise ValueError(f"polychromatic needs [num_materials, ...], [num_materials, num_energies] and [num_energies], got {shapes}")
    dtype = lengths.dtype
    rows = (coefficients.T.astype(dtype), weights.astype(dtype))
    most = jnp.log(jnp.finfo(dtype).max) - 10  # an empty bin below the shift must not overflow

    def lowest(shift, row):
        return jnp.where(row[1] > 0, jnp.minimum(shift, jnp.tensordot(row[0], lengths, 1)), shift), None

    @jax.checkpoint
    def add(total, row):
        return total + row[1] * jnp.exp(jnp.minimum(shift - jnp.tensordot(row[0], lengths, 1), most)), None

    shift = lax.stop_gradient(lax.scan(lowest, jnp.full(lengths.shape[1:], jnp.inf, dtype), rows)[0])
    total = lax.scan(add, jnp.zeros(lengths.shape[1:], dtype), rows)[0]
    return shift - jnp.log(total) + jnp.log(jnp.sum(rows[1]))
