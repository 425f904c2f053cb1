"""How missing lines of k-space follow from their neighbours, learnt from calibration lines."""

import jax.numpy as jnp
import numpy as np

from medjax import checks, linalg


def grappa_weights(calibration, acceleration, kernel=(5, 4), regularisation=0.02):
    r"""GRAPPA: the linear combinations of sampled neighbours that predict each of the R - 1 lines between two sampled ones, for every coil.

    .. math::
        y_c(k_y, l + m) \approx \sum_{c', a, b} w^m_{c c' a b} \, y_{c'}(k_y + a, \, l + R b), \qquad
        \min_w \| S_m w - t_m \|^2 + \mu \, \overline{\sigma^2} \| w \|^2

    over all places of the kernel inside the calibration lines, with the mean squared singular value of S_m. The kernel is counted in sources:
    (5, 4) is 5 samples along the readout, the rows, from each of the 4 sampled lines nearest to the target, 20 a coil.

    Args:
      calibration: `[c, h, w]` complex, a block of fully sampled k-space, whitened; columns are the lines, as in `equispaced_lines`.
      acceleration: R, a whole number from 1.
      kernel: (samples of a line, lines).
      regularisation: mu >= 0; calibration lines are the brightest of all, and less than the default, which costs little at R = 2, lets the noise
        of the others grow at R = 4. At least a rounding unit a source is taken, so that coils may depend on each other.

    Returns:
      `[R - 1, c, c, *kernel]` complex: line after the sampled one, target coil, source coil, and offsets of the source. For `grappa`.

    Raises:
      ValueError: for calibration data of other than three axes, an acceleration below 1 or not whole, a kernel that does not fit into the
        calibration lines, a negative regularisation.

    Reference:
      Griswold et al. (2002), GRAPPA, https://doi.org/10.1002/mrm.10171, with several blocks of lines in one fit.
    """
    calibration = linalg.complex_of(calibration)
    if calibration.ndim != 3:
        raise ValueError(f"calibration data of grappa_weights are {list(calibration.shape)}, [c, h, w] is needed")
    channels, height, width = calibration.shape
    samples, lines = kernel
    reach = (lines - 1) * int(acceleration) + 1 if lines > 1 else int(acceleration)
    if acceleration != int(acceleration) or acceleration < 1:
        raise ValueError(f"acceleration of grappa_weights is {acceleration}, a whole number from 1 is needed")
    if samples < 1 or lines < 1 or height < samples or width < reach:
        least = f"{samples} samples of {reach} lines"
        raise ValueError(f"calibration data of grappa_weights are {[height, width]}, a kernel {kernel} with R = {acceleration} needs {least} or more")
    checks.nonnegative(regularisation, "regularisation of grappa_weights")
    scale = jnp.max(jnp.abs(calibration))  # numbers of order 1, whatever the unit of the data
    calibration = calibration / jnp.where(scale > 0, scale, 1)
    fits = [_fit(calibration, line, int(acceleration), kernel, regularisation) for line in range(1, int(acceleration))]
    return jnp.stack(fits) if fits else jnp.zeros((0, channels, channels, *kernel), calibration.dtype)


def first_source(line, acceleration, lines):
    """The first of the sampled lines nearest to line m behind one of them, counted in sampled lines from that one."""
    return round(line / acceleration - (lines - 1) / 2)


def _fit(calibration, line, acceleration, kernel, regularisation):
    """Weights `[c, c, *kernel]` of one missing line, by the normal equations of all places of the kernel."""
    channels, height, width = calibration.shape
    samples, lines = kernel
    offsets = acceleration * (first_source(line, acceleration, lines) + np.arange(lines)) - line  # of source lines from the target
    targets = np.arange(max(0, -offsets.min()), width - max(0, offsets.max()))
    rows = np.arange(height - samples + 1)
    windows = calibration[:, rows[:, None] + np.arange(samples)]  # [c, places, samples, w]
    sources = windows[..., targets[:, None] + offsets]  # [c, places, samples, targets, lines]
    sources = jnp.transpose(sources, (1, 3, 0, 2, 4)).reshape(rows.size * targets.size, -1)
    wanted = jnp.transpose(calibration[:, rows + samples // 2][..., targets], (1, 2, 0)).reshape(-1, channels)
    gram = sources.conj().T @ sources
    size = jnp.real(jnp.trace(gram)) / gram.shape[0]
    least = gram.shape[0] * float(jnp.finfo(size.dtype).eps)  # rounding of the zero eigenvalues
    ridge = jnp.where(size > 0, jnp.maximum(regularisation, least) * size, 1) * jnp.eye(gram.shape[0], dtype=gram.dtype)
    weights = jnp.linalg.solve(gram + ridge, sources.conj().T @ wanted)
    return weights.T.reshape(channels, channels, samples, lines)
