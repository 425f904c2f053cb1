"""Structural similarity."""

import jax.numpy as jnp


def _blur(image, radius=5, sigma=1.5):
    """Separable Gaussian over the pixels that have a whole window."""
    offsets = jnp.arange(-radius, radius + 1)
    weights = jnp.exp(-(offsets**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).astype(image.dtype)
    rows, columns = image.shape[0] - 2 * radius, image.shape[1] - 2 * radius
    blurred = jnp.zeros((rows, image.shape[1]), image.dtype)
    for i in range(2 * radius + 1):
        blurred = blurred + weights[i] * image[i : i + rows]
    return sum((weights[i] * blurred[:, i : i + columns] for i in range(2 * radius + 1)), start=jnp.zeros((), image.dtype))


def ssim(estimate, reference):
    r"""Mean structural similarity with the 11 x 11 Gaussian window, K1 = .01, K2 = .03 and the range of the reference.

    .. math::
        \frac{(2 \mu_e \mu_r + C_1)(2 \sigma_{er} + C_2)}{(\mu_e^2 + \mu_r^2 + C_1)(\sigma_e^2 + \sigma_r^2 + C_2)}

    Args:
      estimate: `[h, w]` real, both sides at least 11.
      reference: `[h, w]` real, the truth.

    Returns:
      Scalar in [-1, 1], 1 for equal images; the mean over pixels with a whole window.

    Raises:
      ValueError: for an image smaller than the window.

    Reference:
      Wang et al. (2004), eq. 13, https://doi.org/10.1109/TIP.2003.819861
    """
    if min(reference.shape) < 11:
        raise ValueError(f"ssim needs images of at least 11 x 11 pixels, got {list(reference.shape)}")
    spread = jnp.max(reference) - jnp.min(reference)
    c1, c2 = (0.01 * spread) ** 2, (0.03 * spread) ** 2
    mean_e, mean_r = _blur(estimate), _blur(reference)
    var_e, var_r = _blur(estimate**2) - mean_e**2, _blur(reference**2) - mean_r**2
    covariance = _blur(estimate * reference) - mean_e * mean_r
    score = (2 * mean_e * mean_r + c1) * (2 * covariance + c2) / ((mean_e**2 + mean_r**2 + c1) * (var_e + var_r + c2))
    return jnp.mean(score)
