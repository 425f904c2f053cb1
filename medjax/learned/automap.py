"""Reconstruction by dense layers, which are told nothing of the scanner."""

import math

import jax
import jax.numpy as jnp

from medjax import checks, lanczos, linalg
from medjax.learned.channels import channels
from medjax.typing import Reconstruction


def automap(refine, rank: int | None = None) -> Reconstruction:
    r"""Two dense layers from data to an image, then convolutions.

    .. math:: x = \mathcal R_\theta(\tanh(W_2 \tanh(W_1 \hat y + b_1) + b_2)), \quad \hat y = y / \|A\|

    with real and imaginary parts of all data as one vector, n numbers, and as many hidden numbers as the image has, m. W_1 and W_2 hold m n and m^2
    weights; with a `rank` :math:`W_1 = U V` holds rank (m + n). Nothing but the weights knows where a sample belongs: what training did not show, an
    image moved by a pixel, say, is met with no symmetry.

    Args:
      refine: network R, `[h, w, c] -> [h, w, c]`: `init(key, h)` and `apply(params, h)`.
      rank: of the first layer; None for a full one.

    Returns:
      A `Reconstruction`; images beyond +-1 want a network R that scales them.

    Raises:
      ValueError: for a rank below 1 or above that of a full layer, or, in `apply`, data or images of another size than it has learned.

    Reference:
      Zhu et al. (2018), AUTOMAP, methods, https://doi.org/10.1038/nature25988, where R is two convolutions of 64 features, 5 x 5, and a
      transposed one, 7 x 7, with an L1 penalty on the last features; the rank is ours, and there is no such penalty.
    """
    if rank is not None:
        checks.count(rank, "rank of automap")

    def init(key, A, y):
        h = channels(jnp.zeros_like(A.adjoint(y)))[0]
        num_data, num_pixels = linalg.flat(y).size, h.size
        if rank is not None and rank > min(num_data, num_pixels):
            raise ValueError(f"rank of automap is {rank}, at most {min(num_data, num_pixels)} is needed")
        sizes = (num_data, num_pixels, num_pixels) if rank is None else (num_data, rank, num_pixels, num_pixels)
        keys = jax.random.split(key, len(sizes))
        layers = zip(keys, sizes[:-1], sizes[1:], strict=False)
        matrices = [jax.random.normal(key, (rows, columns), h.dtype) / math.sqrt(rows) for key, rows, columns in layers]
        shifts = {name: jnp.zeros(num_pixels, h.dtype) for name in ("first", "second")}
        first = {f"factor_{i}": matrix for i, matrix in enumerate(matrices[:-1])}
        return {"first": first, "second": matrices[-1], "shifts": shifts, "refine": refine.init(keys[-1], h)}

    def apply(params, A, y, sigma_y):
        like, first, shifts = jax.eval_shape(A.adjoint, y), params["first"], params["shifts"]
        h, to_image = channels(jnp.zeros(like.shape, like.dtype))
        learned, wanted = (len(first["factor_0"]), len(params["second"])), (linalg.flat(y).size, h.size)
        if learned != wanted:
            raise ValueError("automap learned {} numbers of data and {} of an image, this geometry has {} and {}".format(*learned, *wanted))
        seen = linalg.flat(y / jax.lax.stop_gradient(lanczos.operator_norm(A, like, num_steps=8)))
        for i in range(len(first)):
            seen = seen @ first[f"factor_{i}"]
        hidden = jnp.tanh(jnp.tanh(seen + shifts["first"]) @ params["second"] + shifts["second"])
        return to_image(refine.apply(params["refine"], hidden.reshape(h.shape))), {}

    return Reconstruction(init, apply)
