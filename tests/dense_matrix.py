"""A matrix as an operator on real x, for tests of guides and samplers."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dense:
    """x -> M x of a matrix `[m, n]`, real or complex."""

    matrix: jax.Array

    def __call__(self, x):
        """M x."""
        return self.matrix @ x

    def adjoint(self, y):
        """Re M^H y."""
        return jnp.real(self.matrix.conj().T @ y)
