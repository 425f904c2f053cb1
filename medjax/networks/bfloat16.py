"""A network that computes in half of the bits."""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_ONEDNN = "--xla_cpu_experimental_onednn_custom_call"


class Bfloat16(NamedTuple):
    """Network of `bfloat16`."""

    network: Any

    def init(self, key, *inputs):
        """Weights in single precision."""
        return self.network.init(key, *inputs)

    def apply(self, params, *inputs, **options):
        """The network's answer, in the precision of its first input; what is named is no array."""
        rounded = [jax.tree.map(lambda leaf: leaf if jnp.ndim(leaf) == 0 else _halved(leaf), each) for each in inputs]
        out = self.network.apply(jax.tree.map(_halved, params), *rounded, **options)
        return jax.tree.map(lambda leaf: leaf.astype(inputs[0].dtype), out)


def bfloat16(network) -> Bfloat16:
    """`network` with its products and convolutions in bfloat16, its weights, and what moves them, in float32 (mixed precision).

    Weights and inputs but scalars, which are noise levels, are rounded on the way in; norms, softmax and sums of products stay in float32 where
    the network says so, as `networks/unet.py` does. Exponents are those of float32, so that no loss needs to be scaled. The weights are the same
    either way: a prior may be trained so and sample without.

    Args:
      network: with `init(key, *inputs)` and `apply(params, *inputs)`; a config names it: `Spec("bfloat16", {"network": Spec("unet", ...)})`.

    Returns:
      A network of the same kind.

    Raises:
      ValueError: where XLA on CPU is told to convolve by oneDNN, which in bfloat16 gets the gradients of kernels wrong (jax 0.12).

    Reference:
      Micikevicius et al. (2018), Mixed precision training, section 3.1, https://arxiv.org/abs/1710.03740; bfloat16 without scaling: Kalamkar et
      al. (2019), https://arxiv.org/abs/1905.12322.
    """
    told = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag.partition("=")[0] == _ONEDNN]
    if told and told[-1].partition("=")[2].lower() not in ("false", "0") and jax.default_backend() == "cpu":
        raise ValueError(f"bfloat16 networks train wrongly on CPU with {_ONEDNN}: take that out of XLA_FLAGS, or train in float32")
    return Bfloat16(network)


def _halved(leaf):
    return leaf.astype(jnp.bfloat16) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf
