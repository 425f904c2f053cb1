"""Linear algebra without matrices: maps with a hand-written adjoint, inner products, conjugate gradient."""

import dataclasses
import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from scipy import fft

from medjax.typing import Leaf, Operator


def vdot(a, b):
    """Real inner product `Re <a, b>` over all leaves of two pytrees of one shape: a scalar."""

    def product(u, v):
        if jnp.iscomplexobj(u) and jnp.iscomplexobj(v):
            return jnp.sum(jnp.real(u) * jnp.real(v) + jnp.imag(u) * jnp.imag(v))
        return jnp.sum(jnp.real(u) * jnp.real(v))

    # not jnp.vdot, which adds up one after the other on a CPU: 1e-4 off in single precision, and conjugate gradients fall behind by a step in ten
    return jnp.asarray(sum(jax.tree.leaves(jax.tree.map(product, a, b)), start=0.0))


def norm(a):
    """Euclidean norm over all leaves of a pytree: a scalar."""
    return jnp.sqrt(vdot(a, a))


def root(square):
    """The square root of each number, 0 with a derivative of 0 where there is nothing above 0."""
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def unit_magnitude(x, axes):
    """x over its root mean square along `axes`, taken in single precision at least; what is below 1e-4, zeros too, is raised 1e4 times."""
    exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    square = jnp.mean(exact * exact, axes, keepdims=True)
    return (exact * lax.rsqrt(jnp.maximum(square, 1e-8))).astype(x.dtype)


def change(x, previous):
    """||x - previous|| / ||x|| over all leaves, the usual `Info.change`; where x is 0, ||previous||."""
    size = norm(x)
    return norm(jax.tree.map(jnp.subtract, x, previous)) / jnp.where(size > 0, size, 1)


def gradient(value: Callable) -> Callable:
    """The gradient of a real function of real or complex pytrees: the direction u with d value = Re <u, dx> (`jax.grad` gives its conjugate)."""
    return lambda x: jax.tree.map(jnp.conj, jax.grad(value)(x))


