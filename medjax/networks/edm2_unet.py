"""U-Net whose layers neither raise nor lower the magnitude of what passes through them."""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from einops import reduce, repeat
from flax import linen as nn
from scipy.special import ndtri

from medjax import checks
from medjax.linalg import unit_magnitude
from medjax.networks.conv3x3 import conv3x3
from medjax.networks.inputs import class_of, folded, unfolded

_RESIDUAL, _ATTENTION, _LABEL, _JOINED, _LARGEST, _HEAD = 0.3, 0.3, 0.5, 0.5, 256.0, 64
"""Shares of a residual branch, of attention, of the class and of what was seen before; largest activation; features of a head."""


def edm2_unet(
    channels: int = 1,
    width: int = 128,
    multipliers: Sequence[int] = (1, 2, 3, 4),
    num_blocks: int = 3,
    attention_levels: Sequence[int] = (2, 3),
    patch: int = 1,
    num_classes: int = 0,
    remat: bool = False,
) -> nn.Module:
    r"""The magnitude-preserving U-Net of EDM2, on one image.

    No layer has a bias, a normalisation by groups or a learned scale. A weight of N inputs acts as

    .. math:: y = \frac{w}{\lVert w \rVert} x \quad \text{for each feature, so that } \operatorname{E} y^2 = \operatorname{E} x^2

    for inputs that are not correlated. SiLU, sums and concatenations are scaled to keep unit variance, the encoder divides each pixel by its
    magnitude, and attention compares directions. Learned gains, all 0 at first, say how much a block heeds the noise level, and how large the
    output is. A channel of ones takes the place of biases. Weights are named `mp_weight`, and are `[..., features]` with magnitude 1:
    `training/forced_normalisation.py` keeps them there.

    Args:
      channels: image channels c; 1 means images `[h, w]` without a channel axis.
      width: features at the first level.
      multipliers: features at level i are `width * multipliers[i]`; each level halves the resolution of the one before.
      num_blocks: residual blocks a level on the way down; the way up has one more.
      attention_levels: levels with self-attention after each block.
      patch: side of the patches into which the image is folded first; h and w must be divisible by `patch * 2 ** (len(multipliers) - 1)`.
      num_classes: classes that a label may name; 0 for a network without.
      remat: keep what enters a block for the gradient, and compute the rest of it again (gradient checkpointing); weights are the same.

    Returns:
      A module with `apply(params, x, noise, label=None)`, x `[h, w]` or `[h, w, c]` of unit variance, noise the scalar ln(sigma) / 4, label an int32
      scalar, -1 or None for no class; output of the shape of x, zero at initialisation.

    Raises:
      ValueError: for counts below 1, an image that the levels do not divide, another number of channels, a label without classes.

    Reference:
      Karras et al. (2024), Analyzing and improving the training dynamics of diffusion models, configuration G, https://arxiv.org/abs/2312.02696,
      after its code networks_edm2.py, whose equation numbers are given here. The defaults are its size XS. We fold patches, as our images are pixels
      and not latents; the frequencies of the noise level are quantiles of the normal law and not draws; there is no dropout, and no learned
      uncertainty of the loss. Weights below a magnitude of 1e-4 are kept from division by 0 there by adding that, here by a maximum.
    """
    counts = {"channels": channels, "width": width, "num_blocks": num_blocks, "patch": patch, "multipliers": min(multipliers, default=0)}
    for name, value in counts.items():
        checks.count(value, f"{name} of edm2_unet")
    checks.count(num_classes, "num_classes of edm2_unet", 0)
    return EDM2UNet(channels, width, tuple(multipliers), num_blocks, tuple(attention_levels), patch, num_classes, remat)


class EDM2UNet(nn.Module):
    """Module of `edm2_unet`, with its arguments as fields."""

    channels: int
    width: int
    multipliers: tuple[int, ...]
    num_blocks: int
    attention_levels: tuple[int, ...]
    patch: int
    num_classes: int = 0
    remat: bool = False

    @nn.compact
    def __call__(self, x, noise, label=None):
        """x `[h, w]` or `[h, w, c]`, noise scalar, label int32 scalar or None."""
        last = len(self.multipliers) - 1
        h = folded(x, self.channels, self.patch, self.patch * 2**last)
        kind, count = nn.remat(Block) if self.remat else Block, itertools.count()

        def block(h, features, encoder, attend=False, scale="keep"):
            return kind(features, encoder, attend, scale, name=f"Block_{next(count)}")(h, embedding)

        embedding = Embedding(self.width, self.width * max(self.multipliers), self.num_classes)(noise, label)
        h = jnp.concatenate([h, jnp.ones_like(h[..., :1])], -1)
        h = Convolution(self.width, name="stem")(h)
        skips = [h]
        for level, multiplier in enumerate(self.multipliers):
            if level:
                h = block(h, h.shape[-1], True, scale="down")
                skips.append(h)
            for _ in range(self.num_blocks):
                h = block(h, self.width * multiplier, True, level in self.attention_levels)
                skips.append(h)
        h = block(block(h, h.shape[-1], False, True), h.shape[-1], False)
        for level, multiplier in reversed(list(enumerate(self.multipliers))):
            if level < last:
                h = block(h, h.shape[-1], False, scale="up")
            for _ in range(self.num_blocks + 1):
                h = block(mp_concatenate(h, skips.pop(), _JOINED), self.width * multiplier, False, level in self.attention_levels)
        gain = self.param("gain", nn.initializers.zeros, ())
        h = Convolution(self.patch**2 * self.channels, name="head")(h) * gain.astype(h.dtype)
        return unfolded(h, self.patch, x.shape)


