"""The annealed likelihood of Langevin reconstruction."""

import jax

from medjax import checks, lanczos
from medjax.typing import Guide, Operator


def annealed_likelihood(A: Operator, y, sigma_y=1.0, *, gamma: float = 1.0) -> Guide:
    r"""The score of the data term at the noisy image itself, with a variance that falls with the noise level.

    .. math::
        D_y(x, \sigma) = D + \sigma^2 A^H \frac{y - A x}{\sigma_y^2 + \gamma_\sigma^2}, \quad \gamma_\sigma = \gamma \sigma \| A \|

    so that (D_y - x) / sigma^2 is the paper's direction, for `annealed_langevin`. gamma_sigma is the noise of A x in the direction that A sees best.
    The paper tunes a falling sequence gamma_t, and in its code scales the data term to the score's length; here one number is left.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      gamma: share of the diffusion's noise in that of the residual; 1 for an A with orthonormal rows.

    Returns:
      A `Guide`; one denoiser call, no derivative of it. The norm is computed once, by 30 products with A^H A.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Jalal et al. (2021), robust compressed sensing MRI with deep generative priors, the posterior sampling update, https://arxiv.org/abs/2108.01368
    """
    y, root = checks.measured(A, y, sigma_y)
    checks.nonnegative(gamma, "gamma")
    blurred = gamma * lanczos.operator_norm(A, jax.eval_shape(A.adjoint, y))

    def guide(denoise):
        def guided(x, sigma):
            weight = root**2 / (1 + (root * blurred * sigma) ** 2)
            return denoise(x, sigma) + sigma**2 * A.adjoint(weight * (y - A(x)))

        return guided

    return guide
