"""3 x 3 convolution whose derivatives are written out, for they are slow as compilers make them."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from medjax.linalg import linear_with_adjoint, traced_once, zero_tied_to

_STRIP, _STRIPS, _SMALL = 4096, 16, 256
"""Pixels of a strip, the most strips of an image, and the pixels of an image that is not cut into strips."""


class Conv3x3(nn.Module):
    """3 x 3 convolution with zero padding.

    Both of its adjoints are written out. That for the image is a convolution with a kernel in the plain layout: the one that autodiff makes keeps the
    kernel transposed, and inside a loop XLA on CPU then takes no fast path (77 times slower for 32 features at 64 x 64, jax 0.10.1). That for the
    kernel is, on CPU, a sum over strips (`_by_strips`): of 32 features at 128 x 128 in batches of 5 it takes 19 ms of one core of an Intel
    Xeon, nine products of matrices, whose long side is the pixels, 46, and the convolution that autodiff makes, with a kernel of the image's size,
    125 (jax 0.10.1). Up to 16 x 16 pixels autodiff's is faster, for it takes a batch at once: 1.0 ms instead of 1.7 for 64 features at 16 x 16 in
    batches of 8, .8 instead of 1.6 for 96 at 8 x 8 (2 cores, jax 0.12).
    """

    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, h):
        """h `[h, w, c]`."""
        kernel = self.param("kernel", self.kernel_init, (3, 3, h.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return biased(conv3x3(h, kernel.astype(h.dtype)), bias.astype(h.dtype))


@traced_once
def biased(h, bias):
    """`h + bias`, `[h, w, c]` and `[c]`.

    The bias is one of each example, so that its gradient is summed over pixels before examples: the other way round devices that share a batch send
    each other whole images.
    """
    return h + per_channel(bias + zero_tied_to(lax.stop_gradient(h), bias.dtype), h.shape[:2])


def per_channel(v, shape):
    """`[c]` -> `[h, w, c]` of shape `(h, w)`, the same in every pixel.

    On CPU the adjoint is a product with ones, half the time of a sum: XLA joins that with the one over the batch, and adds both up slowly. In single
    precision it is 2e-6 off for 128 x 128 pixels of one sign and 2e-5 for 1024 x 1024; the product by rows is 1e-7 off, and a step takes 1.6 times as
    long with it (learned primal-dual, jax 0.10.1).
    """

    def product(y):
        return jnp.ones(y[..., 0].size, y.dtype) @ y.reshape(-1, y.shape[-1])

    def adjoint(y):
        return lax.platform_dependent(y, cpu=product, default=lambda y: jnp.sum(y, (0, 1)))

    return linear_with_adjoint(lambda v: jnp.broadcast_to(v, (*shape, v.shape[-1])), adjoint, v)


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
    return _convolve(h, kernel), along_image + _along_kernel(h, kernel_dot)


def _along_kernel(h, kernel):
    """`_convolve(h, kernel)` with a written adjoint for the kernel on CPU, but for small images.

    An adjoint that is written is one for each example of a batch, which accelerators would take as a convolution in groups.
    """
    if h.shape[0] * h.shape[1] <= _SMALL:
        return _convolve_plain(h, kernel)

    def written(kernel, h):
        return linear_with_adjoint(lambda d: _convolve_even(h, d), lambda y: _kernel_adjoint(h, y), kernel, h)

    return lax.platform_dependent(kernel, h, cpu=written, default=lambda kernel, h: _convolve_plain(h, kernel))


def _convolve(h, kernel):
    return lax.platform_dependent(h, kernel, cpu=_convolve_even, default=_convolve_plain)


def _convolve_even(h, kernel):
    """5 or 7 channels take XLA on CPU 3 times as long as 6 or 8 (1 and 3 do not)."""
    if h.shape[-1] % 2 and h.shape[-1] > 3:
        h, kernel = jnp.pad(h, ((0, 0), (0, 0), (0, 1))), jnp.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0)))
    return _convolve_plain(h, kernel)


def _convolve_plain(h, kernel, padding="SAME", dtype=None):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(h[None], kernel, (1, 1), padding, dimension_numbers=layout, preferred_element_type=dtype)[0]


@jax.custom_jvp
def _kernel_adjoint(h, y):
    """The kernel `[3, 3, c, features]` that `_convolve(h, .)` correlates with y."""
    return _by_strips(h, y)


@_kernel_adjoint.defjvp
def _kernel_adjoint_jvp(primals, tangents):
    """It is linear in both."""
    (h, y), (h_dot, y_dot) = primals, tangents
    return _kernel_adjoint(h, y), _by_convolution(h_dot, y) + _by_convolution(h, y_dot)


def _by_convolution(h, y):
    """`_kernel_adjoint` as autodiff makes it."""
    like = jax.ShapeDtypeStruct((3, 3, h.shape[-1], y.shape[-1]), h.dtype)
    return jax.linear_transpose(lambda k: _convolve_plain(h, k), like)(y)[0]


@jax.custom_batching.sequential_vmap
def _by_strips(h, y):
    """`_kernel_adjoint` as a convolution from strips of h to strips of y: pixels along a row are its channels, so no taps but the rows of a strip."""
    c, (rows, width, features) = h.shape[-1], y.shape
    if features < c:
        return jnp.transpose(_by_strips(y, h)[::-1, ::-1], (0, 1, 3, 2))
    height = -(-rows // min(_STRIPS, -(-rows * width // _STRIP)))
    h = jnp.pad(h, ((1, 1), (1, 1), (0, 0)))
    kernel = jnp.zeros((3, 3 * c, features), jnp.promote_types(h.dtype, jnp.float32))
    for row in range(0, rows, height):
        strip = jnp.swapaxes(h[row : row + height + 2], 1, 2)
        shifts = jnp.concatenate([strip[:, :, j : j + width] for j in range(3)], 1)
        kernel += _convolve_plain(shifts, y[row : row + height, None], "VALID", kernel.dtype)
    return kernel.reshape(3, 3, c, features).astype(h.dtype)
