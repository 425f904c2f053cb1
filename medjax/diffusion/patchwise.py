"""Priors trained on patches that are told where they lie.

A denoiser of patches takes `(x, sigma, where=None)`, where `[*patch, n]` holds the position of each pixel along the n axes of the whole image, from
-1 to 1; None means that x is the whole image. From a network that has channels for them, with the preconditioning of EDM:

    network = with_positions(lambda h, noise: module.apply(params, h, noise))
    def denoise(x, sigma, where=None):
        return edm(lambda h, noise: network(h, noise, where), sigma_data)(x, sigma)

To train it, the denoising losses take batches `(patches, positions)` of `random_patch`. PatchDDM then gives the whole image to the same network, a
convolutional one without attention: `denoise` is its own `Denoiser`. Where memory is short for that, or the network takes one size only,
`patchwise` goes through overlapping patches.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from medjax.typing import Denoiser


def positions(size: Sequence[int], shape: Sequence[int] | None = None, corner=None, dtype=float):
    r"""Where the pixels of a box lie in the image.

    .. math:: p_{i, a} = \frac{2 (c_a + i_a)}{N_a - 1} - 1

    Args:
      size: of the box, n axes.
      shape: N of the image, by default that of the box.
      corner: `[n]` c, indices of the box's first pixel, by default 0; may be traced.
      dtype: of the result.

    Returns:
      `[*size, n]` in [-1, 1].

    Reference:
      Bieder et al. (2023), PatchDDM, by the authors' code, https://arxiv.org/abs/2303.15288
    """
    shape, corner = size if shape is None else shape, np.zeros(len(size), int) if corner is None else corner
    lines = [2 * (corner[a] + jnp.arange(n)).astype(dtype) / max(shape[a] - 1, 1) - 1 for a, n in enumerate(size)]
    return jnp.stack(jnp.meshgrid(*lines, indexing="ij"), -1)


def with_positions(network: Callable, num_axes: int = 2) -> Callable:
    """A network that sees positions beside the image.

    Args:
      network: `(h, noise) -> array like h` with channels last, h `[*size, c + num_axes]`, of which the first c channels are taken.
      num_axes: axes of the image before its channels.

    Returns:
      `(x, noise, where=None) -> array like x`, x `[*size]`, which is c = 1, or `[*size, c]`; `where` as in `positions`, None for a whole image.

    Reference:
      Bieder et al. (2023), PatchDDM, https://arxiv.org/abs/2303.15288
    """

    def located(x, noise, where=None):
        where = positions(x.shape[:num_axes], dtype=x.dtype) if where is None else where.astype(x.dtype)
        if x.ndim == num_axes:
            return network(jnp.concatenate([x[..., None], where], -1), noise)[..., 0]
        return network(jnp.concatenate([x, where], -1), noise)[..., : x.shape[-1]]

    return located


def random_patch(key, image, patch: Sequence[int]):
    """A patch to train on, each place in the image as likely as any other.

    Args:
      key: typed key.
      image: `[*shape]` or `[*shape, c]`.
      patch: its size along the first axes.

    Returns:
      `(patch, positions)`, `[*patch]` or `[*patch, c]`, and `[*patch, n]`.

    Raises:
      ValueError: for a patch that does not fit into the image.

    Reference:
      Bieder et al. (2023), PatchDDM, https://arxiv.org/abs/2303.15288, whose code prefers patches of the middle.
    """
    shape = _checked(image.shape, tuple(patch))
    corner = jax.random.randint(key, (len(patch),), 0, jnp.array([n - p + 1 for n, p in zip(shape, patch, strict=True)]))
    return _cut(image, corner, patch), positions(patch, shape, corner, image.dtype)


def patchwise(denoise_patch: Callable, patch: Sequence[int], stride: Sequence[int] | None = None) -> Denoiser:
    r"""Denoiser of an image or volume of any size from one of patches, blended where they overlap.

    .. math:: D(x, \sigma) = \sum_j w_j \, D_p(x_j, \sigma, p_j), \quad \textstyle\sum_j w_j = 1

    with a weight that falls linearly from the middle of a patch to its border. Exact for a prior whose patches are independent of what lies around
    them. Patches go one after another, and for a derivative compute their intermediate results anew: memory is that of one patch and a few images.

    Args:
      denoise_patch: `(x, sigma, where) -> array like x`, of patches `[*patch]` or `[*patch, c]`.
      patch: size along the first axes of the image.
      stride: distance of patches, at most their size; half of it by default. The last ones end with the image.

    Returns:
      A `Denoiser`.

    Raises:
      ValueError: for strides that leave gaps, or an image smaller than a patch.

    Reference:
      Overlapping patches for `denoise_patch` as in PatchDDM, Bieder et al. (2023), https://arxiv.org/abs/2303.15288; blending is not theirs.
    """
    patch = tuple(patch)
    stride = tuple(max(1, p // 2) for p in patch) if stride is None else tuple(stride)
    if len(stride) != len(patch) or any(not 0 < s <= p for s, p in zip(stride, patch, strict=True)):
        raise ValueError(f"patchwise needs a stride from 1 to the patch on each axis, got {list(stride)} for {list(patch)}")

    def denoise(x, sigma):
        shape = _checked(x.shape, patch)
        starts, weights = zip(*(_cover(*sizes) for sizes in zip(shape, patch, stride, strict=True)), strict=True)
        one = jax.checkpoint(denoise_patch, prevent_cse=False)

        def add(total, index):
            corner = jnp.stack([jnp.asarray(start)[i] for start, i in zip(starts, index, strict=True)])
            new = one(_cut(x, corner, patch), sigma, positions(patch, shape, corner, x.dtype))
            for a, i in enumerate(index):
                line = jnp.asarray(weights[a], x.dtype)[i]
                new = new * jnp.expand_dims(line, [b for b in range(x.ndim) if b != a])
            place = (*corner, *[0] * (x.ndim - len(patch)))
            return lax.dynamic_update_slice(total, _cut(total, corner, patch) + new, place), None

        indices = np.indices([len(start) for start in starts]).reshape(len(patch), -1)
        return lax.scan(add, jnp.zeros_like(x), tuple(jnp.asarray(index) for index in indices))[0]

    return denoise


def _cover(size, patch, stride):
    """Starts `[k]` of patches that cover an axis, and their weights `[k, patch]`, which add up to 1 at every pixel."""
    starts = np.append(np.arange(0, size - patch, stride), size - patch)
    window, total = np.minimum(np.arange(1, patch + 1), np.arange(patch, 0, -1)).astype(float), np.zeros(size)
    for start in starts:
        total[start : start + patch] += window
    return starts, np.stack([window / total[start : start + patch] for start in starts])


def _cut(x, corner, patch):
    rest = x.shape[len(patch) :]
    return lax.dynamic_slice(x, (*corner, *[0] * len(rest)), (*patch, *rest))


def _checked(shape, patch):
    """The axes of an image that patches cut."""
    if len(shape) < len(patch) or any(p > n for p, n in zip(patch, shape, strict=False)):
        raise ValueError(f"a patch {list(patch)} does not fit into an image {list(shape)}")
    return shape[: len(patch)]
