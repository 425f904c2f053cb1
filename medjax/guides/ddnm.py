"""The denoising diffusion null-space model."""

from medjax import checks, linalg
from medjax.typing import Guide, Operator


def ddnm(A: Operator, y, sigma_y=1.0, *, variance: float = 1.0, num_krylov: int = 20) -> Guide:
    r"""DDNM: what A sees of the denoised image is replaced by the data, the null space is kept.

    .. math:: D_y(x, \sigma) = D + A^+ (y - A D), \quad A^+ = (A^H \Sigma_y^{-1} A + I / v)^{-1} A^H \Sigma_y^{-1}

    The paper's A^+ is the pseudoinverse, v infinite, which believes the data whatever their noise: then D_y = A^+ y + (I - A^+ A) D, and one sigma_y
    for all has no effect. A finite v leaves alone what the data cannot tell. Conjugate gradient starts from 0, so that few steps, too, leave small
    singular values alone. DDNM+, the paper's own form for noisy data, shrinks the correction and the noise of the step together by the next noise
    level, which a guide does not know: with a singular value decomposition it is `ddrm(eta_b=1)`.

    Args:
      A: operator, `x -> y`.
      y: data.
      sigma_y: standard deviation of y, a scalar or an array that broadcasts against y; infinite where nothing was measured.
      variance: v, the prior variance of a pixel, against which the noise of y is weighed; infinite is the paper's.
      num_krylov: conjugate gradient steps.

    Returns:
      A `Guide`; one denoiser call, no derivative of it.

    Raises:
      ValueError: for data that do not fit the operator, or a number that is out of range.

    Reference:
      Wang, Yu & Zhang (2023), eq. 13 and algorithm 1, https://arxiv.org/abs/2212.00490
    """
    y, root = checks.measured(A, y, sigma_y)
    checks.count(num_krylov, "num_krylov")
    checks.positive(variance, "variance", finite=False)
    normal = linalg.gram(A, root**2)

    def guide(denoise):
        def guided(x, sigma):
            denoised = denoise(x, sigma)
            force = A.adjoint(root**2 * (y - A(denoised)))
            return denoised + linalg.conjugate_gradient(lambda u: normal(u) + u / variance, force, num_steps=num_krylov)

        return guided

    return guide
