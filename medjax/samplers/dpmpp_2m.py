"""DPM-Solver++ 2M, the multistep sampler of second order."""

from medjax.samplers.dpmpp_sde import dpmpp_sde
from medjax.typing import Kernel


def dpmpp_2m() -> Kernel:
    r"""DPM-Solver++(2M) for the probability-flow ODE, which is `dpmpp_sde(0.0)`.

    .. math::
        x' = \frac{\sigma'}{\sigma} x + \Bigl(1 - \frac{\sigma'}{\sigma}\Bigr) \Bigl(D + \frac{h}{2 h_{-1}} (D - D_{-1})\Bigr), \quad
        h = \ln \frac{\sigma}{\sigma'}

    with D = D(x, sigma) and D_{-1} that of the step before, of length h_{-1}. The first step and the one to sigma' = 0 are of first order.

    Returns:
      A `Kernel` whose state is D and sigma of the step before, one denoiser call a step.

    Reference:
      Lu et al. (2022), DPM-Solver++, algorithm 2, https://arxiv.org/abs/2211.01095
    """
    return dpmpp_sde(0.0)