def mp_silu(x):
    """SiLU over the magnitude that it gives to normal numbers (equation 81)."""
    return nn.silu(x) / 0.596


def mp_sum(a, b, share):
    """`(1 - share) a + share b` with the magnitude that a and b have, if they are not correlated (equation 88)."""
    return ((1 - share) * a + share * b) / math.hypot(1 - share, share)


def mp_concatenate(a, b, share):
    """`[..., m]` and `[..., n]` -> `[..., m + n]` of the same magnitude, to which b contributes as `share` is to `1 - share` (equation 103)."""
    m, n = a.shape[-1], b.shape[-1]
    size = math.sqrt(m + n) / math.hypot(1 - share, share)
    return jnp.concatenate([a * (size * (1 - share) / math.sqrt(m)), b * (size * share / math.sqrt(n))], -1)


def fourier(noise, features: int):
    """Scalar -> `[features]` of magnitude 1, cosines with frequencies of the standard normal law (equation 75)."""
    index = np.arange(features)
    turns = jnp.asarray(ndtri((index + 0.5) / features), noise.dtype) * noise + jnp.asarray(index * (math.sqrt(5) - 1) / 2 % 1, noise.dtype)
    return math.sqrt(2) * jnp.cos(2 * jnp.pi * turns)


class Embedding(nn.Module):
    """Noise level and class -> `[features]`."""

    frequencies: int
    features: int
    num_classes: int

    @nn.compact
    def __call__(self, noise, label):
        """noise scalar, label int32 scalar or None."""
        h, label = Product(self.features, name="noise")(fourier(noise, self.frequencies)), class_of(label, self.num_classes)
        if self.num_classes:
            known = math.sqrt(self.num_classes) * jax.nn.one_hot(label, self.num_classes, dtype=h.dtype)  # zeros for -1
            h = mp_sum(h, Product(self.features, name="label")(known), _LABEL)
        return mp_silu(h)


class Block(nn.Module):
    """Residual block with optional self-attention, of the encoder or of the decoder; `scale` is keep, down or up by 2."""

    features: int
    encoder: bool
    attend: bool
    scale: str

    @nn.compact
    def __call__(self, h, embedding):
        """h `[h, w, c]`, embedding `[e]`."""
        if self.scale == "down":
            h = reduce(h, "(h p) (w q) c -> h w c", "mean", p=2, q=2)
        elif self.scale == "up":
            h = repeat(h, "h w c -> (h p) (w q) c", p=2, q=2)
        if self.encoder:
            h = unit_magnitude(self.skip(h), -1)
        gain = self.param("gain", nn.initializers.zeros, ())
        modulation = 1 + gain * Product(self.features, name="embedding")(embedding)
        y = Convolution(self.features, name="first")(mp_silu(h))
        y = Convolution(self.features, name="second")(mp_silu(y * modulation.astype(y.dtype)[None, None]))
        h = mp_sum(h if self.encoder else self.skip(h), y, _RESIDUAL)
        if self.attend:
            h = mp_sum(h, CosineAttention(name="attention")(h), _ATTENTION)
        return jnp.clip(h, -_LARGEST, _LARGEST)

    def skip(self, h):
        """h with this block's features."""
        return h if h.shape[-1] == self.features else Product(self.features, name="skip")(h)


class CosineAttention(nn.Module):
    """Multi-head self-attention over the pixels, of queries, keys and values of magnitude 1."""

    @nn.compact
    def __call__(self, h):
        """h `[h, w, c]`."""
        features = h.shape[-1]
        heads = max((n for n in range(1, features // _HEAD + 1) if features % n == 0), default=1)
        qkv = Product(3 * features, name="qkv")(h).reshape(-1, 3, heads, features // heads)
        q, k, v = jnp.moveaxis(unit_magnitude(qkv, -1), 1, 0)
        out = nn.dot_product_attention(q, k, v, force_fp32_for_softmax=q.dtype == jnp.bfloat16)
        return Product(features, name="projection")(out.astype(h.dtype).reshape(h.shape))


class Product(nn.Module):
    """`[..., c] -> [..., features]`, which keeps the magnitude of inputs that are not correlated (equation 47)."""

    features: int

    @nn.compact
    def __call__(self, h):
        """h `[..., c]`."""
        return h @ _weight(self, (h.shape[-1], self.features), h.dtype)


class Convolution(nn.Module):
    """3 x 3 convolution with zero padding, which keeps the magnitude of inputs that are not correlated (equation 47)."""

    features: int

    @nn.compact
    def __call__(self, h):
        """h `[h, w, c]`."""
        return conv3x3(h, _weight(self, (3, 3, h.shape[-1], self.features), h.dtype))


def _weight(module, shape, dtype):
    """The weight `[..., features]` of a module as it acts, normalised in single precision at least."""
    weight = module.param("mp_weight", nn.initializers.normal(1.0), shape)
    exact = weight.astype(jnp.promote_types(weight.dtype, jnp.float32))
    return (unit_magnitude(exact, tuple(range(len(shape) - 1))) / math.sqrt(math.prod(shape[:-1]))).astype(dtype)
