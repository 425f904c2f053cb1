"""Transformer that predicts an image from a noisy image and its noise level."""

import math

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from medjax import checks
from medjax.networks.inputs import class_of, folded, unfolded

_FREQUENCIES = 256


def dit(
    channels: int = 1,
    patch: int = 8,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    num_classes: int = 0,
    remat: bool = False,
) -> nn.Module:
    r"""The diffusion transformer with blocks of kind adaLN-Zero, on one image.

    Each patch of the image is a token, which gets its place as sines and cosines. With LN a layer normalisation without parameters, c the sum of the
    embeddings of noise level and class, and shifts, scales and gates a linear map of SiLU(c) that is 0 at first, a block is

    .. math::
        h \leftarrow h + g_1 \operatorname{attention}((1 + s_1) \operatorname{LN}(h) + b_1), \quad
        h \leftarrow h + g_2 \operatorname{mlp}((1 + s_2) \operatorname{LN}(h) + b_2)

    Args:
      channels: image channels c; 1 means images `[h, w]` without a channel axis.
      patch: side of a patch; h and w must be divisible by it. Work grows with the number of patches, in attention with its square.
      width: features of a token, a multiple of 4 and of `heads`.
      depth: blocks.
      heads: of attention.
      num_classes: classes that a label may name; 0 for a network without.
      remat: keep what enters a block for the gradient, and compute the rest of it again (gradient checkpointing); weights are the same.

    Returns:
      A module with `apply(params, x, noise, label=None)`, x `[h, w]` or `[h, w, c]`, noise the scalar ln(sigma) / 4, label an int32 scalar, -1 or
      None for no class, which has an embedding of its own; output of the shape of x, zero at initialisation.

    Raises:
      ValueError: for counts below 1, a width that 4 and `heads` do not divide, an image that patches do not divide, another number of channels, a
        label without classes.

    Reference:
      Peebles & Xie (2023), Scalable diffusion models with transformers, section 3, https://arxiv.org/abs/2212.09748, after its code models.py; width
      768, depth 12 and 12 heads are its DiT-B. It works on latents and predicts a variance, too; here on pixels, and without. Its times run from 0
      to 1000, ours are 1000 times the noise level.
    """
    for name, value in {"channels": channels, "patch": patch, "width": width, "depth": depth, "heads": heads}.items():
        checks.count(value, f"{name} of dit")
    checks.count(num_classes, "num_classes of dit", 0)
    if width % 4 or width % heads:
        raise ValueError(f"dit needs a width that is a multiple of 4 and of heads, got width {width} and {heads} heads")
    return DiT(channels, patch, width, depth, heads, num_classes, remat)


class DiT(nn.Module):
    """Module of `dit`, with its arguments as fields."""

    channels: int
    patch: int
    width: int
    depth: int
    heads: int
    num_classes: int = 0
    remat: bool = False

    @nn.compact
    def __call__(self, x, noise, label=None):
        """x `[h, w]` or `[h, w, c]`, noise scalar, label int32 scalar or None."""
        h, label = folded(x, self.channels, self.patch, self.patch), class_of(label, self.num_classes)
        rows, columns, _ = h.shape
        h = _dense(self.width, "patches")(rearrange(h, "h w c -> (h w) c")) + positions(rows, columns, self.width).astype(h.dtype)
        c = _dense(self.width, "noise_0", nn.initializers.normal(0.02))(frequencies(noise))
        c = _dense(self.width, "noise_1", nn.initializers.normal(0.02))(nn.silu(c))
        if self.num_classes:
            table = self.param("classes", nn.initializers.normal(0.02), (self.num_classes + 1, self.width))
            c = c + table[jnp.where(label < 0, self.num_classes, label)]
        kind = nn.remat(Block) if self.remat else Block
        for i in range(self.depth):
            h = kind(self.heads, name=f"Block_{i}")(h, c)
        shift, scale = jnp.split(_modulation(2 * self.width)(nn.silu(c)).astype(h.dtype)[None], 2, -1)
        h = _dense(self.patch**2 * self.channels, "head", nn.initializers.zeros)(layer_norm(h) * (1 + scale) + shift)
        return unfolded(rearrange(h, "(h w) c -> h w c", h=rows), self.patch, x.shape)


class Block(nn.Module):
    """Attention and a network of two layers, both with shift, scale and gate of the condition."""

    heads: int

    @nn.compact
    def __call__(self, h, c):
        """h `[tokens, width]`, c `[width]`."""
        width = h.shape[-1]
        parts = _modulation(6 * width)(nn.silu(c)).astype(h.dtype)[None]
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = jnp.split(parts, 6, -1)
        qkv = _dense(3 * width, "qkv")(layer_norm(h) * (1 + scale_1) + shift_1)
        q, k, v = rearrange(qkv, "t (three n d) -> three t n d", three=3, n=self.heads)
        out = nn.dot_product_attention(q, k, v, force_fp32_for_softmax=q.dtype == jnp.bfloat16).astype(h.dtype)
        h = h + gate_1 * _dense(width, "projection")(rearrange(out, "t n d -> t (n d)"))
        y = nn.gelu(_dense(4 * width, "mlp_0")(layer_norm(h) * (1 + scale_2) + shift_2), approximate=True)
        return h + gate_2 * _dense(width, "mlp_1")(y)


def positions(rows: int, columns: int, width: int):
    r"""Places of tokens, `[rows * columns, width]`: sines and cosines of the column, then of the row.

    .. math:: [\sin(\omega_i x), \cos(\omega_i x), \sin(\omega_i y), \cos(\omega_i y)], \quad \omega_i = 10000^{-4 i / width}, \; i < width / 4
    """
    omega = 10000.0 ** (-jnp.arange(width // 4) / (width // 4))

    def along(count):
        angles = jnp.arange(count)[:, None] * omega[None]
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)

    shape = (rows, columns, width // 2)
    x, y = jnp.broadcast_to(along(columns)[None], shape), jnp.broadcast_to(along(rows)[:, None], shape)
    return jnp.concatenate([x, y], -1).reshape(rows * columns, width)


def frequencies(noise):
    """Scalar -> `[256]`, cosines and sines of `1000 noise` with periods from 2 pi to nearly 20000 pi."""
    half = _FREQUENCIES // 2
    angles = 1000 * noise * jnp.exp(-math.log(10000) * jnp.arange(half) / half).astype(noise.dtype)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])


def layer_norm(h):
    """h `[..., c]` with mean 0 and variance 1 over c, computed in single precision at least."""
    exact = h.astype(jnp.promote_types(h.dtype, jnp.float32))
    centred = exact - jnp.mean(exact, -1, keepdims=True)
    return (centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-6)).astype(h.dtype)


def _dense(features, name, kernel_init=None):
    return nn.Dense(features, kernel_init=kernel_init or nn.initializers.xavier_uniform(), name=name)


def _modulation(features):
    return _dense(features, "modulation", nn.initializers.zeros)
