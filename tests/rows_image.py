"""Contract rows of the operators between images, and of those made of operators."""

import dataclasses

import jax
import jax.numpy as jnp
from row import Row
from rows_ct import ANGLES, rays

from medjax.operators.algebra import compose, scale
from medjax.operators.parallel_beam import parallel_beam


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Flip:
    """An operator without leaves, from images to images."""

    def __call__(self, x):
        """Rows in the other order."""
        return x[::-1]

    adjoint = __call__


def _scaled(A, x):
    return 0.7 * rays(A.inner, x)


def _composed(A, x):
    return (2 - 1j) * (rays(A.outer, x.real[::-1]) + 1j * rays(A.outer, x.imag[::-1]))


OPERATORS = {
    "scale": Row(lambda key: scale(jnp.asarray(0.7), parallel_beam(12, ANGLES, model="joseph")), (12, 12), jnp.float64, _scaled),
    "compose": Row(
        lambda key: compose(parallel_beam(12, ANGLES, model="joseph"), scale(jnp.asarray(2 - 1j), Flip())), (12, 12), jnp.complex128, _composed
    ),
}
