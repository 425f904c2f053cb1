"""Kernels one after another at the same noise level."""

import jax

from medjax.typing import Kernel


def chain(*kernels: Kernel) -> Kernel:
    """The composition of kernels: predictor-corrector is `chain(langevin(), ddim(1.0))`.

    All but the last are correctors and should leave the noise level where it is; the last one moves from sigma to sigma_next.

    Args:
      *kernels: at least one `Kernel`.

    Returns:
      A `Kernel` whose state is the tuple of their states.

    Raises:
      ValueError: without kernels.

    Reference:
      Song et al. (2021), algorithm 1 (predictor-corrector), https://arxiv.org/abs/2011.13456
    """
    if not kernels:
        raise ValueError("chain needs at least one kernel, got none")

    def init(x):
        return tuple(kernel.init(x) for kernel in kernels)

    def step(key, x, states, sigma, sigma_next, denoise):
        out = []
        for i, (kernel, state) in enumerate(zip(kernels, states, strict=True)):
            x, state = kernel.step(jax.random.fold_in(key, i), x, state, sigma, sigma_next, denoise)
            out.append(state)
        return x, tuple(out)

    return Kernel(init, step, any(kernel.particles for kernel in kernels), any(kernel.ends_at_zero for kernel in kernels))
