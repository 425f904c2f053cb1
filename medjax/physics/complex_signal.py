"""Complex images as two real channels."""

import jax.numpy as jnp

from medjax.typing import Units


def complex_signal() -> Units:
    """Units of complex MR images `[h, w]`: networks see real and imaginary part as `[h, w, 2]`, viewers the magnitude."""

    def encode(image):
        return jnp.stack([jnp.real(image), jnp.imag(image)], -1)

    def decode(x):
        return x[..., 0] + 1j * x[..., 1]

    return Units(encode, decode, jnp.abs, "a.u.")
