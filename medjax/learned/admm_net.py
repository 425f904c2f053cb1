"""Alternating direction method of multipliers with learned filters and shrinkage."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from medjax import checks, lanczos, linalg
from medjax.learned.channels import channels
from medjax.learned.told_system import told_system
from medjax.networks.conv3x3 import conv3x3
from medjax.typing import Reconstruction

_FILTERS = 8
"""The 3 x 3 cosines but the constant one."""
_SOLVED = 3e-3
"""Residual up to which gradients are right to 3 %.

Measured for penalties of 0.003 to 0.3, 3 to 20 steps, 1 and 4 stages, 16 px of MRI; of CT for most of these.
"""


def admm_net(
    num_stages: int = 10,
    num_points: int = 101,
    reach: float = 1.0,
    penalty: float = 0.1,
    threshold: float = 0.02,
    num_krylov: int = 20,
    tolerance: float = 1e-5,
) -> Reconstruction:
    r"""ADMM for sparse filter responses, of which everything but the order of its steps is learned.

    .. math::
        x_n &= \Bigl( \hat A^H \hat A + \sum_l \rho_l H_l^T H_l \Bigr)^{-1} \Bigl( \hat A^H \hat y + \sum_l \rho_l H_l^T (z_l - \beta_l) \Bigr), \\
        z_l &\leftarrow S(D_l x_n + \beta_l; q_l), \qquad \beta_l \leftarrow \beta_l + \eta_l (D_l x_n - z_l), \quad
        \hat A = A / \|A\|, \; \hat y = y / \|A\|

    from z = beta = 0, n = 1, ..., N, with a last x at the end. Each stage has its own 8 filters H_l and D_l of 3 x 3 pixels, the cosines at first,
    penalties rho, update rates eta, 1 at first, and shrinkage functions S: piecewise linear with values q at equally spaced points in
    [-reach, reach], beyond them of slope 1, soft thresholding at first. Real and imaginary parts are filtered and shrunk alike.

    Args:
      num_stages: N.
      num_points: of a shrinkage function.
      reach: of the points, in the unit of the filtered image.
      penalty: rho at first, > 0; its logarithm is learned.
      threshold: of S at first, >= 0; exact where it is a point.
      num_krylov: the most steps of conjugate gradient.
      tolerance: of its residual, relative to that at the last x.

    Returns:
      A `Reconstruction` without networks. It tells, for `implicit.trouble`, the largest `lower_residual` of its systems, each relative to that at its
      start, and `lower_converged`, whether this is at most 3e-3: above it the systems of the derivative, of the same matrices, are unsolved, too.
      By defaults it is 1e-5, and gradients are right to 3e-4; by 3 steps 0.02 to 0.3, and they are 5 to 20 % off and more.

    Raises:
      ValueError: for counts below 1, fewer than 2 points, numbers that are not above 0.

    Reference:
      Yang, Sun, Li & Xu (2016), Deep ADMM-Net for compressive sensing MRI, section 2.3, and 3.1 for the start, https://papers.nips.cc/paper/6406;
      there, with one coil, x has a closed form, here conjugate gradients take any operator, differentiated as the solution.
    """
    for name, value in (("num_stages", num_stages), ("num_points", num_points), ("num_krylov", num_krylov)):
        checks.count(value, f"{name} of admm_net")
    if num_points < 2:
        raise ValueError(f"num_points of admm_net is {num_points}, at least 2 are needed")
    for name, value in (("reach", reach), ("penalty", penalty), ("tolerance", tolerance)):
        checks.positive(value, f"{name} of admm_net")
    checks.nonnegative(threshold, "threshold of admm_net")
    points = np.linspace(-reach, reach, num_points)

    def init(key, A, y):
        dtype = linalg.real_dtype(y)
        kernel = jnp.asarray(_cosines(), dtype)
        start = jnp.asarray(np.sign(points) * np.maximum(np.abs(points) - threshold, 0), dtype)
        ones = jnp.ones(_FILTERS, dtype)
        inverse = {"inverse_filters": kernel, "log_penalty": jnp.log(penalty) * ones}
        stage = inverse | {"filters": kernel, "rate": ones, "values": jnp.tile(start, (_FILTERS, 1))}
        return {f"stage_{n}": stage for n in range(num_stages)} | {f"stage_{num_stages}": inverse}

    def apply(params, A, y, sigma_y):
        square = lax.stop_gradient(lanczos.operator_norm(A, jax.eval_shape(A.adjoint, y), num_steps=8)) ** 2
        gram = linalg.gram(A)
        back, to_image = channels(A.adjoint(y) / square)
        x = jnp.zeros_like(back)
        z = beta = jnp.zeros((*back.shape, _FILTERS), back.dtype)
        told = []
        for n in range(num_stages + 1):
            stage = params[f"stage_{n}"]
            weight = jnp.exp(stage["log_penalty"])[None, None, None]
            kernel = stage["inverse_filters"]

            def matvec(h, kernel=kernel, weight=weight):
                return channels(gram(to_image(h)))[0] / square + _filtered_back(weight * _filtered(h, kernel), kernel)

            wanted, known = back + _filtered_back(weight * (z - beta), kernel), lax.stop_gradient(x)
            missing = wanted - matvec(known)
            step, left = _solved(matvec, missing, num_krylov, tolerance)
            x = known + step
            told.append(told_system(left, linalg.norm(missing), linalg.norm(wanted), _SOLVED))
            if n < num_stages:
                seen = _filtered(x, stage["filters"])
                z = _shrunk(seen + beta, stage["values"], reach)
                beta = beta + stage["rate"][None, None, None] * (seen - z)
        residuals, solved = (jnp.stack([each[name] for each in told]) for name in ("lower_residual", "lower_converged"))
        return to_image(x), {"lower_residual": jnp.max(residuals), "lower_converged": jnp.min(solved)}

    return Reconstruction(init, apply)


def _solved(matvec, b, num_krylov, tolerance):
    """The solution of a symmetric positive definite system, differentiated as such, and the norm of its residual."""

    def solve(matvec, b):
        return linalg.conjugate_gradient_told(matvec, b, num_steps=num_krylov, tolerance=tolerance)

    return lax.custom_linear_solve(matvec, b, solve, symmetric=True, has_aux=True)


def _cosines():
    """Kernels `[3, 3, 1, 8]` of the discrete cosine transform without the constant one, of norm 1 / 3: with that one they would be an isometry."""
    basis = np.cos(np.pi * (np.arange(3)[:, None] + 0.5) * np.arange(3) / 3)
    basis /= np.linalg.norm(basis, axis=0)
    return np.einsum("ia,jb->ijab", basis, basis).reshape(3, 3, 1, 9)[..., 1:] / 3


def _filtered(h, kernel):
    """`[h, w, c]` -> `[h, w, c, filters]`, every channel by all filters."""
    return jax.vmap(lambda channel: conv3x3(channel[..., None], kernel), 2, 2)(h)


def _filtered_back(z, kernel):
    """The adjoint of `_filtered`."""
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    return jax.vmap(lambda responses: conv3x3(responses, turned)[..., 0], 2, 2)(z)


def _shrunk(a, values, reach):
    """S(a; q) of responses `[h, w, c, filters]` and values `[filters, points]`."""
    last = values.shape[-1] - 1
    inside = jnp.clip(a, -reach, reach)
    place = (inside + reach) * (last / (2 * reach))
    lower = jnp.clip(jnp.floor(place), 0, last - 1)
    first = (lower.astype(int) + (last + 1) * jnp.arange(values.shape[0])[None, None, None]).astype(jnp.uint32)
    low, high = (linalg.take(values.ravel(), first + shift) for shift in (0, 1))
    return low + (place - lower) * (high - low) + a - inside
