"""Linear algebra without matrices: maps with a hand-written adjoint, inner products, conjugate gradient, operator norm."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def vdot(a, b):
    """Real inner product `Re <a, b>` over all leaves of two pytrees: a scalar."""
    products = jax.tree.map(lambda u, v: jnp.real(jnp.vdot(u, v)), a, b)
    return sum(jax.tree.leaves(products), start=jnp.zeros(()))


def norm(a):
    """Euclidean norm over all leaves of a pytree: a scalar."""
    return jnp.sqrt(vdot(a, a))


def _zero_tied_to(array, dtype):
    """A zero of `dtype` that autodiff sees as depending on `array`, whatever `array` holds."""
    first = array.ravel()[0]
    first = first if jnp.issubdtype(dtype, jnp.complexfloating) else jnp.real(first)
    return jnp.where(False, first.astype(dtype), jnp.zeros((), dtype))


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
    out = jax.eval_shape(forward, x)
    arrays = [a for a in jax.tree.leaves(leaves) if jnp.issubdtype(jnp.result_type(a), jnp.inexact) and jnp.size(a)]

    def tie(dtype):
        return sum((_zero_tied_to(a, dtype) for a in arrays), start=jnp.zeros((), dtype))

    def matvec(z):
        return z[0], z[1] - forward(z[0])

    def solve(_, b):
        return b[0], b[1] + forward(b[0])

    def transpose_solve(_, c):
        return c[0] + jnp.conj(adjoint(jnp.conj(c[1]))), c[1]

    b = (x + tie(x.dtype), jnp.broadcast_to(_zero_tied_to(x, out.dtype) + tie(out.dtype), out.shape))
    z = lax.custom_linear_solve(matvec, b, solve, transpose_solve)
    return z[1] + _zero_tied_to(z[0], out.dtype)


def difference(x):
    """Forward differences `[h, w, ...]` -> `[2, h, w, ...]`, down and to the right, zero across the border; its squared norm is below 8."""
    return jnp.stack([jnp.diff(x, axis=0, append=x[-1:]), jnp.diff(x, axis=1, append=x[:, -1:])])


def difference_adjoint(p):
    """The adjoint of `difference`, minus the divergence: `[2, h, w, ...]` -> `[h, w, ...]`."""
    down, right = p[0, :-1], p[1, :, :-1]
    return -jnp.diff(down, axis=0, prepend=0, append=0) - jnp.diff(right, axis=1, prepend=0, append=0)


def conjugate_gradient(matvec: Callable, b, x0=None, *, num_steps: int, tolerance=1e-6, growth=jnp.inf):
    r"""Solve M x = b for a symmetric positive definite M, in at most `num_steps` steps.

    A step is taken only while ||b - M x|| > tolerance ||b||: past convergence the quotients are 0 / 0, and one such step
    would turn x into NaN. Under `vmap` each problem stops by itself. A direction of negative curvature, or a residual that has grown by more than
    `growth`, shows an M that is not symmetric positive definite after all: x stays where it was before that step.

    Args:
      matvec: `x -> M x`, self-adjoint in the inner product `vdot`.
      b: array or pytree.
      x0: start, zero if None.
      num_steps: the most steps.
      tolerance: relative bound on the residual.
      growth: the most that ||b - M x|| may grow over its first value; no bound by default, for a true M the residual may grow.

    Returns:
      x, of the structure of b.

    Reference:
      Hestenes & Stiefel (1952), eq. 3:1.
    """
    x = jax.tree.map(jnp.zeros_like, b) if x0 is None else x0
    r = b if x0 is None else jax.tree.map(jnp.subtract, b, matvec(x0))
    first = vdot(r, r)
    bound, most = tolerance**2 * vdot(b, b), growth**2 * first

    def step(_, carry):
        x, r, p, rr = carry
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
        return x, r, p, jnp.where(going, rr_next, rr)

    return lax.fori_loop(0, num_steps, step, (x, r, r, first))[0]


def operator_norm(A, x, num_steps: int = 50):
    """Largest singular value of A by power iteration on A^H A, a lower bound that converges to it.

    Args:
      A: an operator.
      x: a start in the domain of A that is not orthogonal to the top singular vector, a random array say.
      num_steps: number of power steps.

    Returns:
      ||A||, a scalar.

    Reference:
      Golub & Van Loan, Matrix Computations, section 8.2.
    """

    def step(_, v):
        u = A.adjoint(A(v))
        scale = norm(u)
        return jax.tree.map(lambda w: w / jnp.where(scale > 0, scale, 1).astype(w.dtype), u)

    v = lax.fori_loop(0, num_steps, step, x)
    return norm(A(v)) / norm(v)
