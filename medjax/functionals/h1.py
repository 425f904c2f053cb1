"""Half the squared norm of the gradient."""

import jax.numpy as jnp
import numpy as np
from jax.scipy.fft import dctn, idctn

from medjax import checks, linalg
from medjax.functionals.length import squares
from medjax.typing import Functional


def h1(strength, spacing=1.0, num_axes: int = 2) -> Functional:
    r"""Squared differences of neighbours, none across the border: smooth images.

    .. math:: \tfrac{\lambda}{2} \sum_a s_a^{-2} \sum_n |x_{n + e_a} - x_n|^2, \quad
        \mathrm{prox}_\tau(v) = C^T \left( 1 + \tau \lambda \sum_a \frac{2 - 2 \cos(\pi k_a / n_a)}{s_a^2} \right)^{-1} C v

    with the orthonormal cosine transform C of type II, which diagonalises these differences.

    Args:
      strength: lambda >= 0, a scalar.
      spacing: s > 0, distance of neighbours, a scalar or one an axis.
      num_axes: 1 to 3, of the axes that are differenced, the first ones.

    Returns:
      A `Functional` of real or complex `[h, w, ...]` or, with 3 axes, `[d, h, w, ...]`.

    Raises:
      ValueError: for a strength below 0 or NaN, a spacing that is not positive or does not fit, or axes other than 1 to 3.

    Reference:
      Strang (1999), The discrete cosine transform, DCT-2, https://doi.org/10.1137/S0036144598336745
    """
    checks.nonnegative(strength, "strength of h1")
    checks.positive(spacing, "spacing of h1")
    if num_axes not in (1, 2, 3):
        raise ValueError(f"num_axes of h1 is {num_axes}, 1, 2 or 3 is needed")
    if np.shape(spacing) not in ((), (num_axes,)):
        raise ValueError(f"h1 needs one spacing or one for each of {num_axes} axes, got {list(np.shape(spacing))}")

    def weights(dtype):
        return jnp.broadcast_to(jnp.asarray(spacing, dtype), (num_axes,)) ** -2

    def value(x):
        weight = weights(linalg.real_dtype(x)) * jnp.asarray(strength, linalg.real_dtype(x))
        return weight @ jnp.sum(squares(linalg.difference(x, num_axes)), axis=range(1, x.ndim + 1)) / 2

    def prox(v, tau):
        dtype, axes = linalg.real_dtype(v), tuple(range(num_axes))
        weight = weights(dtype) * jnp.asarray(strength * tau, dtype)
        gain = jnp.ones((1,) * v.ndim, dtype)
        for axis, n in enumerate(v.shape[:num_axes]):
            along = 2 - 2 * jnp.cos(jnp.pi * jnp.arange(n, dtype=dtype) / n)
            gain += (weight[axis] * along).reshape(*(n if i == axis else 1 for i in range(v.ndim)))

        return linalg.by_parts(lambda u: idctn(dctn(u, axes=axes, norm="ortho") / gain, axes=axes, norm="ortho"), v)

    return Functional(value, prox)
