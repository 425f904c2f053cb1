"""medjax: medical image reconstruction and generation with learned priors, as pure functions in JAX."""

import os
import warnings

import jax

__version__ = "0.1.0"

_YNN = "--xla_cpu_experimental_ynn_fusion_type"


def _sum_rightly():
    """Keep XLA on CPU from fusing sums into YNNPACK in jax 0.10, which sums zeros beside a single channel wrongly.

    Of x `[2, 128, 128, 1]` all five sums `jit(lambda x: pad(x, ((0, 0), (0, 0), (0, 0), (0, 4))).sum((0, 1, 2)))(x)` are the first one; so were the
    gradients of biases of channels that nobody reads. Its other fusions stay; jax 0.12 sums rightly.
    """
    if not jax.__version__.startswith("0.10.") or _YNN in os.environ.get("XLA_FLAGS", ""):
        return
    from jax._src.xla_bridge import backends_are_initialized

    if backends_are_initialized():
        warnings.warn(f"jax {jax.__version__} sums wrongly on CPU unless medjax is imported before the first computation", stacklevel=2)
    kept = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_YNN}={kept}".strip()


_sum_rightly()
