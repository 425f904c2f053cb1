"""Spiral trajectory within the limits of a gradient system."""

import math

import jax.numpy as jnp
import numpy as np

from medjax.physics.larmor import gamma_bar

_GAMMA = 1e6 * gamma_bar("1H")  # [Hz/T]
_FINE = 16  # steps of the design a sample


def spiral_waveform(size, fov, num_interleaves, max_gradient=40.0, max_slew=150.0, dwell_time=4e-6, density=(1.0,)):
    r"""Time-optimal spiral for a field of view that may vary along the radius, limited by slew rate, gradient and sampling.

    With the field of view :math:`F(r) = \text{fov} \sum_i d_i (r / r_{\max})^i` and L interleaves the path is

    .. math::
        k = r e^{i \theta}, \quad \theta' = \frac{2 \pi}{L} F(r) r', \qquad
        |k'| \leq \gamma \min\Bigl(G_{\max}, \frac{1}{\gamma F \, \Delta t}\Bigr), \quad |k''| \leq \gamma S_{\max}

    and r'' is, at every instant, the largest that the limits allow: the larger root of :math:`|k''|^2 = (\gamma S_{\max})^2`, quadratic in r''.
    Designed in numpy when it is built:
    its arguments cannot be traced.

    Args:
      size: n, matrix size of the image; r_max = n / (2 fov).
      fov: field of view [mm].
      num_interleaves: L.
      max_gradient: G_max [mT/m], of the magnitude over both axes, so that any rotation is allowed.
      max_slew: S_max [T/m/s], likewise.
      dwell_time: of the samples [s].
      density: coefficients d_i; (1,) is Archimedean, (1, -0.5) halves the field of view at the edge of k-space.

    Returns:
      trajectory `[L, m, 2]`, (k_y, k_x) in cycles per field of view `fov`, and times `[m]` [s] since the centre of k-space; its last sample has |k|
      just below n / 2.

    Raises:
      ValueError: when a limit or size is not positive, or the field of view is not positive everywhere in [0, r_max].

    Reference:
      Hargreaves' variable-density spiral design, https://mrsrl.stanford.edu/~brian/vdspiral/; Glover (1999),
      https://doi.org/10.1002/(SICI)1522-2594(199908)42:2<412::AID-MRM25>3.0.CO;2-U, for the two regimes of the uniform case.
    """
    limits = {
        "size": size,
        "fov": fov,
        "num_interleaves": num_interleaves,
        "max_gradient": max_gradient,
        "max_slew": max_slew,
        "dwell_time": dwell_time,
    }
    if any(not value > 0 for value in limits.values()):
        raise ValueError(f"spiral_waveform needs positive sizes and limits, got {limits}")
    if np.polyval(density[::-1], np.linspace(0, 1, 1001)).min() <= 0:
        raise ValueError(f"spiral_waveform needs a field of view that is positive for all radii, got coefficients {density}")
    metres = fov * 1e-3
    edge = size / (2 * metres)
    radius, angle = _design(edge, [metres * d for d in density], num_interleaves, _GAMMA * max_gradient * 1e-3, _GAMMA * max_slew, dwell_time)
    turned = angle[None, :] + 2 * np.pi * np.arange(num_interleaves)[:, None] / num_interleaves
    trajectory = metres * radius[None, :, None] * np.stack([np.sin(turned), np.cos(turned)], axis=-1)
    return jnp.asarray(trajectory, float), jnp.asarray(dwell_time * np.arange(len(radius)), float)


def _design(edge, coefficients, num_interleaves, speed_limit, slew_limit, dwell_time):
    """Radius [1/m] and angle [rad] at every sample, up to the edge; r(t) and theta(t) by small steps of constant second derivatives."""
    dt = dwell_time / _FINE
    turn = 2 * math.pi / num_interleaves
    r, speed, angle, spin = 0.0, 0.0, 0.0, 0.0
    radii, angles = [], []
    step = 0
    while r < edge:
        if step % _FINE == 0:
            radii.append(r)
            angles.append(angle)
        fov = sum(c * (r / edge) ** i for i, c in enumerate(coefficients))
        slope = sum(i * c * (r / edge) ** (i - 1) / edge for i, c in enumerate(coefficients) if i)
        q = turn * fov
        fastest = min(speed_limit, 1 / (fov * dwell_time)) / math.sqrt(1 + (q * r) ** 2)
        acceleration = (fastest - speed) / dt if speed > fastest else min(_largest(r, speed, q, turn * slope, slew_limit), (fastest - speed) / dt)
        r += speed * dt + 0.5 * acceleration * dt**2
        speed += acceleration * dt
        spin_next = turn * sum(c * (r / edge) ** i for i, c in enumerate(coefficients)) * speed
        angle += 0.5 * (spin + spin_next) * dt
        spin = spin_next
        step += 1
    return np.array(radii), np.array(angles)


def _largest(r, v, q, dq, slew_limit):
    """Largest r'' with |k''| <= limit: k'' = (r'' - r w^2) + i (2 v w + r w'), w = q v, w' = dq v^2 + q r''."""
    centrifugal, coriolis = r * (q * v) ** 2, 2 * q * v**2 + r * dq * v**2
    # (r'' - centrifugal)^2 + (coriolis + r q r'')^2 = limit^2
    a, b, c = 1 + (r * q) ** 2, coriolis * r * q - centrifugal, centrifugal**2 + coriolis**2 - slew_limit**2
    return (-b + math.sqrt(max(b * b - a * c, 0.0))) / a
