"""A prior of images together with one of their k-space."""

from medjax import checks
from medjax.typing import Denoiser, Guide, Operator


def hybrid(F: Operator, denoise_k: Denoiser, weight=0.5) -> Guide:
    r"""The mean of two denoisers of the same noisy image, one of which sees it in k-space.

    .. math:: D_h(x, \sigma) = (1 - w) D(x, \sigma) + w \, F^{-1} D_k(F x, \sigma)

    F is unitary, so white noise of level sigma stays what it is and F^{-1} = F^H. For images of two channels, real and imaginary part, such an F is
    `compose(adjoint(complex_channels()), compose(masked_fourier(ones), complex_channels()))`, centred and orthonormal.

    Args:
      F: unitary operator from x to what denoise_k takes.
      denoise_k: denoiser in k-space.
      weight: w in [0, 1]; w = 1 / 2 treats the two as equally good.

    Returns:
      A `Guide`; one call of each denoiser.

    Raises:
      ValueError: for a w outside [0, 1].

    Reference:
      A convex combination of two estimates of one conditional mean.
    """
    checks.fraction(weight, "weight")
    return lambda denoise: lambda x, sigma: (1 - weight) * denoise(x, sigma) + weight * F.adjoint(denoise_k(F(x), sigma))
