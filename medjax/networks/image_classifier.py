"""Classifier of images, and what it looks at as features."""

from collections.abc import Sequence

import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from medjax import checks
from medjax.networks.conv3x3 import Conv3x3
from medjax.networks.pointwise import Dense, silu
from medjax.networks.unet import GroupNorm


def image_classifier(num_classes: int, width: int = 32, multipliers: Sequence[int] = (1, 2, 4, 4), num_blocks: int = 1) -> nn.Module:
    """A small residual network from an image to the logits of its class.

    A convolution, then at each level residual blocks of two 3 x 3 convolutions with group normalisation and SiLU before each; between levels the
    mean over 2 x 2 pixels, an odd row or column dropped. The mean over the last level goes through a dense layer.

    Args:
      num_classes: c.
      width: features of the first level, a multiple of 8.
      multipliers: features at level i are `width * multipliers[i]`.
      num_blocks: residual blocks a level.

    Returns:
      A module with `apply(params, image)`, image `[h, w]` or `[h, w, channels]` real, -> logits `[num_classes]`, all 0 at initialisation. With
      `features=True` it is `(logits, pooled, maps)`: the features `[d]` before the dense layer and `[h', w', d]` before the mean, with d those of
      the last level and h' = floor(h / 2^(levels - 1)).

    Raises:
      ValueError: for counts below 1 or a width that is not a multiple of 8; from it, for images of another kind or too small for the levels.

    Reference:
      He et al. (2016), Identity mappings in deep residual networks, https://arxiv.org/abs/1603.05027, full pre-activation, with group normalisation,
      Wu & He (2018), https://arxiv.org/abs/1803.08494, in place of that by the batch, so that an image is seen alone.
    """
    for name, value in (("num_classes", num_classes), ("num_blocks", num_blocks), ("number of levels", len(multipliers))):
        checks.count(value, f"{name} of image_classifier")
    for multiplier in multipliers:
        checks.count(multiplier, "a multiplier of image_classifier")
    if checks.count(width, "width of image_classifier") % 8:
        raise ValueError(f"width of image_classifier is {width}, a multiple of 8 is needed")
    return ImageClassifier(num_classes, width, tuple(multipliers), num_blocks)


class ImageClassifier(nn.Module):
    """Module of `image_classifier`, with its arguments as fields."""

    num_classes: int
    width: int
    multipliers: tuple[int, ...]
    num_blocks: int

    @nn.compact
    def __call__(self, image, features: bool = False):
        """image `[h, w]` or `[h, w, channels]`."""
        least = 2 ** (len(self.multipliers) - 1)
        if image.ndim not in (2, 3) or min(image.shape[:2]) < least or jnp.iscomplexobj(image):
            found = f"got {image.dtype} {list(image.shape)}"
            raise ValueError(f"image_classifier takes real images [h, w] or [h, w, c] of at least {least} x {least} pixels, {found}")
        h = Conv3x3(self.width, name="stem")(image if image.ndim == 3 else image[..., None])
        for level, multiplier in enumerate(self.multipliers):
            if level:
                rows, columns = (side // 2 * 2 for side in h.shape[:2])
                h = rearrange(h[:rows, :columns], "(h p) (w q) c -> h w (p q) c", p=2, q=2).mean(2)
            for _ in range(self.num_blocks):
                h = Block(self.width * multiplier)(h)
        maps = silu(GroupNorm(name="norm")(h))
        pooled = jnp.mean(maps, (0, 1))
        logits = Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")(pooled)
        return (logits, pooled, maps) if features else logits


class Block(nn.Module):
    """Residual block of two 3 x 3 convolutions."""

    features: int

    @nn.compact
    def __call__(self, h):
        """h `[h, w, c]`."""
        skip = h if h.shape[-1] == self.features else Dense(self.features, use_bias=False)(h)
        h = Conv3x3(self.features)(silu(GroupNorm()(h)))
        return skip + Conv3x3(self.features)(silu(GroupNorm()(h)))
