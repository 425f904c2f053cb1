"""The ramp filter of filtered backprojection."""

import jax.numpy as jnp

from medjax import linalg

WINDOWS = {
    "ram-lak": lambda f: jnp.ones_like(f),
    "shepp-logan": lambda f: jnp.sinc(f / 2),
    "cosine": lambda f: jnp.cos(jnp.pi * f / 2),
    "hamming": lambda f: 0.54 + 0.46 * jnp.cos(jnp.pi * f),
    "hann": lambda f: 0.5 + 0.5 * jnp.cos(jnp.pi * f),
}
"""Windows over f = frequency / cut-off frequency in [0, 1]."""


def ramp_filter(y, spacing, window: str = "hann", cutoff=1.0, refinement=1, step=0.0):
    r"""Detector rows convolved with the windowed ramp, without wrap-around.

    .. math:: h_0 = \frac{1}{4 d^2}, \quad h_k = -\frac{1}{(\pi k d)^2} \text{ for odd } k, \quad 0 \text{ for even } k

    The ramp is built in space, so that its mean is right, and windowed in frequency. On a curved detector k d is d sin(k step) / step.

    Args:
      y: `[..., num_detectors]`.
      spacing: d [mm].
      window: one of "ram-lak", "shepp-logan", "cosine", "hamming", "hann".
      cutoff: where the window ends, as a fraction in (0, 1] of the detector's Nyquist frequency 1 / (2 d).
      refinement: how many times finer than y the answer is sampled (band-limited), an integer.
      step: angle between detectors of an equiangular fan [rad], 0 for a straight detector.

    Returns:
      `[..., refinement (num_detectors - 1) + 1]`, in units of y by [mm].

    Raises:
      ValueError: for an unknown window or a cut-off out of range.

    Reference:
      Kak & Slaney (1988), Principles of Computerized Tomographic Imaging, chapter 3, eq. 61.
    """
    if not 0 < cutoff <= 1:
        raise ValueError(f"got cutoff {cutoff}, a fraction in (0, 1] is needed")
    if window not in WINDOWS:
        raise ValueError(f"got window {window!r}, one of {sorted(WINDOWS)} is needed")
    size = y.shape[-1]
    length = linalg.even_fast_length(2 * size)
    k = jnp.arange(length)
    k = jnp.minimum(k, length - k)
    lag = jnp.maximum(k, 1).astype(y.real.dtype)
    if step:
        lag = jnp.sin(jnp.minimum(lag * step, 0.9 * jnp.pi)) / step  # no two rays of a fan are farther apart
    ramp = jnp.where(k == 0, 1 / (4 * spacing**2), jnp.where(k % 2 == 1, -1 / (jnp.pi * lag * spacing) ** 2, 0))
    frequency = jnp.arange(length // 2 + 1, dtype=lag.dtype) / (length // 2)
    shape = jnp.where(frequency <= cutoff, WINDOWS[window](jnp.minimum(frequency / cutoff, 1)), 0)
    response = jnp.real(jnp.fft.rfft(ramp)) * spacing * shape
    if refinement > 1:
        response = response.at[-1].multiply(0.5)  # the Nyquist term stands for two terms once it is not the last
    spectrum = jnp.fft.rfft(y, length, axis=-1) * response.reshape((1,) * (y.ndim - 1) + response.shape)
    fine = jnp.fft.irfft(spectrum, refinement * length, axis=-1) * refinement
    return fine[..., : refinement * (size - 1) + 1]
