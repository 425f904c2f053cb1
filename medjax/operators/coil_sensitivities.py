"""What each coil sees of an image."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from medjax.typing import Leaf


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CoilSensitivities:
    """S; leaf `maps` `[coils, *n]`."""

    maps: Leaf

    def __call__(self, x):
        """S x: complex `[*n]` to `[coils, *n]`."""
        if x.shape != self.maps.shape[1:]:
            raise ValueError(f"coil_sensitivities of maps {self.maps.shape} needs an image {self.maps.shape[1:]}, got {x.shape}")
        return self.maps.astype(x.dtype) * x[None]

    def adjoint(self, images):
        """S^H x: complex `[coils, *n]` to `[*n]`."""
        if images.shape != self.maps.shape:
            raise ValueError(f"coil_sensitivities of maps {self.maps.shape} needs as many images, got {images.shape}")
        return jnp.sum(jnp.conj(self.maps.astype(images.dtype)) * images, 0)


def coil_sensitivities(maps):
    r"""The images that coils see.

    .. math:: (S x)_c = S_c \, x, \qquad S^H z = \sum_c S_c^* \, z_c

    `compose(nufft(k, (h, w)), coil_sensitivities(maps))` is non-Cartesian SENSE; with T = `toeplitz(nufft(k, (h, w)), weights)` its normal
    operator is `S.adjoint(T(S(x)))`. `sense` has the Cartesian case in one.

    Args:
      maps: complex `[coils, h, w]` or `[coils, d, h, w]`; may be traced, vmapped and differentiated.

    Returns:
      An operator from complex `[*n]` to complex `[coils, *n]`.

    Raises:
      ValueError: when maps are not of rank 3 or 4.
    """
    maps = jnp.asarray(maps)
    if maps.ndim not in (3, 4):
        raise ValueError(f"coil_sensitivities needs maps [coils, h, w] or [coils, d, h, w], got shape {maps.shape}")
    return CoilSensitivities(maps)
