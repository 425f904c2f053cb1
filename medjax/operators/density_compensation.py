"""Weights that undo the uneven density of samples in k-space."""

import math

import jax.numpy as jnp
from jax import lax

from medjax.operators.nufft import Nufft


def density_compensation(A: Nufft, num_steps: int = 30):
    r"""Weights of any trajectory, by iteration: the area of k-space that each sample stands for.

    .. math:: w \leftarrow w / (C w), \qquad (C w)_s = \sum_r c(k_s - k_r) \, w_r

    with c the gridding kernel convolved with itself, positive and of integral one over k-space, so a fixed point has density one wherever
    the kernel finds samples and A^H W A is close to the identity on the sampled disc. A full Cartesian trajectory has weights 1.

    Args:
      A: from `nufft`, by gridding (its trajectory, kernel and padded grid are what is used).
      num_steps: number of iterations.

    Returns:
      Positive weights `[*samples]` [cycles^d / field of view^d].

    Raises:
      ValueError: when `num_steps` is below 1.

    Reference:
      Pipe & Menon (1999), https://doi.org/10.1002/(SICI)1522-2594(199901)41:1<179::AID-MRM25>3.0.CO;2-V
    """
    if num_steps < 1:
        raise ValueError(f"density_compensation needs num_steps >= 1, got {num_steps}")
    integral = A.kernel_integral() ** 2 / math.prod(g / n for n, g in zip(A.image_size, A.grid_size, strict=True))
    weights = jnp.ones((math.prod(A.trajectory.shape[:-1]), 1), A.trajectory.dtype)

    def step(_, w):
        return w * integral / A.interpolate(A.spread(w))

    return lax.fori_loop(0, num_steps, step, weights).reshape(A.trajectory.shape[:-1])


def radial_density(trajectory):
    r"""Weights of equally spaced full spokes through the centre, in closed form: the area of the ring sector around each sample.

    .. math:: w = \frac{\pi}{n_{spokes}} |k| \, \Delta k, \qquad w = \frac{\pi}{n_{spokes}} \frac{\Delta k^2}{4} \text{ at } k = 0

    Args:
      trajectory: `[spokes, samples, 2]` [cycles a field of view], diameters with equal steps, their angles equally spread over pi.

    Returns:
      Weights `[spokes, samples]`.

    Raises:
      ValueError: when the trajectory has another shape.
    """
    trajectory = jnp.asarray(trajectory)
    if trajectory.ndim != 3 or trajectory.shape[-1] != 2 or trajectory.shape[1] < 2:
        raise ValueError(f"radial_density needs a trajectory [spokes, samples, 2], got {trajectory.shape}")
    step = jnp.linalg.norm(trajectory[:, 1:2] - trajectory[:, :1], axis=-1)
    square = jnp.sum(trajectory**2, -1)
    centre = square < (step / 4) ** 2
    radius = jnp.where(centre, step / 4, jnp.sqrt(jnp.where(centre, 1, square)))
    return math.pi / trajectory.shape[0] * radius * step
