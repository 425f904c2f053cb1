"""Operators made of operators."""

import dataclasses

import jax
import jax.numpy as jnp

from medjax.typing import Leaf, Operator


def compose(A: Operator, B: Operator) -> Operator:
    """A after B: `x -> A(B(x))`.

    Args:
      A: the outer operator.
      B: the inner operator; its output is what A takes.

    Returns:
      An operator with the leaves of both.
    """
    return _Composition(A, B)


def scale(c, A: Operator) -> Operator:
    """c times A: `x -> c A(x)`.

    Args:
      c: scalar, a leaf: an attenuation coefficient [1/mm] turns line integrals of mu / mu_water [mm] into attenuation.
      A: operator.

    Returns:
      An operator with the leaves of A and c.
    """
    return _Scaled(c, A)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Composition:
    """A after B."""

    outer: Operator
    inner: Operator

    def __call__(self, x):
        """A B x."""
        return self.outer(self.inner(x))

    def adjoint(self, y):
        """B^H A^H y."""
        return self.inner.adjoint(self.outer.adjoint(y))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Scaled:
    """c A, with c a scalar leaf."""

    factor: Leaf
    inner: Operator

    def __call__(self, x):
        """c A x."""
        y = self.inner(x)
        return y * jnp.asarray(self.factor, y.dtype)

    def adjoint(self, y):
        """conj(c) A^H y."""
        return self.inner.adjoint(y * jnp.conj(jnp.asarray(self.factor, y.dtype)))
