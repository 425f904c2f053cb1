"""Two perpendicular diffusion models of slices as the prior of a volume."""

import jax.numpy as jnp
from jax import lax

from medjax import checks
from medjax.samplers.ddim import ddim
from medjax.typing import Denoiser, Kernel


def tpdm(auxiliary: Denoiser, kernel: Kernel | None = None, *, every: int = 2) -> Kernel:
    r"""TPDM: every K-th step belongs to a second prior, the others to the denoiser that `sample` is given.

    .. math:: p(x) \propto p_1(x)^{1 - 1 / K} \, p_2(x)^{1 / K}, \quad \nabla \log p = (1 - 1 / K) \nabla \log p_1 + (1 / K) \nabla \log p_2

    of which each step takes one term, in turn: for small steps the paths are those of the mean of both scores, at half of its cost. The paper's two
    are `slicewise(denoise_1)` and `slicewise(denoise_2, axis=1)`, and the data enter by DPS in the steps of the first alone:
    `sample(key, tpdm(slicewise(denoise_2, axis=1)), dps(A, y, sigma_y)(slicewise(denoise_1)), sigmas, x)`.

    Args:
      auxiliary: the second `Denoiser`, without a guide.
      kernel: that makes the steps, `ddim(1.0)` by default; `chain(langevin(), ddim(1.0))` has the paper's predictor and corrector.
      every: K >= 2; 2 takes turns.

    Returns:
      A `Kernel`, whose state counts the steps.

    Raises:
      ValueError: for K that is no whole number of at least 2.

    Reference:
      Lee et al. (2023), by the authors' code, https://arxiv.org/abs/2303.08440, which for a fractional K also throws a coin of probability 1 / K.
    """
    kernel = ddim(1.0) if kernel is None else kernel
    if checks.count(every, "every of tpdm") < 2:
        raise ValueError("every of tpdm is 1, at least 2 is needed")

    def step(key, x, states, sigma, sigma_next, denoise):
        turn, state = states

        def by(prior):
            return lambda x, state: kernel.step(key, x, state, sigma, sigma_next, prior)

        x, state = lax.cond(turn % every == every - 1, by(auxiliary), by(denoise), x, state)
        return x, (turn + 1, state)

    return Kernel(lambda x: (jnp.zeros((), jnp.int32), kernel.init(x)), step)
