"""What a network of images is given: an image, folded into patches, and a class."""

import jax.numpy as jnp
from einops import rearrange


def folded(x, channels: int, patch: int, side: int):
    """An image as pixels of patches.

    Args:
      x: image `[h, w]` for one channel, else `[h, w, channels]`.
      channels: that the network is made for.
      patch: side of a patch.
      side: what h and w must be divisible by.

    Returns:
      `[h / patch, w / patch, patch * patch * channels]`.

    Raises:
      ValueError: for an image of another shape.
    """
    shape, want = x.shape, 2 if channels == 1 else 3
    if len(shape) != want or (want == 3 and shape[2] != channels):
        wanted = "[h, w]" if channels == 1 else f"[h, w, {channels}]"
        raise ValueError(f"the network takes images {wanted}, got {list(shape)}")
    if shape[0] % side or shape[1] % side:
        raise ValueError(f"the network takes images with sides divisible by {side}, got {list(shape)}")
    return rearrange(x if x.ndim == 3 else x[..., None], "(h p) (w q) c -> h w (p q c)", p=patch, q=patch)


def unfolded(h, patch: int, shape):
    """The image of `shape` whose patches `folded` gives as h."""
    return rearrange(h, "h w (p q c) -> (h p) (w q) c", p=patch, q=patch).reshape(shape)


def class_of(label, num_classes: int):
    """A label as an int32 scalar, -1 where there is none.

    Args:
      label: whole number from 0 to num_classes - 1; -1 or None for no class, and what is beyond the classes is taken for none, too.
      num_classes: that the network knows; 0 for a network without.

    Raises:
      ValueError: for a label of a network without classes, or what is not one whole number.
    """
    if label is None:
        return jnp.full((), -1, jnp.int32)
    if num_classes == 0:
        raise ValueError("the network has no classes, got a label; num_classes of at least 1 is needed")
    if jnp.shape(label) or not jnp.issubdtype(jnp.result_type(label), jnp.integer):
        raise ValueError(f"a label is one whole number, got {jnp.result_type(label)} of shape {list(jnp.shape(label))}")
    known = (label >= 0) & (label < num_classes)
    return jnp.where(known, label, -1).astype(jnp.int32)
