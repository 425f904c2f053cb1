"""DiffPIR: half-quadratic splitting along the diffusion."""

from medjax import checks
from medjax.guides.proximal import proximal
from medjax.typing import Guide, Operator


def diffpir(A: Operator, y, sigma_y=1.0, *, weight: float = 1.0, num_krylov: int = 20) -> Guide:
    r"""DiffPIR: the denoised image is replaced by the solution of the data's proximal problem.

    .. math::
        D_y(x, \sigma) = \arg\min_z \; \| (y - A z) / \sigma_y \|^2 + \lambda \| z - D(x, \sigma) \|^2 / \sigma^2

    `dds` with the variance sigma^2 / lambda in the place of r^2, which does not know how far the prior reaches: at much noise the data are fitted as
    they are. Meant for `renoise(zeta)`, the paper's step.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      weight: lambda > 0; the paper takes 1 to 10, tuned by task.
      num_krylov: conjugate gradient steps, from D(x, sigma); enough of them give the minimiser, which the paper has in closed form.

    Returns:
      A `Guide`; one denoiser call, no derivative of it.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Zhu et al. (2023), algorithm 1 with rho_t = lambda sigma_y^2 / sigma_t^2, https://arxiv.org/abs/2305.08995
    """
    prox = proximal(A, y, sigma_y, num_krylov)
    checks.positive(weight, "weight")
    return lambda denoise: lambda x, sigma: prox(denoise(x, sigma), sigma**2 / weight)