def inexact(x):
    """x as an array of floating or complex numbers: integers and booleans (a mask, counts) become the default float."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(float)


def complex_of(x):
    """x as a complex array of its own precision: a real image is one without phase."""
    x = inexact(x)
    return x if jnp.iscomplexobj(x) else x.astype(jnp.result_type(x, jnp.complex64))


def by_parts(fn, x):
    """A real linear function of a real or complex array."""
    return lax.complex(fn(jnp.real(x)), fn(jnp.imag(x))) if jnp.iscomplexobj(x) else fn(x)


def even_fast_length(least) -> int:
    """The even length, at least `least`, of which FFTs are fast."""
    half = math.ceil(least / 2)
    return 2 * int(fft.next_fast_len(half) or half)


def take(array, index):
    """`array[index]` for indices known to be in bounds; unsigned ones are not even tested for being negative."""
    return array.at[index].get(mode="promise_in_bounds")


def take_along(lines, index):
    """`lines[k, index[k]]` for unsigned indices known to be in bounds."""
    return jnp.take_along_axis(lines, index, axis=1, mode="promise_in_bounds")


def hair(size, dtype) -> float:
    """What to add to a position on a grid of `size` points before it is rounded down: 4 eps size.

    A compiler may compute a position twice, with and without fused products, for an index and for a weight. Positions of regular geometries are whole
    numbers, where the two may round to different points; a hair below, where the step is then, hardly any lie.
    """
    return 4 * float(jnp.finfo(dtype).eps) * size


def below(position, size):
    """The whole number below a position on a grid of `size` points, or a `hair` above it, as a float."""
    return jnp.floor(position + hair(size, position.dtype))


def cell(position, size):
    """For linear interpolation at positions >= 0 on a grid of `size` points: the index of the point below, uint32, and the weight of the next.

    Unsigned, for JAX would ask a signed index whether it counts from the end.
    """
    lower = (position + hair(size, position.dtype)).astype(jnp.uint32)
    return lower, position - lower.astype(position.dtype)


def checked_shape(a, wanted, what: str):
    """a where it has the shape that a geometry wants.

    Raises:
      ValueError: naming both shapes.
    """
    if jnp.shape(a) != tuple(wanted):
        raise ValueError(f"{what} is {list(jnp.shape(a))}, the geometry says {list(wanted)}")
    return a


def zero_tied_to(array, dtype):
    """A zero of `dtype` that autodiff and `shard_map` see as depending on `array`, whatever `array` holds."""
    first = array.ravel()[0]
    first = first if jnp.issubdtype(dtype, jnp.complexfloating) else jnp.real(first)
    return jnp.where(False, first.astype(dtype), jnp.zeros((), dtype))


def zeros_along(x):
    """`[p]` zeros beside `[p, ...]`, which `shard_map` sees as spread over devices like x."""
    return jnp.zeros(x.shape[0], x.dtype) + zero_tied_to(x, x.dtype)


def traced_once(fn: Callable) -> Callable:
    """`fn` of pytrees, whose traces and those of its derivatives JAX keeps.

    An unrolled network applies one map some twenty times, and each derivative traces it again: 3 instead of 15 s for a step of learned primal-dual
    (10 iterations, 128 x 128, jax 0.10.1, one core of an AMD EPYC), the compiled step as fast as before. Arrays that fn closes over become constants.
    """
    return jax.jit(fn)


def linear_with_adjoint(forward: Callable, adjoint: Callable, x, leaves=()):
    r"""`forward(x)` for a linear map whose adjoint is written by hand, under every transformation.

    A is the lower left block of the inverse of :math:`\begin{pmatrix} I & 0 \\ -A & I \end{pmatrix}`; `lax.custom_linear_solve` takes the
    solve and the transposed solve by hand, so forward mode, reverse mode of any order, transposition, `vmap` and gradients for
    the leaves all hold (`custom_vjp` has no forward mode, `linear_call` no `vmap`).

    Args:
      forward: `x -> A x`, one array in, one array out, linear over the field of x (x and A x of one kind, real or complex).
      adjoint: `y -> A^H y`, the conjugate transpose.
      x: array.
      leaves: pytree of the arrays that both functions close over and that may be differentiated, vmapped or traced.

    Returns:
      `forward(x)`.
    """
    x = inexact(x)
    out = jax.eval_shape(forward, x)
    arrays = [a for a in jax.tree.leaves(leaves) if jnp.issubdtype(jnp.result_type(a), jnp.inexact) and jnp.size(a)]

    def tie(dtype):
        return sum((zero_tied_to(a, dtype) for a in arrays), start=jnp.zeros((), dtype))

    def matvec(z):
        return z[0], z[1] - forward(z[0])

    def solve(_, b):
        return b[0], b[1] + forward(b[0])

    def transpose_solve(_, c):
        return c[0] + jnp.conj(adjoint(jnp.conj(c[1]))), c[1]

    b = (x + tie(x.dtype), jnp.broadcast_to(zero_tied_to(x, out.dtype) + tie(out.dtype), out.shape))
    z = lax.custom_linear_solve(matvec, b, solve, transpose_solve)
    # the cotangent is tied to the leaves, too: a constant one would leave the transposed solve of a second reverse mode without a tangent
    return (z[1] + zero_tied_to(z[0], out.dtype)) * (1 + tie(out.dtype))


def gram(A, weight=None):
    """`x -> A^H W A x` for a diagonal W, a number or like A x, 1 if None; by A's own `normal` where it has one and W is a number."""
    if hasattr(A, "normal") and (weight is None or jnp.ndim(weight) == 0):
        return A.normal if weight is None else lambda x: weight * A.normal(x)
    return lambda x: A.adjoint(A(x) if weight is None else weight * A(x))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Weighted:
    """`x -> left A(right x)` with real arrays left and right: a whitened, preconditioned A, for its norm."""

    A: Operator
    left: Leaf = 1.0
    right: Leaf = 1.0

    def __call__(self, x):
        """left A right x."""
        return self.left * self.A(self.right * x)

    def adjoint(self, y):
        """right A^H left y."""
        return self.right * self.A.adjoint(self.left * y)


def difference(x, num_axes: int = 2):
    """Forward differences along the first axes, `[h, w, ...]` -> `[2, h, w, ...]`, zero across the border; its squared norm is below 4 num_axes."""
    _has_axes(x.shape, num_axes)
    return jnp.stack([jnp.diff(x, axis=i, append=lax.slice_in_dim(x, x.shape[i] - 1, None, axis=i)) for i in range(num_axes)])


def difference_adjoint(p):
    """The adjoint of `difference`, minus the divergence: `[num_axes, h, w, ...]` -> `[h, w, ...]`."""
    _has_axes(p.shape[1:], p.shape[0])
    inner = [lax.slice_in_dim(p[i], 0, p.shape[i + 1] - 1, axis=i) for i in range(p.shape[0])]
    return sum(-jnp.diff(each, axis=i, prepend=0, append=0) for i, each in enumerate(inner))


def _has_axes(shape, num_axes):
    if len(shape) < num_axes:
        raise ValueError(f"differences along {num_axes} axes are asked for, the image is {list(shape)}")


