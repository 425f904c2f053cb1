"""The data and total variation between slices, by steps of ADMM that go on where the last ones ended: what the volume samplers share."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from medjax import checks, linalg
from medjax.typing import Kernel, Operator


class Split(NamedTuple):
    """z: copy of the differences D x; w: its multiplier over rho; both `[1, d, h, w]`."""

    z: Array
    w: Array


def tv_admm(A: Operator, y, sigma_y=1.0, *, strength=0.04, rho=10.0, num_admm: int = 1, num_krylov: int = 1) -> Kernel:
    r"""Steps of ADMM from x for data with total variation along the first axis of a volume.

    .. math::
        \min_x \; \tfrac12 \| (y - A x) / \sigma_y \|^2 + \lambda \| D x \|_1, \quad (D x)_k = x_{k+1} - x_k

    .. math::
        x \leftarrow (A^H \Sigma_y^{-1} A + \rho D^T D)^{-1} (A^H \Sigma_y^{-1} y + \rho D^T (z - w)), \quad
        z \leftarrow S_{\lambda / \rho}(D x + w), \quad w \leftarrow w + D x - z

    with the soft threshold S, and the inverse by a few conjugate gradient steps from x: few of them leave what neither the data nor the neighbours
    change, so the start is where the prior enters. z and w are kept from one noise level to the next. The minimiser does not depend on the start:
    many steps forget the prior.

    Args:
      A: operator of volumes, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      strength: lambda >= 0, of the data term above: the papers' 0.04 is for sigma_y = 1.
      rho: penalty > 0; the minimiser does not depend on it, the speed does.
      num_admm: steps of ADMM.
      num_krylov: conjugate gradient steps in each.

    Returns:
      A `Kernel` whose state is a `Split`, without denoiser calls and without noise, that leaves the noise level where it is.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Chung et al. (2023), DiffusionMBIR, by the authors' code, https://arxiv.org/abs/2211.10655, whose differences are periodic: here the first slice
      is no neighbour of the last.
    """
    y, root = checks.measured(A, y, sigma_y)
    checks.nonnegative(strength, "strength")
    checks.positive(rho, "rho")
    for name, value in (("num_admm", num_admm), ("num_krylov", num_krylov)):
        checks.count(value, name)
    normal = linalg.gram(A, root**2)

    def init(x):
        zero = jnp.zeros((1, *x.shape), x.dtype) + linalg.zero_tied_to(x, x.dtype)
        return Split(zero, zero)

    def step(key, x, state, sigma, sigma_next, denoise):
        penalty, threshold = (jnp.asarray(value, x.dtype) for value in (rho, strength / rho))

        def matvec(v):
            return normal(v) + penalty * linalg.difference_adjoint(linalg.difference(v, 1))

        def one(_, carry):
            x, (z, w) = carry
            force = A.adjoint(root**2 * (y - A(x))) + penalty * linalg.difference_adjoint(z - w - linalg.difference(x, 1))
            x = x + linalg.conjugate_gradient(matvec, force, num_steps=num_krylov)
            change = linalg.difference(x, 1) + w
            w = jnp.clip(change, -threshold, threshold)
            return x, Split(change - w, w)

        return lax.fori_loop(0, num_admm, one, (x, state))

    return Kernel(init, step)
