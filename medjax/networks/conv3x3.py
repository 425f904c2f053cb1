"""3 x 3 convolution whose derivatives are written out, for they are slow as compilers make them."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from medjax.linalg import linear_with_adjoint, traced_once

_FEW = 8
"""Channels up to which one product with all nine shifts of an image beats nine products."""


class Conv3x3(nn.Module):
    """3 x 3 convolution with zero padding.

    Both of its adjoints are written out. That for the image is a convolution with a kernel in the plain layout: the one that autodiff makes keeps the
    kernel transposed, and inside a loop XLA on CPU then takes no fast path (77 times slower for 32 features at 64 x 64, jax 0.10.1). That for the
    kernel is, on CPU, nine products of matrices: the convolution that autodiff makes, with a kernel of the image's size, takes 4.5 times as
    long (32 features at 128 x 128, batches of 5, 2 cores).
    """

    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, h):
        """h `[h, w, c]`."""
        kernel = self.param("kernel", self.kernel_init, (3, 3, h.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return conv3x3(h, kernel.astype(h.dtype)) + bias.astype(h.dtype)[None, None]


@traced_once
def conv3x3(h, kernel):
    """`[h, w, c]` with `[3, 3, c, features]` -> `[h, w, features]`, zeros beyond the border."""
    return _conv3x3(h, kernel)


@jax.custom_jvp
def _conv3x3(h, kernel):
    return _convolve(h, kernel)


@_conv3x3.defjvp
def _conv3x3_jvp(primals, tangents):
    """Linear in the image and linear in the kernel, each map with its own adjoint; second derivatives are those of the plain convolution."""
    (h, kernel), (h_dot, kernel_dot) = primals, tangents

    def adjoint(y):
        return _convolve(y, jnp.swapaxes(kernel[::-1, ::-1], 2, 3))

    along_image = linear_with_adjoint(lambda d: _convolve(d, kernel), adjoint, h_dot, kernel)
    along_kernel = linear_with_adjoint(lambda d: _convolve(h, d), lambda y: _kernel_adjoint(h, y), kernel_dot, h)
    return _convolve(h, kernel), along_image + along_kernel


def _convolve(h, kernel):
    return lax.conv_general_dilated(h[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]


@jax.custom_jvp
def _kernel_adjoint(h, y):
    """The kernel `[3, 3, c, features]` that `_convolve(h, .)` correlates with y."""
    return lax.platform_dependent(h, y, cpu=_by_products, default=_by_convolution)


@_kernel_adjoint.defjvp
def _kernel_adjoint_jvp(primals, tangents):
    """It is linear in both."""
    (h, y), (h_dot, y_dot) = primals, tangents
    return _kernel_adjoint(h, y), _by_convolution(h_dot, y) + _by_convolution(h, y_dot)


def _by_convolution(h, y):
    """`_kernel_adjoint` as autodiff makes it."""
    like = jax.ShapeDtypeStruct((3, 3, h.shape[-1], y.shape[-1]), h.dtype)
    return jax.linear_transpose(lambda k: _convolve(h, k), like)(y)[0]


@jax.custom_batching.sequential_vmap
def _by_products(h, y):
    """`_kernel_adjoint` by matrices whose long side is the pixels; of an image with few channels all shifts are taken at once."""
    c, features = h.shape[-1], y.shape[-1]
    if features <= _FEW < c:
        return jnp.transpose(_by_products(y, h)[::-1, ::-1], (0, 1, 3, 2))
    padded, columns = jnp.pad(h, ((1, 1), (1, 1), (0, 0))), y.reshape(-1, features)
    shifts = [padded[i : i + h.shape[0], j : j + h.shape[1]] for i in range(3) for j in range(3)]
    if c <= _FEW:
        products = jnp.concatenate(shifts, -1).reshape(-1, 9 * c).T @ columns
    else:
        products = jnp.concatenate([shift.reshape(-1, c).T @ columns for shift in shifts])
    return products.reshape(3, 3, c, features)
