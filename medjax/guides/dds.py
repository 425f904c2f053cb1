"""Decomposed diffusion sampling: data consistency by conjugate gradient on the denoised image."""

from medjax import checks
from medjax.guides.proximal import proximal
from medjax.typing import Guide, Operator


def dds(A: Operator, y, sigma_y=1.0, *, variance: float = 1.0, num_krylov: int = 5) -> Guide:
    r"""DDS: the denoised image is pulled to the data by a few conjugate gradient steps of a proximal problem.

    .. math::
        D_y(x, \sigma) = \arg\min_z \; \| (y - A z) / \sigma_y \|^2 + \| z - D(x, \sigma) \|^2 / r^2, \quad
        r^2 = \frac{\sigma^2 v}{\sigma^2 + v}

    The paper's weight gamma is r^2 / sigma_y^2 here: r^2 is what remains unknown of an image of variance v after noise sigma, so no step size
    is left to be tuned by task. Meant for `ddim(0.85)`, the paper's choice; the noise that a kernel keeps of x is then (x - D_y) / sigma, where the
    paper keeps the network's own, as `dds_volume` does.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      variance: v, the prior variance of a pixel.
      num_krylov: conjugate gradient steps, from D(x, sigma).

    Returns:
      A `Guide`; one denoiser call, no derivative of it.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Chung, Lee & Ye (2024), decomposed diffusion sampler, https://arxiv.org/abs/2303.05754
    """
    prox = proximal(A, y, sigma_y, num_krylov)
    checks.positive(variance, "variance")
    return lambda denoise: lambda x, sigma: prox(denoise(x, sigma), sigma**2 * variance / (sigma**2 + variance))
