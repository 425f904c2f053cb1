"""Operators made of operators."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from medjax import linalg
from medjax.operators.complex_channels import ComplexChannels
from medjax.typing import Leaf, Operator


def identity() -> Operator:
    """x as it is, an array or a pytree: the operator of denoising, or one block of a `stack`."""
    return _Identity()


def compose(A: Operator, B: Operator) -> Operator:
    """A after B: `x -> A(B(x))`.

    Args:
      A: the outer operator.
      B: the inner operator; its output is what A takes.

    Returns:
      An operator with the leaves of both, and with a method `views` where A has one, `svd` where A has one and B is `complex_channels`.
    """
    if hasattr(A, "svd") and isinstance(B, ComplexChannels):
        return _DecomposedComposition(A, B)
    return (_ViewedComposition if hasattr(A, "views") else _Composition)(A, B)


def scale(c, A: Operator) -> Operator:
    """c times A: `x -> c A(x)`.

    Args:
      c: scalar, a leaf: an attenuation coefficient [1/mm] turns line integrals of mu / mu_water [mm] into attenuation. A complex one makes
        complex data of real ones, of the same precision.
      A: operator.

    Returns:
      An operator with the leaves of A and c, and with a method `views` where A has one.
    """
    return (_ViewedScaled if hasattr(A, "views") else _Scaled)(c, A)


def add(A: Operator, B: Operator) -> Operator:
    """The sum: `x -> A(x) + B(x)`.

    Args:
      A: operator.
      B: operator of the same domain and range; the outputs have one shape and one structure, or calling the sum raises `ValueError`.

    Returns:
      An operator with the leaves of both.
    """
    return _Sum(A, B)


def stack(*operators: Operator) -> Operator:
    r"""Several measurements of one x: `x -> (A_1(x), A_2(x), ...)`, a tuple, so that shapes and dtypes may differ.

    .. math:: A^H (y_1, y_2, \ldots) = \sum_i A_i^H y_i

    `linalg.vdot` and `linalg.norm` take such a tuple, and so do the solvers; weigh a block by `scale`.

    Args:
      operators: at least one, all of one domain.

    Returns:
      An operator with the leaves of all.

    Raises:
      ValueError: without operators.
    """
    if not operators:
        raise ValueError("stack needs at least one operator, got none")
    return _Stack(tuple(operators))


def each(*operators: Operator, at_once: int = 1) -> Operator:
    r"""Every image of a series through its own operator: `x -> (A_1(x_1), A_2(x_2), ...)`, stacked along the first axis.

    .. math:: y_t = A_t x_t, \qquad (A^H y)_t = A_t^H y_t

    Leaves that all have in common, the very same arrays, such as the coil maps of a scan whose mask changes from frame to frame, are held once.

    Args:
      operators: one for each image, of one kind and of leaves of the same shapes; or a single one for a series of any length.
      at_once: images in work at a time; one is best on a CPU.

    Returns:
      An operator from arrays `[t, ...]` to arrays `[t, ...]`.

    Raises:
      ValueError: without operators, for operators of different kinds or sizes.
    """
    if not operators:
        raise ValueError("each needs at least one operator, got none")
    leaves, kinds = zip(*(jax.tree.flatten(A) for A in operators), strict=True)
    if len(set(kinds)) > 1 or len({tuple(map(jnp.shape, own)) for own in leaves}) > 1:
        raise ValueError("each needs operators of one kind and size, got several")
    own = tuple(any(a is not same[0] for a in same) for same in zip(*leaves, strict=True))
    together = [jnp.stack(same) if differs else same[0] for differs, same in zip(own, zip(*leaves, strict=True), strict=True)]
    return _Each(jax.tree.unflatten(kinds[0], together), own, len(operators) if len(operators) > 1 else 0, at_once)


def adjoint(A: Operator) -> Operator:
    """A^H as an operator: `y -> A.adjoint(y)`, whose adjoint is A.

    Args:
      A: operator.

    Returns:
      An operator with the leaves of A; A itself where A is an adjoint already.
    """
    return A.inner if isinstance(A, _Adjoint) else _Adjoint(A)


def normal(A: Operator) -> Operator:
    """A^H A, self-adjoint and positive: `x -> A.adjoint(A(x))`, the matrix of the normal equations.

    Args:
      A: operator.

    Returns:
      An operator with the leaves of A.
    """
    return _Normal(A)


def restrict(A: Operator, indices, size: int | None = None) -> Operator:
    """Some of the measurements: `x -> A(x)[indices]` along the first axis.

    A CT operator computes the wanted views alone (its method `views`); any other computes all and drops the rest.

    Args:
      A: operator; its output is one array.
      indices: `[k]` integers, also repeated ones, or a slice; an array is a leaf.
      size: length of the first axis of A(x); not needed where A has a method `views`.

    Returns:
      An operator with the leaves of A and the indices.

    Raises:
      ValueError: without indices or size, or (if they are known) for indices out of range.
    """
    views = getattr(A, "views", None)
    if views is not None:
        return views(indices)
    if size is None:
        raise ValueError(f"restrict needs size, the length of the first axis of A(x), for {type(A).__name__} without a method views")
    places = jnp.arange(size)[indices] if isinstance(indices, slice) else jnp.asarray(indices)
    if places.ndim != 1 or places.size == 0 or not jnp.issubdtype(places.dtype, jnp.integer):
        raise ValueError(f"restrict needs indices [k] of integers, k > 0, got shape {places.shape} of {places.dtype}")
    if not isinstance(places, Tracer) and not np.all((np.asarray(places) >= -size) & (np.asarray(places) < size)):
        raise ValueError(f"restrict needs indices from {-size} to {size - 1}, got {np.asarray(places).min()} to {np.asarray(places).max()}")
    return _Restriction(places, A, size)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Identity:
    """I."""

    def __call__(self, x):
        """x."""
        return x

    def adjoint(self, y):
        """y."""
        return y


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

    def normal(self, x):
        """B^H A^H A B x, by the `normal` of A where it has one."""
        return self.inner.adjoint(linalg.gram(self.outer)(self.inner(x)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _ViewedComposition(_Composition):
    """A after B, of an A with views."""

    def views(self, indices):
        """Some of the views of A after B."""
        return compose(restrict(self.outer, indices), self.inner)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _DecomposedComposition(_Composition):
    """A after an isometry B that reaches all of the domain of A, of an A with an SVD."""

    def svd(self):
        """U and the values of A; V becomes B^H V."""
        svd = self.outer.svd()  # pyright: ignore[reportAttributeAccessIssue]
        return svd._replace(analyse=lambda x: svd.analyse(self.inner(x)), synthesise=lambda c: self.inner.adjoint(svd.synthesise(c)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Scaled:
    """c A, with c a scalar leaf."""

    factor: Leaf
    inner: Operator

    def __call__(self, x):
        """c A x."""
        return jax.tree.map(lambda y: _times(self.factor, y), self.inner(x))

    def adjoint(self, y):
        """conj(c) A^H y."""
        return self.inner.adjoint(jax.tree.map(lambda y: _times(jnp.conj(self.factor), y), y))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _ViewedScaled(_Scaled):
    """c A, of an A with views."""

    def views(self, indices):
        """c times some of the views of A."""
        return scale(self.factor, restrict(self.inner, indices))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Sum:
    """A + B."""

    first: Operator
    second: Operator

    def __call__(self, x):
        """A x + B x."""
        return _added(self.first(x), self.second(x))

    def adjoint(self, y):
        """A^H y + B^H y."""
        return _added(self.first.adjoint(y), self.second.adjoint(y))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Stack:
    """(A_1, A_2, ...)."""

    operators: tuple[Operator, ...]

    def __call__(self, x):
        """(A_1 x, A_2 x, ...)."""
        return tuple(A(x) for A in self.operators)

    def adjoint(self, y):
        """The sum of A_i^H y_i."""
        if not isinstance(y, tuple | list) or len(y) != len(self.operators):
            raise ValueError(f"got data of {len(jax.tree.leaves(y))} arrays, a tuple of {len(self.operators)} blocks is needed")
        first, *others = (A.adjoint(block) for A, block in zip(self.operators, y, strict=True))
        for each in others:
            first = _added(first, each)
        return first


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Each:
    """A_t x_t; the leaves of `inner` that are `own` to every image have an axis for it in front."""

    inner: Operator
    own: tuple[bool, ...] = dataclasses.field(metadata={"static": True})
    count: int = dataclasses.field(metadata={"static": True})
    at_once: int = dataclasses.field(metadata={"static": True})

    def __call__(self, x):
        """A_t x_t."""
        return self._through(lambda A, x: A(x), x)

    def adjoint(self, y):
        """A_t^H y_t."""
        return self._through(lambda A, y: A.adjoint(y), y)

    def normal(self, x):
        """A_t^H A_t x_t, by the `normal` of A_t where it has one."""
        return self._through(lambda A, x: linalg.gram(A)(x), x)

    def _through(self, fn, series):
        if jnp.ndim(series) == 0 or (self.count and jnp.shape(series)[0] != self.count):
            raise ValueError(f"series is {list(jnp.shape(series))}, {self.count or 'some'} images along the first axis are needed")
        leaves, kind = jax.tree.flatten(self.inner)

        def one(taken):
            table, image = taken
            table = iter(table)
            return fn(jax.tree.unflatten(kind, [next(table) if own else a for own, a in zip(self.own, leaves, strict=True)]), image)

        tables = [a for own, a in zip(self.own, leaves, strict=True) if own]
        return jax.lax.map(one, (tables, series), batch_size=self.at_once if self.at_once > 1 else None)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Adjoint:
    """A^H."""

    inner: Operator

    def __call__(self, x):
        """A^H x."""
        return self.inner.adjoint(x)

    def adjoint(self, y):
        """A y."""
        return self.inner(y)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Normal:
    """A^H A."""

    inner: Operator

    def __call__(self, x):
        """A^H A x."""
        return self.inner.adjoint(self.inner(x))

    def adjoint(self, y):
        """A^H A y."""
        return self(y)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Restriction:
    """Some entries of A x along its first axis."""

    indices: Leaf
    inner: Operator
    size: int = dataclasses.field(metadata={"static": True})

    def __call__(self, x):
        """(A x)[indices]."""
        y = self.inner(x)
        if y.shape[0] != self.size:
            raise ValueError(f"A(x) is {list(y.shape)}, the restriction says {self.size} along the first axis")
        return y[self.indices]

    def adjoint(self, y):
        """A^H of y put back where it was measured, zero elsewhere; repeated measurements add up."""
        if y.shape[:1] != self.indices.shape:
            raise ValueError(f"data are {list(y.shape)}, the restriction says {list(self.indices.shape)} along the first axis")
        return self.inner.adjoint(jnp.zeros((self.size, *y.shape[1:]), y.dtype).at[self.indices].add(y))


def _times(factor, y):
    """factor * y in the precision of y, complex where one of them is."""
    y = linalg.complex_of(y) if jnp.iscomplexobj(factor) else linalg.inexact(y)
    return y * jnp.asarray(factor, y.dtype)


def _added(a, b):
    """a + b of two pytrees of one structure and the same shapes."""
    if jax.tree.map(jnp.shape, a) != jax.tree.map(jnp.shape, b):
        raise ValueError(f"got terms of shapes {jax.tree.map(jnp.shape, a)} and {jax.tree.map(jnp.shape, b)}, they must be equal")
    return jax.tree.map(jnp.add, a, b)
