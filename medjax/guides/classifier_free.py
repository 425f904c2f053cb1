"""Classifier-free guidance."""

from medjax.typing import Denoiser, Guide


def classifier_free(denoise_null: Denoiser, weight=1.0) -> Guide:
    r"""Extrapolation from a denoiser without the condition beyond one with it.

    .. math:: D_w(x, \sigma) = (1 + w) D_c(x, \sigma) - w D_\emptyset(x, \sigma)

    With exact denoisers it is the score of :math:`p_\sigma(x | c)^{1 + w} p_\sigma(x)^{-w}`, `classifier` with s = 1 + w.

    Args:
      denoise_null: the denoiser without the condition; the guide is applied to the one with it.
      weight: w; 0 leaves D_c, above 0 extrapolates.

    Returns:
      A `Guide`; two denoiser calls.

    Reference:
      Ho & Salimans (2022), eq. 6, https://arxiv.org/abs/2207.12598
    """
    return lambda denoise: lambda x, sigma: (1 + weight) * denoise(x, sigma) - weight * denoise_null(x, sigma)
