"""Random fields with a power-law spectrum: the grain of tissue."""

import jax
import jax.numpy as jnp


def texture(key, size, exponent=3.0, cutoff=16):
    r"""Band-limited Gaussian random field whose power falls as a power of the frequency.

    .. math:: u(r) = \sum_{0 < |k| \le K} a_k \cos(2 \pi k \cdot r + \phi_k), \quad E\, a_k^2 \propto |k|^{-p}

    The modes are drawn before they are sampled, so one key gives one field at every `size`; the field is periodic.

    Args:
      key: random key.
      size: pixels a side.
      exponent: p, 0 for white noise up to the cutoff, 2-4 for cloud-like fields; may be traced.
      cutoff: K, cycles across the image (static); frequencies above `size / 2` are left out.

    Returns:
      `[size, size]`, zero mean, unit standard deviation.

    Raises:
      ValueError: when size < 4 or cutoff < 1.
    """
    if size < 4 or cutoff < 1:
        raise ValueError(f"texture needs size >= 4 and cutoff >= 1, got size {size} and cutoff {cutoff}")
    real, imaginary = jax.random.normal(key, (2, 2 * cutoff + 1, cutoff + 1))
    keep = min(cutoff, (size - 1) // 2)
    rows = jnp.arange(-keep, keep + 1)
    columns = jnp.arange(keep + 1)
    # the modes with k_x = 0 meet their own conjugates in the real transform, which halves their power
    weight = jnp.where(columns == 0, 2.0**0.5, 1.0).astype(real.dtype)
    square = (rows[:, None] ** 2 + columns[None, :] ** 2).astype(real.dtype)
    amplitude = jnp.where((square > 0) & (square <= cutoff**2), jnp.maximum(square, 1.0) ** (-exponent / 4), 0.0) * weight[None, :]
    # pixel centres lie at (i + 1/2) / size, so that sizes agree
    angle = (jnp.pi / size) * (rows[:, None] + columns[None, :]).astype(real.dtype)
    window = slice(cutoff - keep, cutoff + keep + 1)
    modes = amplitude * jnp.exp(1j * angle) * (real[window, : keep + 1] + 1j * imaginary[window, : keep + 1])
    spectrum = jnp.zeros((size, keep + 1), modes.dtype)
    spectrum = spectrum.at[: keep + 1].set(modes[keep:]).at[size - keep :].set(modes[:keep])
    field = jnp.fft.irfft2(spectrum, (size, size))
    return field / jnp.std(field)
