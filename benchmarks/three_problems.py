"""Deblurring, emission tomography and MRI of a beating heart, for choosing_a_baseline.py: problems that no config holds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from medjax import linalg
from medjax.functionals.group_l1 import group_l1
from medjax.functionals.locally_low_rank import locally_low_rank
from medjax.functionals.moreau import prox_conjugate
from medjax.functionals.poisson_data import poisson_data
from medjax.functionals.total_generalized_variation import total_generalized_variation
from medjax.functionals.total_variation import total_variation
from medjax.functionals.wavelet_l1 import wavelet_l1
from medjax.iterate import iterate
from medjax.operators.algebra import compose, each
from medjax.operators.blur import blur
from medjax.operators.fbp import fbp
from medjax.operators.gaussian_kernel import gaussian_kernel
from medjax.operators.gradient import gradient
from medjax.operators.parallel_beam import parallel_beam
from medjax.operators.pet import pet
from medjax.operators.sense import sense
from medjax.operators.uniform_views import uniform_views
from medjax.operators.wavelet import wavelet
from medjax.operators.wiener import wiener
from medjax.phantoms.brain import LABELS, brain
from medjax.phantoms.shepp_logan import shepp_logan
from medjax.physics.birdcage import birdcage
from medjax.physics.emission_counts import emission_counts
from medjax.physics.random_lines import random_lines
from medjax.solvers.analysis_reconstruction import analysis_reconstruction
from medjax.solvers.cg_reconstruction import cg_reconstruction
from medjax.solvers.cycle_spinning_reconstruction import cycle_spinning_reconstruction
from medjax.solvers.fista_reconstruction import fista_reconstruction
from medjax.solvers.mlem import mlem
from medjax.solvers.osem import osem
from medjax.solvers.pdhg import pdhg
from medjax.solvers.tv_reconstruction import tv_reconstruction

SIZE = 128
MU_HEAD = 0.0096  # [1/mm], water at 511 keV


class Candidate(NamedTuple):
    """A baseline: what is tuned, the values tried, what else is fixed, and `(value, A, y, sigma) -> x`."""

    tuned: str
    values: tuple
    steps: str
    run: Callable


class Problem(NamedTuple):
    """A title, the unit of the image, its pixels [mm], `key -> (truth, A, y, sigma)`, and candidates by name."""

    title: str
    unit: str
    pixel_size: float
    draw: Callable
    candidates: dict[str, Candidate]


def deblurring():
    """A brain image under a Gaussian of 1.5 pixels and noise of .01 of its brightest pixel."""
    A, W = blur(gaussian_kernel(1.5, (13, 13)), (SIZE, SIZE)), wavelet((SIZE, SIZE), "db4", 4)

    def draw(key):
        image = jnp.abs(brain(key, size=SIZE, contrast="t1", phase=False).image)
        image, sigma = image / jnp.max(image), 0.01
        return image, A, A(image) + sigma * jax.random.normal(jax.random.fold_in(key, 1), image.shape), sigma

    def spun(value, A, y, sigma):
        return iterate(cycle_spinning_reconstruction(A, y, sigma, wavelet_l1(W, value, free_levels=4), 16), y, 200).x

    strengths = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    return Problem(
        "deblurring, Gaussian of 1.5 px, 1 % noise",
        "a.u.",
        220 / SIZE,
        draw,
        {
            "blurred": Candidate("-", (0,), "-", lambda value, A, y, sigma: y),
            "wiener": Candidate("noise to signal", (0.001, 0.003, 0.01, 0.03, 0.1, 0.3), "-", lambda value, A, y, sigma: wiener(A, y, value)),
            "cg": Candidate(
                "strength",
                (10.0, 30.0, 100.0, 300.0, 1000.0),
                "50",
                lambda value, A, y, sigma: iterate(cg_reconstruction(A, y, sigma, value, gradient()), y, 50).x,
            ),
            "l1_wavelet": Candidate("strength", strengths, "200", spun),
            "tv": Candidate("strength", strengths, "300", lambda v, A, y, sigma: iterate(tv_reconstruction(A, y, sigma, v, True), y, 300).x),
            "tgv": Candidate(
                "strength",
                strengths,
                "100",
                lambda v, A, y, sigma: iterate(fista_reconstruction(A, y, sigma, total_generalized_variation(v, max_steps=30)), y, 100).x,
            ),
        },
    )


def emission():
    """FDG of a brain: activity 4 : 1 in grey and white matter, attenuation known, resolution 5 mm, 1e5 true and 2.5e4 other counts."""
    pixel = 256 / SIZE
    P = parallel_beam(SIZE, uniform_views(96), pixel_size=pixel, detector_spacing=pixel, model="joseph")
    smooth = blur(gaussian_kernel(5.0 / 2.355 / pixel, (13, 13)), (SIZE, SIZE), "zero")
    uptake = {"grey": 4.0, "white": 1.0, "caudate": 4.5, "putamen": 4.5, "pallidum": 3.0, "thalamus": 4.0, "scalp": 0.6, "skull": 0.4, "tumour": 6.0}
    table = jnp.zeros(len(LABELS)).at[jnp.array([LABELS[name] for name in uptake])].set(jnp.array(list(uptake.values())))

    def draw(key):
        head = brain(key, size=SIZE, field_of_view=256.0, phase=False)
        activity, mu = table[head.labels], MU_HEAD * (head.labels > 0)
        A = compose(pet(P, mu), smooth)
        rates = A(activity)
        factor = 1e5 / jnp.sum(rates)
        others = 0.25 * factor * jnp.mean(rates)
        counts = emission_counts(randoms=others).sample(jax.random.fold_in(key, 1), factor * rates) + others
        return activity, compose(pet(P, mu, factor), smooth), counts, others

    ones = jnp.ones((SIZE, SIZE))

    def direct(cutoff, A, y, others):
        return fbp(A.outer.projector, (y - others) / A.outer.factors, "hann", cutoff)

    def smoothed(width, A, y, others):
        x = iterate(mlem(A, y, others), ones, 100).x
        return blur(gaussian_kernel(width / 2.355 / pixel, (25, 25)), (SIZE, SIZE), "zero")(x)

    def penalised(strength, A, y, others):
        return iterate(penalised_counts(A, y, others, strength), iterate(osem(A, y, 8, others), ones, 1).x, 300).x

    steps = (10, 20, 40, 80)
    return Problem(
        "PET, 1e5 counts",
        "a.u.",
        pixel,
        draw,
        {
            "fbp": Candidate("cutoff", (0.2, 0.3, 0.4, 0.5, 0.7, 1.0), "-", direct),
            "mlem": Candidate("steps", steps, "tuned", lambda n, A, y, others: iterate(mlem(A, y, others), ones, n).x),
            "osem, 8 subsets": Candidate("steps", (1, 2, 4, 8, 16), "tuned", lambda n, A, y, others: iterate(osem(A, y, 8, others), ones, n).x),
            "mlem, smoothed": Candidate("FWHM [mm]", (4.0, 5.0, 7.0, 10.0, 14.0), "100", smoothed),
            "tv, Poisson": Candidate("strength", (0.03, 0.1, 0.3, 1.0, 3.0), "300", penalised),
        },
    )


def penalised_counts(A, y, others, strength):
    """Total variation of x >= 0 beside the likelihood of counts: both terms dualised, steps after Pock and Chambolle (2011), alpha = 1."""
    x_like = jax.eval_shape(A.adjoint, y)
    data, edges = prox_conjugate(poisson_data(y, others)), prox_conjugate(group_l1(strength, 0))
    columns = jnp.maximum(A.adjoint(jnp.ones_like(y)), 1e-6) + 4
    rows = jnp.maximum(A(jnp.ones(x_like.shape, x_like.dtype)), 1e-6)
    return pdhg(
        lambda x: (A(x), linalg.difference(x)),
        lambda dual: A.adjoint(dual[0]) + linalg.difference_adjoint(dual[1]),
        lambda v, _: jnp.maximum(v, 0),
        lambda dual, steps: (data(dual[0], steps[0]), edges(dual[1], steps[1])),
        1 / columns,
        (1 / rows, jnp.full((), 0.5)),
    )


def beating_heart(size=96, frames=16):
    """A heart whose wall thickens and whose blood brightens, 8 coils, 8x random lines, other ones in each frame."""
    maps = birdcage((size, size), 8).astype(jnp.complex64)
    masks = [random_lines(jax.random.key(t), (size, size), 8.0, 0.06).astype(jnp.float32) for t in range(frames)]
    A = each(*[sense(maps, mask) for mask in masks])
    v, u = (jnp.mgrid[:size, :size] - size / 2 + 0.5) / (size / 2)
    time = jnp.arange(frames)[:, None, None] / frames

    def disc(radius, x, y):
        return jax.nn.sigmoid((radius - jnp.hypot(u - x, v - y)) * size / 2)

    def draw(key):
        a, b, c, phase = jax.random.uniform(key, (4,))
        beat = 0.5 + 0.5 * jnp.cos(2 * jnp.pi * (time - c))
        x, y = 0.3 * a - 0.15, 0.3 * b - 0.15
        inner, outer = disc(0.13 + 0.09 * beat, x, y), disc(0.28 + 0.05 * beat, x, y)
        blood = 0.5 + 0.5 * jax.nn.sigmoid(12 * (time - 0.4))
        body = shepp_logan(size).image[None]
        image = jnp.where(outer > 0, body * (1 - outer) + 0.35 * outer * (1 - inner) + blood * inner, body)
        image = image * jnp.exp(1j * (phase + 1.5 * u * a + 1.5 * v * b))[None]
        image, sigma = image.astype(jnp.complex64), 0.01
        noise = jax.random.normal(jax.random.fold_in(key, 1), (2, frames, 8, size, size))
        return image, A, A(image) + jnp.stack(masks)[:, None] * sigma * (noise[0] + 1j * noise[1]).astype(jnp.complex64), sigma

    start = jnp.zeros((frames, size, size), jnp.complex64)

    def alone(strength, A, y, sigma):
        return iterate(cg_reconstruction(A, y, sigma, strength), start, 30).x

    def low_rank(strength, A, y, sigma):
        return iterate(cycle_spinning_reconstruction(A, y, sigma, locally_low_rank(strength, 8), 8, step_size=sigma**2), start, 60).x

    def in_time(strength, A, y, sigma):
        return iterate(analysis_reconstruction(A, y, sigma, InTime(), strength, step_size=sigma**2, K_norm=2.0), start, 60).x

    def in_all(strength, A, y, sigma):
        return iterate(fista_reconstruction(A, y, sigma, total_variation(strength, 10, num_axes=3), sigma**2), start, 60).x

    strengths = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
    return Problem(
        "MRI of a beating heart, 16 frames, 8 coils, 8x",
        "a.u.",
        320 / size,
        draw,
        {
            "zero_filled": Candidate("-", (0,), "-", lambda value, A, y, sigma: A.adjoint(y)),
            "cg": Candidate("strength", (1.0, 10.0, 100.0, 1000.0), "30", alone),
            "tv, in space and time": Candidate("strength", strengths, "60", in_all),
            "tv, in time": Candidate("strength", strengths, "60", in_time),
            "locally_low_rank": Candidate("strength", strengths, "60", low_rank),
        },
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class InTime:
    """Differences along the first axis."""

    def __call__(self, x):
        """`[t, h, w]` -> `[t - 1, h, w]`."""
        return x[1:] - x[:-1]

    def adjoint(self, p):
        """`[t - 1, h, w]` -> `[t, h, w]`."""
        return jnp.pad(p, ((1, 0), (0, 0), (0, 0))) - jnp.pad(p, ((0, 1), (0, 0), (0, 0)))
