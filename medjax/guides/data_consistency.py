"""Plain alternation of denoising and a gradient step on the data."""

import jax
import jax.numpy as jnp
import numpy as np

from medjax import checks, lanczos, linalg
from medjax.typing import Guide, Operator


def data_consistency(A: Operator, y, sigma_y=1.0, *, step: float = 1.0) -> Guide:
    r"""One Landweber step from the denoised image towards the data.

    .. math:: D_y(x, \sigma) = D + \alpha A^H \Sigma_y^{-1} (y - A D), \quad \alpha = \tau / \| \Sigma_y^{-1/2} A \|^2, \; 0 < \tau < 2

    The step is that of a data-consistency layer, taken on the denoised image, not on the noisy x: A x carries the noise of the diffusion, which the
    data do not have. A^H is the adjoint of A, not an approximate inverse. One sigma_y for all has no effect.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      step: tau, the share of the step of steepest descent; the residual falls for values below 2.

    Returns:
      A `Guide`; one denoiser call, no derivative of it. The norm is computed once, by 30 products with A^H A.

    Raises:
      ValueError: for data that do not fit the operator, sigma_y that is not positive, or a step outside (0, 2).

    Reference:
      Schlemper et al. (2018), data consistency layers, https://doi.org/10.1109/TMI.2017.2760978; Landweber's step for a general A.
    """
    y, root = checks.measured(A, y, sigma_y)
    if checks.is_concrete(step) and not 0 < np.asarray(step) < 2:
        raise ValueError(f"step is {step}, a number in (0, 2) is needed")
    like = jax.eval_shape(A.adjoint, y)
    square = lanczos.operator_norm(linalg.Weighted(A, root), like) ** 2
    alpha = step / jnp.where(square > 0, square, 1)

    def guide(denoise):
        def guided(x, sigma):
            denoised = denoise(x, sigma)
            return denoised + alpha * A.adjoint(root**2 * (y - A(denoised)))

        return guided

    return guide
