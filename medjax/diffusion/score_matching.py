"""Denoising score matching with the weights of EDM."""

from collections.abc import Callable

from medjax.diffusion.denoising_loss import denoising_loss
from medjax.diffusion.log_normal import log_normal
from medjax.typing import Loss


def score_matching(denoiser: Callable, sigma_data: float, mean_log_sigma: float = -1.2, std_log_sigma: float = 1.2) -> Loss:
    r"""Denoising score matching over log-normal noise levels.

    .. math::
        E_{x, n, \sigma} \; \lambda(\sigma) \| D_\theta(x + \sigma n, \sigma) - x \|^2, \quad
        \lambda(\sigma) = \frac{\sigma^2 + \sigma_d^2}{\sigma^2 \sigma_d^2}, \; \ln \sigma \sim N(P_{mean}, P_{std}^2)

    The noise levels of a batch are stratified (one in each quantile), which leaves their law and lowers the variance.

    Args:
      denoiser: `params -> Denoiser`.
      sigma_data: standard deviation of the data.
      mean_log_sigma: P_mean.
      std_log_sigma: P_std.

    Returns:
      A `Loss` over batches `[b, ...]`; a value of 1 is what the zero network reaches.

    Reference:
      Karras et al. (2022), eq. 8 and table 1, https://arxiv.org/abs/2206.00364; stratified levels as in Kingma et al. (2021).
    """

    def draw_levels(key, num):
        return log_normal(key, num, mean_log_sigma, std_log_sigma)

    return denoising_loss(denoiser, draw_levels, lambda sigma: (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2)
