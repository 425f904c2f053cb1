"""Some channels of an image, each through an operator of its own: several contrasts of which not all were measured."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from medjax.typing import Operator


def measured_channels(operators: dict, num_channels: int) -> Operator:
    r"""The data of those channels that were measured, one array.

    .. math:: y_i = A_i \, x_{c_i}, \qquad (A^H y)_c = \sum_{i: c_i = c} A_i^H y_i

    With a prior of all channels together the measured ones tell of the others. Of complex contrasts, each two real channels,
    `{(0, 1): compose(masked_fourier(mask), complex_channels())}`.

    Args:
      operators: which channels an operator takes -> that operator: an index for images `[h, w]`, a tuple of indices for `[h, w, n]`. Data of all have
        one shape and dtype: where one has fewer samples, fill up and tell the guide a sigma_y that is infinite there.
      num_channels: c, of the image.

    Returns:
      An operator from `[..., c]` to `[num_operators, ...]`, in the order given, with the leaves of all.

    Raises:
      ValueError: without operators, or for channels that the image does not have; when called, for data of several shapes.
    """
    chosen = tuple(operators)
    found = [c for one in chosen for c in np.atleast_1d(one)]
    if not chosen or any(not 0 <= c < num_channels for c in found):
        raise ValueError(f"measured_channels needs channels from 0 to {num_channels - 1}, got {list(chosen)}")
    return MeasuredChannels(tuple(operators.values()), chosen, num_channels)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MeasuredChannels:
    """y_i = A_i x_{c_i}; build it with `measured_channels`."""

    operators: tuple[Operator, ...]
    channels: tuple = dataclasses.field(metadata={"static": True})
    num_channels: int = dataclasses.field(metadata={"static": True})

    def __call__(self, x):
        """`[num_operators, ...]`."""
        if jnp.shape(x)[-1:] != (self.num_channels,):
            raise ValueError(f"image is {list(jnp.shape(x))}, {self.num_channels} channels are needed on the last axis")
        data = [A(x[..., np.asarray(c)]) for A, c in zip(self.operators, self.channels, strict=True)]
        kinds = [f"{list(y.shape)} of {y.dtype}" for y in data]
        if len(set(kinds)) > 1:
            raise ValueError(f"measured_channels needs data of one shape and dtype, got {' and '.join(sorted(set(kinds)))}")
        return jnp.stack(data)

    def adjoint(self, y):
        """`[..., c]`, 0 where nothing was measured."""
        if jnp.shape(y)[:1] != (len(self.operators),):
            raise ValueError(f"data are {list(jnp.shape(y))}, {len(self.operators)} are needed along the first axis")
        parts = [A.adjoint(each) for A, each in zip(self.operators, y, strict=True)]
        shape = parts[0].shape[: parts[0].ndim - np.ndim(self.channels[0])]
        image = jnp.zeros((*shape, self.num_channels), parts[0].dtype)
        for part, c in zip(parts, self.channels, strict=True):
            image = image.at[..., np.asarray(c)].add(part)
        return image
