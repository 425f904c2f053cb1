"""Peak signal-to-noise ratio."""

import jax.numpy as jnp


def psnr(estimate, reference):
    r"""Peak signal-to-noise ratio [dB], with the range of the reference as the peak.

    .. math::
        10 \log_{10} \frac{(\max r - \min r)^2}{\mathrm{mean} (e - r)^2}

    Args:
      estimate: `[...]` real.
      reference: `[...]` real, the truth.

    Returns:
      Scalar; infinite for equal images, minus infinite or NaN for a constant reference.

    Reference:
      The definition of the LoDoPaB-CT benchmark with the range of each image, Leuschner et al. (2021), https://doi.org/10.1038/s41597-021-00893-z
    """
    spread = jnp.max(reference) - jnp.min(reference)
    return 10 * jnp.log10(spread**2 / jnp.mean((estimate - reference) ** 2))
