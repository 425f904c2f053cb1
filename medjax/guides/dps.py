"""Diffusion posterior sampling."""

from medjax import checks
from medjax.diffusion.misfit_step import misfit_step
from medjax.typing import Guide, Operator


def dps(A: Operator, y, sigma_y=1.0, *, zeta: float = 1.0, log_likelihood=None) -> Guide:
    r"""DPS: move along the gradient of the residual of the denoised image.

    .. math::
        D_y(x, \sigma) = D - \zeta \frac{\sigma^2}{\beta(\sigma)} \nabla_x \| (y - A D(x, \sigma)) / \sigma_y \| \cdot \sigma_y^{rms}

    This is the step of the authors' code, zeta times the gradient of the norm (algorithm 1 prints that of the squared norm over the norm, twice it),
    after each of 1,000 DDPM steps, to first order, beta being `ddpm.linear_rate` (see `misfit_step`), as a change of the denoiser: it composes with
    every kernel and any number of steps. The weights 1 / sigma_y let rays of different noise count rightly; for one noise level they cancel and the
    paper's norm is left.

    With a log-likelihood the norm is the root of its deviance, :math:`\sqrt{2 \log p(y | y) - 2 \log p(y | A D)}`, which for Gaussian noise is the
    same and keeps zeta's meaning: counts are then exactly Poisson, where the paper takes a Gaussian of variance y.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      zeta: step size, for images of about unit range and A of about unit norm; larger fits the data more. There is no right value: DPS is not
        calibrated.
      log_likelihood: `(y, z) -> log p(y | z)`, that of a `Noise` whose y has the unit of z and is its most likely z, finite for negative z, too;
        Gaussian with sigma_y if None.

    Returns:
      A `Guide`.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Chung et al. (2023), algorithm 1, https://arxiv.org/abs/2209.14687
    """
    step = misfit_step(A, y, sigma_y, log_likelihood)
    checks.nonnegative(zeta, "zeta")

    def guide(denoise):
        def guided(x, sigma):
            denoised, downhill = step(denoise, x, sigma)
            return denoised + zeta * downhill

        return guided

    return guide
