"""Emission tomography: coincidences along lines of response."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax.typing import Leaf, Operator


def pet(projector: Operator, mu=None, normalisation=1.0):
    r"""Projection of an activity, attenuated along the whole line and weighed by the efficiency of its detector pair.

    .. math:: (A x)_i = n_i \, e^{-(P \mu)_i} \, (P x)_i

    In PET both photons together cross all of the line, so attenuation is a factor for each line of response, whatever the depth. What adds to it,
    randoms and scatter, belongs to the noise model `emission_counts`. Compose with a `blur` for the positron range and the detector's resolution.

    Args:
      projector: P, line integrals such as `parallel_beam`, of the image of activity and of mu.
      mu: attenuation at 511 keV [1/mm], an image; None for none. Water has 0.0096 / mm.
      normalisation: n >= 0, efficiency of each line of response, of the shape of P x, or one for all; zero for a dead detector.

    Returns:
      A `Pet` with the leaves of P and the factors n exp(-P mu): gradients for mu go through building it.

    Raises:
      ValueError: for a normalisation that does not fit the data, is complex or (if it is known) negative, or a mu that is complex or (if it is
        known) not finite.

    Reference:
      Shepp & Vardi (1982), Maximum likelihood reconstruction for emission tomography, https://doi.org/10.1109/TMI.1982.4307558
    """
    if np.iscomplexobj(normalisation) or (mu is not None and np.iscomplexobj(mu)):
        raise ValueError("pet needs a real mu [1/mm] and a real normalisation, got complex numbers")
    if mu is not None and not isinstance(mu, Tracer) and not np.all(np.isfinite(mu)):
        raise ValueError("pet needs a finite mu [1/mm], got NaN or infinity")
    if not isinstance(normalisation, Tracer) and not np.all(np.asarray(normalisation) >= 0):
        raise ValueError("pet needs a normalisation >= 0, got negative entries")
    factors = jnp.asarray(normalisation, float)
    if factors.ndim:
        _check_fits(projector, factors)
    return Pet(factors if mu is None else factors * jnp.exp(-projector(mu)), projector)


def _check_fits(projector, factors):
    """Refuse a normalisation that the projector would not take for data."""
    try:
        data = jax.eval_shape(projector, jax.eval_shape(projector.adjoint, jax.ShapeDtypeStruct(factors.shape, factors.dtype))).shape
    except (TypeError, ValueError) as error:
        raise ValueError(f"pet needs a normalisation of the shape of the data, got {factors.shape}: {error}") from error
    if data != factors.shape:
        raise ValueError(f"pet needs a normalisation of the shape of the data {data}, got {factors.shape}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pet:
    """Attenuated projection; build it with `pet`.

    factors: like the data, or a scalar: efficiency times attenuation factor, a leaf.
    projector: an `Operator`, line integrals.
    """

    factors: Leaf
    projector: Any

    def __call__(self, x):
        """Expected true coincidences of activity x."""
        return self._weighed(self.projector(x))

    def adjoint(self, y):
        """Backprojection of the weighed data."""
        return self.projector.adjoint(self._weighed(y))

    def views(self, indices):
        """The operator of the views `indices` of a projector that has them."""
        factors = self.factors[indices] if self.factors.ndim else self.factors
        return dataclasses.replace(self, factors=factors, projector=self.projector.views(indices))

    def _weighed(self, y):
        if self.factors.shape not in ((), y.shape):
            raise ValueError(f"data are {list(y.shape)}, the factors {list(self.factors.shape)}")
        return y * self.factors.astype(jnp.finfo(y.dtype).dtype)
