"""Counting statistics of an emission scan."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import xlogy

from medjax.typing import Noise


def emission_counts(duration=1.0, randoms=0.0, scatter=0.0, floor=0.0) -> Noise:
    r"""Poisson counts of true, random and scattered coincidences, with the expected background taken off.

    .. math:: N \sim \mathrm{Poisson}(T (z + r + s)), \quad y = N / T - (r + s)

    so E[y] = z, while the likelihood is that of the counts N = T (y + r + s), which y keeps. Randoms and scatter are expectations (from delayed
    windows, singles or a simulation), not measured counts.

    Args:
      duration: T > 0, scan time in the unit of 1 / z: counts a unit of rate.
      randoms: r >= 0, expected rate of random coincidences; a scalar or like z.
      scatter: s >= 0, expected rate of scattered ones; a scalar or like z.
      floor: expected counts f below which the log likelihood goes on as a parabola, with the slope N / f - 1 that it has there and the curvature
        max(N, 1) / f^2: for samplers, whose images are negative somewhere and have to be pushed up from there. 1 is usual; 0 for none.

    Returns:
      A `Noise` over rates z >= 0, of any shape. `sigma(y)` is sqrt(max(N, 1)) / T. Where z + r + s is zero the counts are zero for certain: the
      likelihood of others is -inf, without NaN in its gradient.

    Raises:
      ValueError: where a value is known and out of range.

    Reference:
      Shepp & Vardi (1982), Maximum likelihood reconstruction for emission tomography, https://doi.org/10.1109/TMI.1982.4307558
    """
    ranges = (("duration", duration, 1e-12, 1e12), ("randoms", randoms, 0, 1e12), ("scatter", scatter, 0, 1e12), ("floor", floor, 0, 1e12))
    for name, value, least, most in ranges:
        if not isinstance(value, Tracer) and not np.all((np.asarray(value) >= least) & (np.asarray(value) <= most)):
            raise ValueError(f"emission_counts needs {name} from {least:g} to {most:g}, got values outside")

    if not isinstance(floor, int | float):
        raise ValueError(f"emission_counts needs a known number for floor, got {type(floor).__name__}")

    def background(z):
        return jnp.broadcast_to(jnp.asarray(randoms + scatter, z.dtype), z.shape)

    def sample(key, z):
        counts = jax.random.poisson(key, duration * jnp.maximum(z + background(z), 0)).astype(z.dtype)
        return counts / duration - background(z)

    def sigma(y):
        return jnp.sqrt(jnp.maximum(duration * (y + background(y)), 1)) / duration

    def log_likelihood(y, z):
        counts, mean = jnp.maximum(duration * (y + background(y)), 0), duration * (z + background(z))
        possible = mean > 0
        terms = jnp.where(possible, xlogy(counts, jnp.where(possible, mean, 1)) - mean, -mean)
        if floor > 0:
            below = jnp.minimum(mean - floor, 0)
            terms = xlogy(counts, jnp.maximum(mean, floor)) - jnp.maximum(mean, floor)
            return jnp.sum(terms + (counts / floor - 1) * below - jnp.maximum(counts, 1) * (below / floor) ** 2 / 2)
        certain = counts < 0.5  # whole numbers, up to the rounding of y
        return jnp.sum(jnp.where(possible | certain, terms, -jnp.inf))

    return Noise(sample, sigma, log_likelihood)
