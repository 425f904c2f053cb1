"""U-Net that predicts an image from a noisy image and its noise level."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from jax.typing import ArrayLike

from medjax.networks.conv3x3 import Conv3x3
from medjax.networks.inputs import class_of, folded, unfolded
from medjax.networks.pointwise import Dense, silu


def unet(
    channels: int = 1,
    width: int = 32,
    multipliers: Sequence[int] = (1, 2, 4),
    num_blocks: int = 1,
    attention_levels: Sequence[int] = (2,),
    patch: int = 2,
    remat: bool = False,
    num_classes: int = 0,
) -> nn.Module:
    """The U-Net of score-based models, on one image.

    The image is first folded into patches (space to depth), so the first level works at `1/patch` of the resolution;
    each further level halves it. Residual blocks take the noise level by adaptive group normalisation.

    Args:
      channels: image channels c; 1 means images `[h, w]` without a channel axis.
      width: features at the first level.
      multipliers: features at level i are `width * multipliers[i]`.
      num_blocks: residual blocks a level on the way down; the way up has one more.
      attention_levels: levels with self-attention after each block.
      patch: side of the folded patches; h and w must be divisible by `patch * 2 ** (len(multipliers) - 1)`.
      remat: keep what enters a block for the gradient, and compute the rest of it again (gradient checkpointing); weights are the same.
      num_classes: that the network can be told; a learned vector of each, and of none of them, is added to that of the noise level.

    Returns:
      A module with `apply(params, x, noise)`, x `[h, w]` or `[h, w, c]`, noise a scalar; output of the shape of x, zero at initialisation.
      With classes also `apply(params, x, noise, label)`, label an integer scalar from 0; -1, or none given, is for any class.

    Raises:
      ValueError: for a width that is not a multiple of 8, an image that the levels do not divide, or another number of channels;
        for a label where there are no classes.

    Reference:
      Ho et al. (2020), appendix B; adaptive group normalisation and zero initialisation by Dhariwal & Nichol (2021), section 3;
      Fourier features by Song et al. (2021); patches by Hoogeboom et al. (2023).
    """
    if width < 8 or width % 8 or any(multiplier < 1 for multiplier in multipliers):
        raise ValueError(f"unet needs a width that is a multiple of 8 and multipliers of at least 1, got {width} and {tuple(multipliers)}")
    return UNet(channels, width, tuple(multipliers), num_blocks, tuple(attention_levels), patch, remat, num_classes)


class UNet(nn.Module):
    """Module of `unet`, with its arguments as fields."""

    channels: int
    width: int
    multipliers: tuple[int, ...]
    num_blocks: int
    attention_levels: tuple[int, ...]
    patch: int
    remat: bool = False
    num_classes: int = 0

    @nn.compact
    def __call__(self, x, noise, label=None):
        """x `[h, w]` or `[h, w, c]`, noise scalar, label scalar from -1."""
        h = folded(x, self.channels, self.patch, self.patch * 2 ** (len(self.multipliers) - 1))
        label = class_of(label, self.num_classes)
        kind, count = nn.remat(ResidualBlock) if self.remat else ResidualBlock, itertools.count()

        def block(features, attend):
            return kind(features, attend, name=f"ResidualBlock_{next(count)}")

        embedding = NoiseEmbedding(4 * self.width)(noise)
        if self.num_classes:
            embedding = embedding + ClassEmbedding(self.num_classes, 4 * self.width)(label).astype(embedding.dtype)
        h = Conv3x3(self.width, name="stem")(h)
        skips = [h]
        for level, multiplier in enumerate(self.multipliers):
            features, attend = self.width * multiplier, level in self.attention_levels
            for _ in range(self.num_blocks):
                h = block(features, attend)(h, embedding)
                skips.append(h)
            if level < len(self.multipliers) - 1:
                h = rearrange(h, "(h p) (w q) c -> h w (p q c)", p=2, q=2)
                h = Dense(self.width * self.multipliers[level + 1])(h)
                skips.append(h)
        h = block(h.shape[-1], True)(h, embedding)
        for level, multiplier in reversed(list(enumerate(self.multipliers))):
            for _ in range(self.num_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], -1)
                h = block(self.width * multiplier, level in self.attention_levels)(h, embedding)
            if level > 0:
                h = Dense(4 * self.width * self.multipliers[level - 1])(h)
                h = rearrange(h, "h w (p q c) -> (h p) (w q) c", p=2, q=2)
        h = silu(GroupNorm()(h))
        h = Conv3x3(self.patch**2 * self.channels, nn.initializers.zeros, name="head")(h)
        return unfolded(h, self.patch, x.shape)


class NoiseEmbedding(nn.Module):
    """Scalar noise label -> `[features]`, by Fourier features and two dense layers."""

    features: int

    @nn.compact
    def __call__(self, noise):
        """noise: scalar of order one."""
        frequencies = jnp.exp(jnp.linspace(0.0, jnp.log(32.0), 16)).astype(noise.dtype)
        angles = 2 * jnp.pi * frequencies * noise / 4
        h = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])
        h = silu(Dense(self.features)(h))
        return silu(Dense(self.features)(h))


class ClassEmbedding(nn.Module):
    """Class from 0 -> `[features]`; -1 is a row of its own, for any class."""

    num_classes: int
    features: int

    @nn.compact
    def __call__(self, label):
        """label: integer scalar from -1."""
        table = self.param("table", nn.initializers.normal(0.02), (self.num_classes + 1, self.features))
        return table[label + 1]


class GroupNorm(nn.Module):
    """Group normalisation of one image `[h, w, c]`, with a learned scale and shift by channel, then by given ones.

    All of it is one factor and one offset a channel: one pass over the image, and two sums for the gradient.
    """

    group_size: int = 8

    @nn.compact
    def __call__(self, h, factor: ArrayLike = 1.0, offset: ArrayLike = 0.0):
        """h `[h, w, c]`; factor and offset `[c]` or scalars."""
        features = h.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (features,))
        shift = self.param("shift", nn.initializers.zeros, (features,))
        exact = h.astype(jnp.promote_types(h.dtype, jnp.float32))
        mean, square = jnp.mean(exact, (0, 1)), jnp.mean(exact * exact, (0, 1))
        groups = features // self.group_size
        mean = jnp.repeat(mean.reshape(groups, -1).mean(1), self.group_size)
        square = jnp.repeat(square.reshape(groups, -1).mean(1), self.group_size)
        gain = jax.lax.rsqrt(jnp.maximum(square - mean**2, 0) + 1e-5) * scale * factor
        return (exact * gain[None, None] + (shift.astype(gain.dtype) * factor + offset - mean * gain)[None, None]).astype(h.dtype)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with adaptive group normalisation, then optional self-attention."""

    features: int
    attend: bool

    @nn.compact
    def __call__(self, h, embedding):
        """h `[h, w, c]`, embedding `[e]`."""
        skip = h if h.shape[-1] == self.features else Dense(self.features, use_bias=False)(h)
        scale, shift = jnp.split(Dense(2 * self.features, kernel_init=nn.initializers.zeros)(embedding), 2)
        h = Conv3x3(self.features)(silu(GroupNorm()(h)))
        h = silu(GroupNorm()(h, 1 + scale, shift))
        h = skip + Conv3x3(self.features, nn.initializers.zeros)(h)
        return SelfAttention()(h) if self.attend else h


class SelfAttention(nn.Module):
    """Residual multi-head self-attention over the pixels."""

    head_features: int = 32

    @nn.compact
    def __call__(self, h):
        """h `[h, w, c]`."""
        height, width, features = h.shape
        heads = max((n for n in range(1, features // self.head_features + 1) if features % n == 0), default=1)
        qkv = Dense(3 * features, use_bias=False)(GroupNorm()(h))
        q, k, v = rearrange(qkv, "h w (three n d) -> three (h w) n d", three=3, n=heads)
        out = nn.dot_product_attention(q, k, v, force_fp32_for_softmax=q.dtype == jnp.bfloat16)
        out = rearrange(out.astype(h.dtype), "(h w) n d -> h w (n d)", h=height, w=width)
        return h + Dense(features, kernel_init=nn.initializers.zeros)(out)
