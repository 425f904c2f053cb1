"""Cold diffusion: sampling without noise."""

from medjax.typing import Kernel


def cold_diffusion(degrade) -> Kernel:
    r"""The sampler for a deterministic degradation of any kind, in the form that forgives an imperfect restorer.

    .. math:: x' = x - G(D, s) + G(D, s'), \quad D = D(x, s)

    The levels are severities s, at 0 of which G is the identity, and the denoiser is the restorer of images degraded by G(., s). With a perfect
    restorer x' = G(x0, s') at every step; for G(x0, s) = x0 + s e, to which a smooth G is close at small s, any restorer does. k-space undersampling,
    more of it at higher s, makes this a reconstruction: the start is the zero-filled image.

    Args:
      degrade: G, `(x0, s) -> x`.

    Returns:
      A `Kernel` without state and without noise, one call of the restorer a step.

    Reference:
      Bansal et al. (2022), algorithm 2, https://arxiv.org/abs/2208.09392
    """

    def step(key, x, state, sigma, sigma_next, denoise):
        restored = denoise(x, sigma)
        return x - degrade(restored, sigma) + degrade(restored, sigma_next), state

    return Kernel(lambda x: (), step)
