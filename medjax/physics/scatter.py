"""Scattered photons at the detector."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def scatter(primary, open_beam, amplitude=0.02, alpha=0.0, beta=1.0, width=60.0, detector_spacing=1.0, pedestal=0.0, num_axes=1):
    r"""Scatter by a broad kernel over the primary beam; it adds to the primary before the logarithm.

    .. math::
        s = g_w * \left[ A \, P \left(\frac{P}{I_0}\right)^{\alpha} \left(\ln \frac{I_0}{P}\right)^{\beta} \right] + p \, I_0

    with g_w a Gaussian of sum 1. With alpha = 0, beta = 1 it is single scatter: each ray gives off what it lost in its path, and the
    scatter-to-primary ratio behind a wide slab is A times its attenuation. The scatter is smooth and positive, so log data lose
    :math:`\log(1 + s / P)`: cupping, and dark bands between dense objects.

    Args:
      primary: P >= 0, unscattered intensity or counts `[..., num_detectors]` (`[..., rows, columns]` with two axes).
      open_beam: I_0, scalar or of the shape of P.
      amplitude: A.
      alpha: exponent of the transmission.
      beta: exponent of the attenuation.
      width: w, standard deviation of the kernel at the detector [mm], a scalar > 0.
      detector_spacing: [mm].
      pedestal: p, part of the open beam that arrives everywhere.
      num_axes: 1 or 2, the detector's axes, last ones of P (static).

    Returns:
      s, of the shape and unit of P. `transmission_counts` takes it as `background`.

    Raises:
      ValueError: when num_axes is neither 1 nor 2 or exceeds the axes of P, or a known width or spacing is not positive.

    Reference:
      Sun & Star-Lack (2010), Physics in Medicine and Biology 55, 6695-6720, for the form of the source term.
    """
    if num_axes not in (1, 2):
        raise ValueError(f"scatter needs num_axes 1 or 2, got {num_axes}")
    if jnp.ndim(primary) < num_axes:
        raise ValueError(f"scatter needs a primary with num_axes = {num_axes} axes or more, got shape {jnp.shape(primary)}")
    for name, length in {"width": width, "detector_spacing": detector_spacing}.items():
        if not isinstance(length, Tracer) and not 0 < length < np.inf:
            raise ValueError(f"scatter needs a positive {name} [mm], got {length}")
    ratio = primary / open_beam
    lost = (ratio > 0) & (ratio < 1)  # elsewhere nothing was lost, or nothing is left to scatter
    inside = jnp.where(lost, ratio, 0.5)
    source = jnp.where(lost, amplitude * primary * inside**alpha * (-jnp.log(inside)) ** beta, 0)
    for axis in range(-num_axes, 0):
        source = _smooth(source, axis, width / detector_spacing)
    return source + pedestal * open_beam


def _smooth(a, axis, width):
    """Convolution along an axis with a Gaussian of sum 1, zero outside."""
    n = a.shape[axis]
    k = jnp.arange(2 * n, dtype=a.dtype)
    k = jnp.minimum(k, 2 * n - k)
    far = jnp.arange(-16 * n, 16 * n + 1, dtype=a.dtype)  # so that a kernel wider than the detector keeps its sum
    kernel = jnp.exp(-0.5 * (k / width) ** 2) / jnp.sum(jnp.exp(-0.5 * (far / width) ** 2))
    lines = jnp.moveaxis(a, axis, -1)
    response = jnp.fft.rfft(kernel).reshape((1,) * (a.ndim - 1) + (-1,))
    smooth = jnp.fft.irfft(jnp.fft.rfft(lines, 2 * n) * response, 2 * n)[..., :n]
    return jnp.moveaxis(smooth, -1, axis)
