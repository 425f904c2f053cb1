"""The prior of a volume that knows its slices only."""

import jax
import jax.numpy as jnp
from jax import lax

from medjax import checks
from medjax.typing import Denoiser


def slicewise(denoise: Denoiser, axis: int = 0, at_once: int = 1) -> Denoiser:
    r"""Denoiser of a volume from one of slices.

    .. math:: D(x, \sigma)_k = D_2(x_k, \sigma), \quad x = (x_1, \ldots, x_d)

    It is the exact one of volumes whose slices are independent draws of the prior of `denoise`: what neighbours tell of each other has to come from
    elsewhere, see `diffusion_mbir`, `dds_volume` and `tpdm`. Slices go through one after another, and each computes its own intermediate results anew
    for a derivative, so that memory does not grow by more than the volume with their number.

    Args:
      denoise: a `Denoiser` of slices `[h, w]` or `[h, w, c]`.
      axis: along which the slices lie; the others keep their order.
      at_once: slices in one batch; 1 is best on a CPU, what the memory holds on an accelerator.

    Returns:
      A `Denoiser` of volumes `[d, h, w]` or `[d, h, w, c]`. A vector-Jacobian product costs one more pass of `denoise`.

    Raises:
      ValueError: for at_once below 1, or a volume without this axis.

    Reference:
      Chung, Ryu, McCann, Klasky & Ye (2023), DiffusionMBIR, https://arxiv.org/abs/2211.10655
    """
    checks.positive(at_once, "at_once of slicewise")

    def whole(x, sigma):
        slices = jnp.moveaxis(x, axis, 0)
        one = jax.checkpoint(lambda image: denoise(image, sigma), prevent_cse=False)
        denoised = lax.map(one, slices, batch_size=min(at_once, len(slices)) if at_once > 1 else None)
        return jnp.moveaxis(denoised, 0, axis)

    return whole
