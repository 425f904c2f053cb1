"""Changes of training images that leave them possible: functions `draw -> draw`, of `key -> image [h, w, ...]`, named by `Train.augment`.

They run where the training runs, from the key of the step, so that a run that goes on draws what it would have drawn.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def mirrored(draw: Callable, axis: int = 1, probability: float = 0.5) -> Callable:
    """Draws mirrored along an axis, 1 for left and right, as often as `probability` says."""

    def fn(key):
        key_image, key_turn = jax.random.split(key)
        image = draw(key_image)
        return jnp.where(jax.random.bernoulli(key_turn, probability), jnp.flip(image, axis), image)

    return fn


def moved(draw: Callable, degrees: float = 10.0, scale: float = 1.1, shift: float = 0.05, outside: float | None = 0.0) -> Callable:
    r"""Draws turned, magnified and shifted, in one resampling by cubic convolution, which blurs less than a linear one.

    .. math:: x'(c + r) = x(c + s^{-1} R(\phi)^T r - t)

    Args:
      draw: `key -> image`.
      degrees: the largest turn, either way; turns are as likely as each other.
      scale: the largest magnification s, at least 1; its logarithm is uniform between this and one over it.
      shift: the largest t along each axis, as a share of its side.
      outside: what is beyond the image, -1000 for CT in HU; None for its mirror image, where it fills its frame as radiographs do.

    Reference:
      Keys (1981), Cubic convolution interpolation for digital image processing, eq. 15, a = -1/2.
    """

    def fn(key):
        key_image, key_turn, key_scale, key_shift = jax.random.split(key, 4)
        image = draw(key_image)
        sides, kind = jnp.array(image.shape[:2], image.real.dtype), image.real.dtype
        turn = jnp.deg2rad(degrees) * jax.random.uniform(key_turn, (), kind, -1, 1)
        size = jnp.exp(jnp.log(scale) * jax.random.uniform(key_scale, (), kind, -1, 1))
        t = shift * sides * jax.random.uniform(key_shift, (2,), kind, -1, 1)
        centre = (sides - 1) / 2
        rows, columns = (jnp.arange(n, dtype=kind) - c for n, c in zip(image.shape[:2], centre, strict=True))
        down = (jnp.cos(turn) * rows[:, None] + jnp.sin(turn) * columns[None]) / size
        right = (jnp.cos(turn) * columns[None] - jnp.sin(turn) * rows[:, None]) / size
        return cubic(image, jnp.stack([down + centre[0] - t[0], right + centre[1] - t[1]]), outside)

    return fn


def elastic(draw: Callable, amplitude: float = 2.0, num_waves: int = 4, outside: float | None = 0.0) -> Callable:
    r"""Draws bent by a smooth random displacement, sine waves of random coefficients along both axes.

    .. math::
        x'(n) = x(n + u(n)), \quad
        u_a = A \sum_{j, k = 1}^{K} \frac{c_{ajk}}{j^2 + k^2} \sin\frac{\pi j n_0}{h} \sin\frac{\pi k n_1}{w}, \quad c \sim N(0, 1)

    It is 0 at the border. Nothing folds for an amplitude below a quarter of h / (pi K).

    Args:
      draw: `key -> image`.
      amplitude: A [pixels].
      num_waves: K.
      outside: what is beyond the image, see `moved`.
    """

    def fn(key):
        key_image, key_waves = jax.random.split(key)
        image = draw(key_image)
        h, w, kind = *image.shape[:2], image.real.dtype
        waves = jnp.arange(1, num_waves + 1, dtype=kind)
        sines = [jnp.sin(jnp.pi * waves[:, None] * jnp.arange(n, dtype=kind)[None] / (n - 1)) for n in (h, w)]
        c = jax.random.normal(key_waves, (2, num_waves, num_waves), kind) / (waves[None, :, None] ** 2 + waves[None, None] ** 2)
        u = amplitude * jnp.einsum("ajk,jh,kw->ahw", c, *sines)
        places = jnp.stack(jnp.meshgrid(jnp.arange(h, dtype=kind), jnp.arange(w, dtype=kind), indexing="ij"))
        return cubic(image, places + u, outside)

    return fn


def recalibrated(draw: Callable, gain: float = 0.03, zero: float = -1000.0) -> Callable:
    r"""Draws whose values are stretched about `zero`, which stays, as scanners and windows differ.

    .. math:: x' = z + (1 + g) (x - z), \quad g \sim U(-G, G)

    Args:
      draw: `key -> image`.
      gain: G.
      zero: z, -1000 for air in HU.
    """

    def fn(key):
        key_image, key_gain = jax.random.split(key)
        image = draw(key_image)
        g = gain * jax.random.uniform(key_gain, (), image.real.dtype, -1, 1)
        return zero + (1 + g) * (image - zero)

    return fn


def windowed(
    draw: Callable,
    centre: tuple[float, float] = (-100.0, 100.0),
    width: tuple[float, float] = (300.0, 2000.0),
    onto: tuple[float, float] | None = None,
) -> Callable:
    r"""Draws seen through a window of random centre and width, beyond which nothing is told apart.

    .. math:: x' = \min(\max(x, c - w / 2), c + w / 2), \quad c \sim U(c_0, c_1), \quad \log w \sim U(\log w_0, \log w_1)

    Args:
      draw: `key -> image`, real.
      centre: the least and the largest c, HU for CT.
      width: the least and the largest w, above 0.
      onto: what the ends of the window become, as on a screen; None keeps the unit.

    Raises:
      ValueError: for a width that is not above 0, or a range that is none.
    """
    if not (0 < width[0] <= width[1] and centre[0] <= centre[1]):
        raise ValueError(f"windowed needs centres from least to largest and widths above 0, got {tuple(centre)} and {tuple(width)}")

    def fn(key):
        key_image, key_centre, key_width = jax.random.split(key, 3)
        image = draw(key_image)
        c = jax.random.uniform(key_centre, (), image.dtype, *centre)
        w = jnp.exp(jax.random.uniform(key_width, (), image.dtype, jnp.log(width[0]), jnp.log(width[1])))
        seen = jnp.clip(image, c - w / 2, c + w / 2)
        return seen if onto is None else onto[0] + (onto[1] - onto[0]) * ((seen - c) / w + 0.5)

    return fn


def cubic(image, places, outside: float | None = 0.0):
    """`image` `[h, w, ...]` at `places` `[2, ...]` [pixels], by Keys' cubic convolution, `outside` beyond its border, its mirror image for None."""
    below = jnp.floor(places).astype(jnp.int32)
    rest = places - below
    level = 0.0 if outside is None else outside
    padded = jnp.pad(image - level, ((1, 1), (1, 1), *((0, 0),) * (image.ndim - 2)))  # one ring of zeros: what is clipped lands there
    total = 0
    for i in range(-1, 3):
        row = _index(below[0] + i, image.shape[0], outside is None)
        for j in range(-1, 3):
            column = _index(below[1] + j, image.shape[1], outside is None)
            weight = _keys(rest[0] - i) * _keys(rest[1] - j)
            total = total + weight.reshape(*weight.shape, *(1,) * (image.ndim - 2)) * padded[row, column]
    return total + level


def _index(at, size, reflected):
    """Where pixel `at` of an axis is in what is padded by one."""
    if reflected:
        turned = at % (2 * size)
        return jnp.minimum(turned, 2 * size - 1 - turned) + 1
    return jnp.clip(at, -1, size) + 1


def _keys(t):
    """Keys' kernel."""
    t = jnp.abs(t)
    return jnp.where(t < 1, (1.5 * t - 2.5) * t**2 + 1, jnp.where(t < 2, ((-0.5 * t + 2.5) * t - 4) * t + 2, 0))
