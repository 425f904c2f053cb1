"""Echo-planar trajectory and the time of each of its samples."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def echo_planar(
    shape, echo_spacing, acceleration=1, num_shots=1, partial_fourier=1.0, num_samples=None, ramp_time=0.0, echo_time=0.0, shift_echoes=True
):
    r"""All lines of an EPI scan in the order of their acquisition, read alternately up and down.

    The lines run along k_y (first axis); blips step along k_x, as in our masks, from negative to positive. Echo e of shot s is line

    .. math::
        k_x = k_{\mathrm{first}} + R (e N_s + s), \qquad
        t = T_E + \Bigl( e - e_0 + \frac{s - s_0}{N_s} + \frac{i - i_0}{m} \Bigr) \, t_{\mathrm{esp}}

    where sample i_0 of echo e_0 of shot s_0 is k = 0, and the term of the shots is present with `shift_echoes`. Time is counted at one dwell time
    :math:`t_{\mathrm{esp}} / m` a sample, the blips taking none.

    Args:
      shape: (h, w): h samples a line at full resolution, w lines of the full grid.
      echo_spacing: t_esp [s], the time of one line, ramps included; may be traced and differentiated.
      acceleration: R, every R-th line, an integer; k_x = 0 is always among them.
      num_shots: N_s, interleaves.
      partial_fourier: fraction of the lines, in (1/2, 1], that is acquired; the first ones are left out.
      num_samples: of a line, h by default.
      ramp_time: duration of each ramp of the trapezoid readout gradient [s], in [0, t_esp / 2); samples are equally spaced in time, also on the
        ramps. May be traced.
      echo_time: T_E [s], when k = 0 is passed; may be traced and differentiated.
      shift_echoes: delay each shot in proportion, so that time is a smooth function of k_x.

    Returns:
      trajectory `[num_shots, num_echoes, num_samples, 2]`, (k_y, k_x) in cycles per field of view, and times `[num_shots, num_echoes, num_samples]`
      [s]. With no ramps and h samples all points lie on the Cartesian grid, at index k + (h // 2, w // 2).

    Raises:
      ValueError: when R, the shots or the fraction lie outside their range, a known echo spacing is not positive or echo time not finite, the ramps
        fill the echo spacing, or the lines do not come out even over the shots.

    Reference:
      Mansfield (1977), Multi-planar image formation using NMR spin echoes, https://doi.org/10.1088/0022-3719/10/3/004
    """
    height, width = shape
    samples = height if num_samples is None else num_samples
    counts = not 1 <= acceleration <= width or acceleration % 1 or num_shots < 1 or num_shots % 1
    if counts or not 0.5 < partial_fourier <= 1:
        found = f"{acceleration}, {num_shots}, {partial_fourier}"
        raise ValueError(f"echo_planar needs integers 1 <= R <= {width}, shots >= 1 and 1/2 < partial_fourier <= 1, got {found}")
    if not isinstance(echo_spacing, Tracer) and not 0 < echo_spacing < np.inf:
        raise ValueError(f"echo_planar needs an echo_spacing > 0 [s], got {echo_spacing}")
    if not isinstance(echo_time, Tracer) and not np.isfinite(echo_time):
        raise ValueError(f"echo_planar needs a finite echo_time [s], got {echo_time}")
    lines = _lines(width, int(acceleration), num_shots, partial_fourier)
    centre_echo, centre_shot = (int(i[0]) for i in np.nonzero(lines == 0))
    half = samples // 2
    ramp = ramp_time / echo_spacing
    if not isinstance(ramp, Tracer) and not 0 <= ramp < 0.5:
        raise ValueError(f"echo_planar needs ramps shorter than half of the echo spacing, got {ramp_time} s of {echo_spacing} s")
    k = height * (_area(jnp.arange(samples) / samples, ramp) - _area(half / samples, ramp))
    echo, shot = np.arange(lines.shape[0]), np.arange(num_shots)
    backwards = (echo % 2 == 1)[:, None]
    k = jnp.where(backwards, k[None, ::-1], k[None, :])
    ky = jnp.broadcast_to(k[None], (num_shots, *k.shape))
    kx = jnp.broadcast_to(jnp.asarray(lines.T, k.dtype)[:, :, None], ky.shape)
    delay = (shot - centre_shot) / num_shots * shift_echoes
    zero = half if centre_echo % 2 == 0 else samples - 1 - half
    inside = (jnp.arange(samples) - zero) / samples
    times = echo_time + echo_spacing * ((echo - centre_echo)[None, :, None] + delay[:, None, None] + inside[None, None, :])
    return jnp.stack([ky, kx], axis=-1), times


def _lines(width, acceleration, num_shots, partial_fourier):
    """k_x of `[echo, shot]`, every R-th line and always 0."""
    k = np.arange(width) - width // 2
    skipped = width - round(partial_fourier * width)
    k = k[skipped:]
    k = k[k % acceleration == 0]
    if not np.any(k == 0) or len(k) % num_shots:
        raise ValueError(f"echo_planar needs a number of lines that its shots divide, got {len(k)} lines and {num_shots} shots")
    return k.reshape(-1, num_shots)


def _area(u, ramp):
    """Area under a trapezoid of unit length and area up to u, its ramps of length `ramp`."""
    safe = jnp.where(ramp > 0, ramp, 1)
    height = 1 / (1 - ramp)
    rising = jnp.where(u < ramp, height * u**2 / (2 * safe), height * (u - ramp / 2))
    return jnp.where(u > 1 - ramp, 1 - height * (1 - u) ** 2 / (2 * safe), rising)
