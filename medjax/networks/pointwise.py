"""Maps of each pixel by itself, written so that the gradient neither keeps nor computes again what it need not."""

import jax
import jax.numpy as jnp
from flax import linen as nn


class Dense(nn.Dense):
    """`flax.linen.Dense` whose cotangent is computed once.

    Of a cotangent that is the sum of several terms, as those of residual blocks are, XLA on CPU computes the terms again for each of its uses, and
    column by column for the gradient of the kernel.
    """

    def __call__(self, inputs):
        """inputs `[..., c]`."""
        return jax.lax.optimization_barrier(super().__call__(inputs))


@jax.custom_jvp
def silu(x):
    """`x sigmoid(x)`; for the derivative only x is kept, and the sigmoid is computed again.

    Autodiff's keeps both, and on CPU memory is mapped anew in every step of training.
    """
    return jax.nn.silu(x)


@silu.defjvp
def _silu_jvp(primals, tangents):
    """The sigmoid in another form than that of the value: in the same the compiler would share it, and so keep it."""
    (x,), (x_dot,) = primals, tangents
    sigmoid = 0.5 + 0.5 * jnp.tanh(0.5 * x)
    return silu(x), x_dot * (sigmoid * (1 + x * (1 - sigmoid)))