def conjugate_gradient(matvec: Callable, b, x0=None, *, num_steps: int, tolerance=None, growth=jnp.inf, early: bool = False):
    r"""Solve M x = b for a symmetric positive definite M, in at most `num_steps` steps.

    A step is taken only while ||b - M x|| > tolerance ||b||: past convergence the quotients are 0 / 0, and one such step
    would turn x into NaN. Under `vmap` each problem stops by itself. A direction of negative curvature, or a residual that has grown by more than
    `growth`, shows an M that is not symmetric positive definite after all: x stays where it was before that step. Where the first residual is not
    finite x is NaN, not the start: data that are lost must not pass for data that are met.

    Args:
      matvec: `x -> M x`, self-adjoint in the inner product `vdot`.
      b: array or pytree.
      x0: start, zero if None.
      num_steps: the most steps.
      tolerance: relative bound on the residual; by default 10 roundings, 1e-6 in single precision.
      growth: the most that ||b - M x|| may grow over its first value; no bound by default, for a true M the residual may grow.
      early: end the loop with the last step taken, for one problem (under `vmap` the last problem ends it); reverse mode does not go through then.

    Returns:
      x, of the structure of b.

    Reference:
      Hestenes & Stiefel (1952), eq. 3:1.
    """
    return conjugate_gradient_told(matvec, b, x0, num_steps=num_steps, tolerance=tolerance, growth=growth, early=early)[0]


def conjugate_gradient_told(matvec: Callable, b, x0=None, *, num_steps: int, tolerance=None, growth=jnp.inf, early: bool = False):
    """`(x, residual)` of `conjugate_gradient`, the residual ||b - M x|| as its recursion has it, of which no further product is taken."""
    x = jax.tree.map(jnp.zeros_like, b) if x0 is None else x0
    r = b if x0 is None else jax.tree.map(jnp.subtract, b, matvec(x0))
    first = vdot(r, r)
    tolerance = 10 * jnp.finfo(real_dtype(b)).eps if tolerance is None else tolerance
    bound, most = tolerance**2 * vdot(b, b), growth**2 * first
    x = jax.tree.map(lambda u: jnp.where(jnp.isfinite(first), u, jnp.nan), x)

    def step(_, carry):
        x, r, p, rr, _ = carry
        Mp = matvec(p)
        pMp = vdot(p, Mp)
        going = (rr > bound) & (pMp > 0)
        alpha = jnp.where(going, rr / jnp.where(going, pMp, 1), 0)
        r_next = jax.tree.map(lambda u, v: u - alpha.astype(u.dtype) * v, r, Mp)
        rr_next = vdot(r_next, r_next)
        going &= rr_next <= most
        x = jax.tree.map(lambda u, v: jnp.where(going, u + alpha.astype(u.dtype) * v, u), x, p)
        beta = jnp.where(going, rr_next / jnp.where(going, rr, 1), 0)
        p = jax.tree.map(lambda u, v: jnp.where(going, u + beta.astype(u.dtype) * v, v), r_next, p)
        r = jax.tree.map(lambda u, v: jnp.where(going, u, v), r_next, r)
        return x, r, p, jnp.where(going, rr_next, rr), going

    start = (x, r, r, first, first > bound)
    if early:
        found = lax.while_loop(lambda c: (c[0] < num_steps) & c[1][-1] & (c[1][-2] > bound), lambda c: (c[0] + 1, step(*c)), (0, start))[1]
    else:
        found = lax.fori_loop(0, num_steps, step, start)
    return found[0], jnp.sqrt(found[3])


def real_dtype(x):
    """The real dtype of the leaves of a pytree of arrays or `ShapeDtypeStruct`."""
    return jnp.finfo(jnp.result_type(*jax.tree.leaves(x))).dtype


def flat(x):
    """All leaves of a pytree as one real vector; complex arrays count as pairs of reals."""
    return jnp.concatenate([part.ravel() for a in jax.tree.leaves(x) for part in ([a.real, a.imag] if jnp.iscomplexobj(a) else [a])])


def flattening(like):
    """The length of `flat` of a pytree of arrays or `ShapeDtypeStruct`, and its inverse, vector -> pytree."""
    leaves, tree = jax.tree.flatten(like)
    sizes = [math.prod(a.shape) * (1 + jnp.issubdtype(a.dtype, jnp.complexfloating)) for a in leaves]

    def unflat(vector):
        parts = jnp.split(vector, list(itertools.accumulate(sizes))[:-1])
        halves = [lax.complex(*jnp.split(p, 2)) if jnp.issubdtype(a.dtype, jnp.complexfloating) else p for p, a in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(tree, [h.reshape(a.shape).astype(a.dtype) for h, a in zip(halves, leaves, strict=True)])

    return sum(sizes), unflat
