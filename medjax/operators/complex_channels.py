"""Complex images as two real channels."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ComplexChannels:
    """z = x_0 + i x_1; no leaves."""

    def __call__(self, x):
        """Real `[..., 2]` to complex `[...]`."""
        if x.shape[-1:] != (2,) or jnp.iscomplexobj(x):
            raise ValueError(f"complex_channels takes real [..., 2], got shape {list(x.shape)} of {x.dtype}")
        return lax.complex(x[..., 0], x[..., 1])

    def adjoint(self, z):
        """Complex `[...]` to real `[..., 2]`; also the inverse."""
        return jnp.stack([jnp.real(z), jnp.imag(z)], -1)


def complex_channels():
    r"""The isometry from two real channels, as networks see an image, to the complex image that a coil sees.

    .. math:: (C x)_n = x_{n,0} + i \, x_{n,1}, \quad C^H z = (\mathrm{Re}\, z, \mathrm{Im}\, z)

    It is linear over the reals and adjoint in the real inner product :math:`\mathrm{Re} \langle a, b \rangle`, `linalg.vdot`.

    Returns:
      An operator from real `[h, w, 2]` to complex `[h, w]`.
    """
    return ComplexChannels()
