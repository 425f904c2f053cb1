"""How much arithmetic a model asks for, and how much a device could do."""

import math

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

_PEAKS = {  # dense TFLOP/s in bfloat16 of one device, by its whole name: a part of a card, or one of another make, is not known by its beginning
    "NVIDIA H200": 989.4,
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA A100-SXM4-40GB": 312.0,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA A100-PCIE-40GB": 312.0,
    "NVIDIA A100 80GB PCIe": 312.0,
    "NVIDIA L40S": 362.0,
    "TPU7x": 2307.0 / 2,  # JAX counts each of the two halves of a chip as a device
    "TPU v6 lite": 918.0,
    "TPU v6e": 918.0,
    "TPU v5": 459.0,
    "TPU v5p": 459.0,
    "TPU v5 lite": 197.0,
    "TPU v5e": 197.0,
    "TPU v4": 275.0,
    "TPU v3": 123.0 / 2,  # a device of JAX is a core, of which a chip has two
}


def matrix_flops(fn, *args) -> float:
    """Floating-point operations of the products and convolutions in `fn(*args)`, arrays or their shapes; nothing is computed.

    Two for each multiplication and addition. Loops of a known length count as often as they run, others once, branches with their largest.
    Elementwise work, FFTs and gathers do not count, as in the usual measure of utilisation.
    """
    return _count(jax.make_jaxpr(fn)(*args).jaxpr)


def train_flops(loss_fn, params, key, batch) -> float:
    """Of a step: three times the loss, for the derivatives by weights and by activations take as many each. What is computed anew does not count.

    Reference:
      Chowdhery et al. (2022), PaLM, appendix B (model FLOPs utilisation), https://arxiv.org/abs/2204.02311
    """
    return 3 * matrix_flops(loss_fn, params, key, batch)


def peak_flops(device) -> float | None:
    """Peak FLOP/s of a device in bfloat16, by the name that JAX gives it; None where it is not known, as for processors.

    Reference:
      The makers' data sheets; of TPUs https://docs.cloud.google.com/tpu/docs/tpu7x, /v5e, /v3 and their like, by chip.
    """
    tera = _PEAKS.get(device.device_kind)
    return None if tera is None else 1e12 * tera


def speed(num_images: int, flops: float, seconds: float, waited: float) -> dict[str, float]:
    """How fast a training was over a stretch of `seconds`, as its log has it.

    Args:
      num_images: in it.
      flops: of it, by `train_flops`.
      seconds: that it took.
      waited: of these, for files. Arrays are worked on meanwhile, so it is the most that a device can have been idle for their sake.

    Returns:
      `images_per_second`, `teraflops` (1e12 FLOP / s), `input_share` and, of devices whose peak is known, `utilisation` of all of them (MFU).
    """
    found = {"images_per_second": round(num_images / seconds, 2), "teraflops": flops / seconds / 1e12, "input_share": waited / seconds}
    peak = peak_flops(jax.devices()[0])
    return found | ({"utilisation": flops / seconds / (peak * jax.device_count())} if peak else {})


def _count(jaxpr) -> float:
    """Of a jaxpr and all inside it."""
    return float(sum(_equation(equation) for equation in jaxpr.eqns))


def _equation(equation) -> float:
    """Of one primitive."""
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, numbers = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / kernel[numbers[0]]
    if name == "custom_linear_solve":  # of which only the solution is computed
        return _count(params["jaxprs"].solve.jaxpr)
    inner = [_count(part) for value in params.values() for part in inner_jaxprs(value)]
    if name in ("cond", "platform_index"):
        return max(inner, default=0.0)
    return sum(inner) * (params["length"] if name == "scan" else 1)


def inner_jaxprs(value):
    """The programs among the parameters of a primitive."""
    if isinstance(value, ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from inner_jaxprs(part)
