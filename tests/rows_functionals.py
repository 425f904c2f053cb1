"""The contract table of functionals."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from medjax.functionals.affine_set import affine_set
from medjax.functionals.box import box
from medjax.functionals.gaussian_data import gaussian_data
from medjax.functionals.group_l1 import group_l1
from medjax.functionals.h1 import h1
from medjax.functionals.huber import huber
from medjax.functionals.l1 import l1
from medjax.functionals.l1_ball import l1_ball
from medjax.functionals.l2_ball import l2_ball
from medjax.functionals.least_squares import least_squares
from medjax.functionals.locally_low_rank import locally_low_rank
from medjax.functionals.nonnegative import nonnegative
from medjax.functionals.nuclear_norm import nuclear_norm
from medjax.functionals.poisson_data import poisson_data
from medjax.functionals.simplex import simplex
from medjax.functionals.squared_l2 import squared_l2
from medjax.functionals.tikhonov import tikhonov
from medjax.functionals.total_generalized_variation import total_generalized_variation
from medjax.functionals.total_variation import total_variation
from medjax.functionals.until_gap import until_gap
from medjax.functionals.wavelet_l1 import wavelet_l1
from medjax.operators.algebra import identity
from medjax.operators.gradient import gradient
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.wavelet import wavelet


class FunctionalRow(NamedTuple):
    """A functional and what it must be.

    make: `strength -> Functional`, or of another parameter that may not be negative (a radius, a standard deviation); called with None without one.
    shape, dtype: of x, float or complex.
    strength: the parameter, or None.
    accuracy: relative to v, how near its prox is to the true one; 0 for closed forms.
    real: that it takes real x (one made with complex parameters may not).
    """

    make: Callable[[Any], Any]
    shape: tuple[int, ...] = (6, 5)
    dtype: Any = float
    strength: float | None = 0.3
    accuracy: float = 0.0
    real: bool = True


def _array(seed, *shape, dtype=float):
    rng = np.random.default_rng(seed)
    real = rng.normal(size=shape)
    return jnp.asarray(real + 1j * rng.normal(size=shape) if dtype is complex else real)


def _fourier():
    return masked_fourier(jnp.asarray(np.random.default_rng(1).random((6, 5)) < 0.6))


VOLUME = (4, 4, 2)  # few shapes, which the tests need not compile anew
FUNCTIONALS = {
    "squared_l2": FunctionalRow(lambda s: squared_l2(s, 0.4 + 1j), dtype=complex, real=False),
    "squared_l2_weights": FunctionalRow(lambda s: squared_l2(s * jnp.arange(30.0).reshape(6, 5), _array(0, 6, 5))),
    "l1": FunctionalRow(l1),
    "l1_complex_weights": FunctionalRow(lambda s: l1(s * jnp.linspace(0, 3, 30).reshape(6, 5)), dtype=complex),
    "group_l1": FunctionalRow(lambda s: group_l1(s, (0,)), dtype=complex),
    "huber": FunctionalRow(lambda s: huber(s, 0.4), dtype=complex),
    "nonnegative": FunctionalRow(lambda _: nonnegative(), strength=None),
    "box": FunctionalRow(lambda _: box(-0.2, jnp.linspace(0, 1, 30).reshape(6, 5)), strength=None),
    "l2_ball": FunctionalRow(lambda s: l2_ball(s, 0.1), dtype=complex, strength=1.7),
    "l1_ball": FunctionalRow(l1_ball, dtype=complex, strength=3.0),
    "simplex": FunctionalRow(simplex, strength=2.0),
    "simplex_axis": FunctionalRow(lambda s: simplex(s, axis=0), strength=1.0),
    "affine_set": FunctionalRow(lambda _: affine_set(_array(0, 4, 30), _array(1, 4)), strength=None),
    "affine_set_operator": FunctionalRow(
        lambda _: affine_set(_fourier(), _fourier()(_array(1, 6, 5, dtype=complex)), 1e-12),
        dtype=complex,
        strength=None,
        accuracy=1e-9,
    ),
    "nuclear_norm": FunctionalRow(nuclear_norm, dtype=complex),
    "locally_low_rank": FunctionalRow(lambda s: locally_low_rank(s, (3, 2), (1, 0)), VOLUME, dtype=complex),
    "wavelet_l1": FunctionalRow(lambda s: wavelet_l1(wavelet(VOLUME, "db2", 1), s), VOLUME, dtype=complex),
    "wavelet_l1_channels": FunctionalRow(lambda s: wavelet_l1(wavelet((4, 4), "haar", 1), s, channels=True, free_levels=1), VOLUME),
    "tikhonov": FunctionalRow(lambda s: tikhonov(gradient(), s, _array(0, 2, 6, 5), 1e-12), dtype=complex, accuracy=1e-9),
    "least_squares": FunctionalRow(
        lambda s: least_squares(_fourier(), _array(0, 6, 5, dtype=complex), s * (1 + jnp.arange(5.0)[None] * jnp.ones((6, 1))), 1e-12),
        dtype=complex,
        accuracy=1e-9,
    ),
    "h1": FunctionalRow(h1, dtype=complex),
    "h1_volume": FunctionalRow(lambda s: h1(s, (1.0, 2.0, 0.5), 3), VOLUME),
    "gaussian_data": FunctionalRow(lambda s: gaussian_data(_array(0, 6, 5), s)),
    "poisson_data": FunctionalRow(lambda s: poisson_data(jnp.arange(30.0).reshape(6, 5) // 2, s)),
    "total_variation": FunctionalRow(lambda s: total_variation(s, 2000), accuracy=1e-5),
    "total_variation_channels": FunctionalRow(lambda s: total_variation(s, 2000), VOLUME, accuracy=1e-5),
    "total_variation_nonnegative": FunctionalRow(lambda s: total_variation(s, 2000, nonnegative=True), accuracy=1e-5),
    "total_variation_anisotropic": FunctionalRow(lambda s: total_variation(s, 2000, kind="anisotropic"), dtype=complex, accuracy=1e-5),
    "total_variation_volume": FunctionalRow(lambda s: total_variation(s, 2000, num_axes=3), VOLUME, accuracy=1e-5),
    "total_variation_tolerance": FunctionalRow(lambda s: total_variation(s, 5000, tolerance=1e-7), dtype=complex, accuracy=1e-7),
    "total_generalized_variation": FunctionalRow(lambda s: total_generalized_variation(s, 0.6, 1e-5, 20000), VOLUME, accuracy=3e-3),
}

X = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, -4.0]])
VALUES = {  # functional, x, its value by hand
    "squared_l2": (squared_l2(3.0, 1.0), X, 1.5 * (0 + 9 + 0.25 + 4 + 1 + 25)),
    "squared_l2_dead": (gaussian_data(np.array([1.0, np.nan]), np.array([2.0, np.inf])), np.array([4.0, 7.0]), 9 / 8),
    "l1": (l1(2.0), 1j * X, 2 * 10.5),
    "l1_weights": (l1(np.array([[1.0, 0, 0], [0, 0, 2.0]])), X, 9.0),
    "group_l1": (group_l1(0.5, 0), X, 0.5 * (10**0.5 + 2 + 16.25**0.5)),
    "group_l1_norm": (group_l1(1.0, (0, 1)), 1j * X, 30.25**0.5),
    "huber": (huber(2.0, 1.0), X, 2 * (0.5 + 1.5 + 0.125 + 2.5 + 3.5)),
    "box": (box(-4.0, 3.0), X, 0.0),
    "box_left": (box(-4.0, 2.9), X, np.inf),
    "nonnegative": (nonnegative(), np.abs(X), 0.0),
    "nonnegative_left": (nonnegative(), X, np.inf),
    "l2_ball": (l2_ball(30.25**0.5), X, 0.0),
    "l2_ball_left": (l2_ball(5.499), X, np.inf),
    "l1_ball": (l1_ball(10.5), 1j * X, 0.0),
    "l1_ball_left": (l1_ball(10.499), X, np.inf),
    "simplex": (simplex(8.5), np.array([[8.0, 0.0], [0.5, 0.0]]), 0.0),
    "simplex_above": (simplex(8.5), np.array([[8.0, 0.0], [0.6, 0.0]]), np.inf),
    "simplex_axis": (simplex(1.0, 1), np.array([[0.2, 0.8], [1.0, 0.0]]), 0.0),
    "simplex_below": (simplex(1.0), np.array([1.5, -0.5]), np.inf),
    "nuclear_norm": (nuclear_norm(2.0), np.diag([3.0, -4.0])[:, [1, 0]], 14.0),
    "h1": (h1(2.0, np.array([1.0, 2.0])), X, 4 + 4 + 20.25 + (9 + 6.25 + 9 + 16) / 4),
    "tikhonov": (tikhonov(gradient(), 2.0), X, 4 + 4 + 20.25 + 9 + 6.25 + 9 + 16),
    "poisson_data": (poisson_data(np.array([2.0, 0.0]), 1.0), np.array([3.0, -1.0]), 4 - 2 - 2 * np.log(2)),
    "poisson_data_least": (poisson_data(np.array([2.0, 0.0]), 1.0), np.array([1.0, -1.0]), 0.0),
    "poisson_data_zero_mean": (poisson_data(np.array([2.0]), 1.0), np.array([-1.0]), np.inf),
    "poisson_data_negative_mean": (poisson_data(np.array([0.0]), 1.0), np.array([-1.1]), np.inf),
    "total_variation_anisotropic": (total_variation(0.5, kind="anisotropic"), X, 0.5 * (2 + 2 + 4.5 + 3 + 2.5 + 3 + 4)),
}

REFUSED = {  # bad input, and the one line that says so
    lambda: total_variation(1.0, kind="l1"): "kind of total_variation is 'l1', one of isotropic, anisotropic is needed",
    lambda: box(1.0, 0.0): "box is from 1 to 0, lower <= upper is needed",
    lambda: huber(1.0, 0.0): "width of huber is 0, more than 0 is needed",
    lambda: nonnegative().prox(1j * X, 1.0): "box orders its numbers: got complex128, real ones are needed",
    lambda: poisson_data(-X): "y of poisson_data is -3, at least 0 is needed",
    lambda: least_squares(gradient(), X, 0.0): "sigma_y of least_squares is 0, more than 0 is needed",
    lambda: locally_low_rank(1.0, 0): "block of locally_low_rank is 0, at least 1 point is needed",
    lambda: affine_set(X, X): "affine_set needs B [m, n] and b [m], got [2, 3] and [2, 3]",
    lambda: h1(1.0, np.ones(3)): "h1 needs one spacing or one for each of 2 axes, got [3]",
    lambda: total_generalized_variation(1.0, 0.0): "ratio of total_generalized_variation is 0, more than 0 is needed",
    lambda: total_variation(1.0, num_steps=0): "num_steps of total_variation is 0, more than 0 is needed",
    lambda: total_variation(1.0, num_axes=7): "num_axes of total_variation is 7, 1, 2 or 3 is needed",
    lambda: h1(1.0, num_axes=0): "num_axes of h1 is 0, 1, 2 or 3 is needed",
    lambda: total_generalized_variation(1.0, max_steps=0): "max_steps of total_generalized_variation is 0, more than 0 is needed",
    lambda: tikhonov(gradient(), 1.0, max_steps=0): "max_steps of tikhonov is 0, more than 0 is needed",
    lambda: tikhonov(gradient(), 1.0, tolerance=np.nan): "tolerance of tikhonov is nan, at least 0 is needed",
    lambda: least_squares(gradient(), X, max_steps=-1): "max_steps of least_squares is -1, more than 0 is needed",
    lambda: least_squares(gradient(), X, tolerance=-1.0): "tolerance of least_squares is -1, at least 0 is needed",
    lambda: affine_set(gradient(), X, max_steps=0): "max_steps of affine_set is 0, more than 0 is needed",
    lambda: affine_set(gradient(), X, tolerance=np.nan): "tolerance of affine_set is nan, at least 0 is needed",
    lambda: until_gap(lambda i, s: s, X, np.sum, 1.0, 0, 10): "max_steps of until_gap is 0, more than 0 is needed",
    lambda: until_gap(lambda i, s: s, X, np.sum, 1.0, 10, 0): "check_every of until_gap is 0, more than 0 is needed",
    lambda: wavelet_l1(wavelet((8, 8), "haar", 2), 1.0, free_levels=-1): "free_levels of wavelet_l1 is -1, 0 to 2 is needed",
    lambda: wavelet_l1(wavelet((8, 8), "haar", 2), 1.0, free_levels=40): "free_levels of wavelet_l1 is 40, 0 to 2 is needed",
    lambda: wavelet_l1(identity(), 1.0, free_levels=-1): "free_levels of wavelet_l1 is -1, 0 to the levels of W is needed",
    lambda: wavelet_l1(identity(), 1.0, free_levels=40).prox(X, 1.0): "free_levels of wavelet_l1 is 40, coefficients [2, 3] have no such level",
}
