"""Diffusion with model-based iterative reconstruction: volumes from a prior of slices."""

from medjax.samplers.chain import chain
from medjax.samplers.ddim import ddim
from medjax.samplers.tv_admm import tv_admm
from medjax.typing import Kernel, Operator


def diffusion_mbir(
    A: Operator, y, sigma_y=1.0, *, strength=0.04, rho=10.0, num_admm: int = 1, num_krylov: int = 1, prior: Kernel | None = None
) -> Kernel:
    r"""DiffusionMBIR: a step of the prior on every slice, then the noisy volume is pulled to the data and to agreement between slices.

    .. math::
        u = \mathrm{prior}(x), \quad x' \approx \arg\min_v \; \tfrac12 \| (y - A v) / \sigma_y \|^2 + \lambda \| D v \|_1 \;\text{ from } u

    by `tv_admm`, whose z and w are kept over the noise levels (the paper's variable sharing), so that one step with one of conjugate gradient does.
    Meant for the denoiser `slicewise(denoise)`. The data are those of x0, although u still has the noise of the next level.

    Args:
      A: operator of volumes, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      strength: lambda >= 0 of the total variation between slices; 0.04 is the paper's, for sigma_y = 1.
      rho: penalty of ADMM > 0, 10 in the paper.
      num_admm: steps of ADMM a noise level.
      num_krylov: conjugate gradient steps in each.
      prior: kernel of the reverse diffusion, `ddim(1.0)` by default; `chain(langevin(), ddim(1.0))` has the paper's predictor and corrector.

    Returns:
      A `Kernel`; its state holds two arrays like x, and its memory is a few more.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Chung, Ryu, McCann, Klasky & Ye (2023), by the authors' code, https://arxiv.org/abs/2211.10655
    """
    refine = tv_admm(A, y, sigma_y, strength=strength, rho=rho, num_admm=num_admm, num_krylov=num_krylov)
    return chain(ddim(1.0) if prior is None else prior, refine)
