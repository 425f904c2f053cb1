"""Plain convolutional network, the building block of unrolled methods."""

import jax.numpy as jnp
from flax import linen as nn

from medjax import checks
from medjax.linalg import traced_once
from medjax.networks.conv3x3 import Conv3x3, per_channel

ACTIVATIONS = ("prelu", "relu", "leaky_relu", "silu")


def cnn(features: int, width: int = 32, num_layers: int = 3, activation: str = "prelu", last_scale: float = 1.0) -> nn.Module:
    r"""3 x 3 convolutions with zero padding, a nonlinearity between every two.

    .. math:: W_n \circ \rho \circ W_{n-1} \circ \cdots \circ \rho \circ W_1

    Args:
      features: channels of the output.
      width: channels of the layers between.
      num_layers: n, convolutions.
      activation: "prelu" (one learned slope a channel, 0.25 at first), "relu", "leaky_relu" (0.2) or "silu".
      last_scale: factor on the variance of the last layer's weights at initialisation; 0 for a network that is 0 at first.

    Returns:
      A module with `apply(params, h)`, h `[h, w, c]` of any c, which `init` fixes; output `[h, w, features]`.

    Raises:
      ValueError: for counts below 1 or another activation.

    Reference:
      Adler & Oktem (2018), Learned primal-dual reconstruction, section IV.B, https://arxiv.org/abs/1707.06474; weights by Glorot & Bengio (2010).
    """
    for name, value in (("features", features), ("width", width), ("num_layers", num_layers)):
        checks.count(value, f"{name} of cnn")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation of cnn is {activation!r}, one of {', '.join(ACTIVATIONS)} is needed")
    return CNN(features, width, num_layers, activation, last_scale)


class CNN(nn.Module):
    """Module of `cnn`, with its arguments as fields."""

    features: int
    width: int
    num_layers: int
    activation: str
    last_scale: float

    @nn.compact
    def __call__(self, h):
        """h `[h, w, c]`."""
        for i in range(self.num_layers - 1):
            h = activate(self, Conv3x3(self.width, nn.initializers.glorot_uniform(), name=f"conv_{i}")(h), i)
        scale = self.last_scale
        last = nn.initializers.variance_scaling(scale, "fan_avg", "uniform") if scale > 0 else nn.initializers.zeros
        return Conv3x3(self.features, last, name="head")(h)


def activate(module: CNN, h, i: int):
    """The nonlinearity after layer i of `module`, which holds the slopes of "prelu"."""
    if module.activation == "prelu":
        slope = module.param(f"slope_{i}", nn.initializers.constant(0.25), (h.shape[-1],))
        return prelu(h, slope)
    return {"relu": nn.relu, "leaky_relu": lambda h: nn.leaky_relu(h, 0.2), "silu": nn.silu}[module.activation](h)


@traced_once
def prelu(h, slope):
    """h where it is positive, and `slope` times h elsewhere; `[h, w, c]` and `[c]`."""
    return jnp.where(h > 0, h, per_channel(slope, h.shape[:2]) * h)
