"""Contract rows of the posterior samplers: a new one adds a row to METHODS, and has tests/test_posteriors.py and a line in docs/calibration.md."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from medjax import lanczos, linalg
from medjax.diffusion.coupling import coupling
from medjax.diffusion.karras import karras
from medjax.guides.annealed_likelihood import annealed_likelihood
from medjax.guides.data_consistency import data_consistency
from medjax.guides.ddnm import ddnm
from medjax.guides.dds import dds
from medjax.guides.diffpir import diffpir
from medjax.guides.dps import dps
from medjax.guides.mmps import mmps
from medjax.guides.pigdm import pigdm
from medjax.guides.tmpd import tmpd
from medjax.operators.blur import blur
from medjax.operators.decomposed import decomposed
from medjax.samplers.annealed_langevin import annealed_langevin
from medjax.samplers.chain import chain
from medjax.samplers.daps import daps
from medjax.samplers.ddim import ddim
from medjax.samplers.ddrm import ddrm
from medjax.samplers.dpmpp_2m import dpmpp_2m
from medjax.samplers.fps import fps
from medjax.samplers.heun import heun
from medjax.samplers.mcg import mcg
from medjax.samplers.mcg_diff import mcg_diff
from medjax.samplers.moment_matching import moment_matching
from medjax.samplers.pnp_dm import pnp_dm
from medjax.samplers.projection import projection
from medjax.samplers.red_diff import red_diff
from medjax.samplers.renoise import renoise
from medjax.samplers.repaint import repaint
from medjax.samplers.sample import sample
from medjax.samplers.twisted_smc import twisted_smc


class PosteriorRow(NamedTuple):
    """A posterior sampler and what it does to a Gaussian prior whose posterior is known.

    make: `(A, y, sigma_y) -> (guide, kernel)`.
    num_steps: of the kernel, in the tests and in the table of docs/calibration.md.
    calls: denoiser calls a step.
    spread: bounds of its standard deviation over the exact one, on 12 pixels, and
    bias: the bound of its mean's error in exact standard deviations. Narrow ones are a theorem's; wide ones say what the method does here, so that a
        change is seen, not that it is right.
    levels: `(A, y, sigma_y, num_steps) -> sigmas`.
    particles: that a run holds, on the first axis of x; 0 for a kernel of one image.
    svd: that the operator must have one; see `prepared`.
    follows: how much of a change of the data the samples make at least, on every operator at 32 px, in
    few: steps.
    """

    make: Callable
    num_steps: int
    calls: int
    spread: tuple[float, float]
    bias: float
    levels: Callable = lambda A, y, sigma_y, num_steps: karras(num_steps, 0.01, 100.0)
    particles: int = 0
    svd: bool = False
    follows: float = 0.4
    few: int = 6


NUM = 12
PLACES = jnp.arange(NUM)
COVARIANCE = jnp.exp(-jnp.abs(PLACES[:, None] - PLACES[None, :]) / 4.0)
MEAN = jnp.sin(PLACES / 2.0)


def line(taps):
    """A blur along a line of 12 pixels."""
    return blur(taps, (NUM,))


def plain(denoise):
    """The guide of kernels that take the denoiser of the prior."""
    return denoise


def guided(make_guide, make_kernel):
    """`make` of a row of a guide."""
    return lambda A, y, sigma_y: (make_guide(A, y, sigma_y), make_kernel())


def alone(make_kernel):
    """`make` of a row of a kernel."""
    return lambda A, y, sigma_y: (plain, make_kernel(A, y, sigma_y))


def prepared(A, y, sigma_y):
    """`(A, y, sigma_y)` of the same problem with an SVD and one noise level, in units of the noise where A has none of its own."""
    if hasattr(A, "svd") and jnp.ndim(sigma_y) == 0:
        return A, y, sigma_y
    root = 1 / jnp.broadcast_to(jnp.asarray(sigma_y, linalg.real_dtype(y)), y.shape)
    return decomposed(linalg.Weighted(A, root), jax.eval_shape(A.adjoint, y).shape), root * y, 1.0


def size(A, y, sigma_y=1.0):
    """The norm of A / sigma_y."""
    return lanczos.operator_norm(linalg.Weighted(A, 1 / jnp.asarray(sigma_y)), jax.eval_shape(A.adjoint, y))


def coupled(A, y, sigma_y, num_steps):
    """Levels of split Gibbs sampling."""
    return coupling(num_steps, 0.95 / size(A, y, sigma_y), 8.0)


def draw(key, row: PosteriorRow, A, y, sigma_y, denoise, prior_mean, num_samples, num_steps=0, at_once=50):
    """`[num_samples, ...]` by the method of a row, chunks of `at_once` in one batch."""
    guide, kernel = row.make(A, y, sigma_y)
    sigmas = row.levels(A, y, sigma_y, num_steps or row.num_steps).astype(prior_mean.dtype)

    def one(key):
        key_start, key_run = jax.random.split(key)
        shape = (row.particles, *prior_mean.shape) if row.particles else prior_mean.shape
        x = prior_mean.reshape((1,) * (len(shape) - prior_mean.ndim) + prior_mean.shape) + sigmas[0] * jax.random.normal(
            key_start, shape, prior_mean.dtype
        )
        return sample(key_run, kernel, guide(denoise), sigmas, x)

    keys = jax.random.split(key, max(1, num_samples // row.particles) if row.particles else num_samples)
    samples = jax.lax.map(one, keys, batch_size=1 if row.particles else at_once)
    return samples.reshape(-1, *prior_mean.shape)


EXACT = (0.96, 1.04)
METHODS: dict[str, PosteriorRow] = {
    "mmps_heun": PosteriorRow(guided(lambda A, y, s: mmps(A, y, s, num_krylov=40), heun), 50, 2, EXACT, 0.1),
    "mmps_2m": PosteriorRow(guided(lambda A, y, s: mmps(A, y, s, num_krylov=40), dpmpp_2m), 100, 1, EXACT, 0.1),
    "mmps_ancestral": PosteriorRow(guided(lambda A, y, s: mmps(A, y, s, num_krylov=20), lambda: ddim(1.0)), 100, 1, (0.90, 1.02), 0.1),
    "moment_matching": PosteriorRow(alone(lambda A, y, s: moment_matching(A, y, s, num_krylov=30)), 20, 1, EXACT, 0.1),
    "pnp_dm": PosteriorRow(alone(lambda A, y, s: pnp_dm(A, y, s, num_krylov=20)), 100, 1, EXACT, 0.15, levels=coupled),
    "pnp_dm_uncorrected": PosteriorRow(
        alone(lambda A, y, s: pnp_dm(A, y, s, num_krylov=20, corrected=False)), 100, 1, (0.9, 1.3), 0.5, levels=coupled
    ),
    "twisted_smc": PosteriorRow(alone(lambda A, y, s: twisted_smc(A, y, s, num_krylov=60)), 20, 2, EXACT, 0.1, particles=1000),
    "mcg_diff": PosteriorRow(alone(lambda A, y, s: mcg_diff(A, y, s)), 100, 1, (0.5, 1.2), 1.0, particles=1000, svd=True),
    "dds": PosteriorRow(guided(lambda A, y, s: dds(A, y, s, num_krylov=20), lambda: ddim(0.85)), 100, 1, (0.5, 2.0), 1.5),
    "dps": PosteriorRow(guided(lambda A, y, s: dps(A, y, s, zeta=0.05 / size(A, y)), lambda: ddim(1.0)), 100, 1, (1.2, 1.8), 0.3, few=12),
    "pigdm": PosteriorRow(guided(lambda A, y, s: pigdm(A, y, s, variance=5.0), lambda: ddim(1.0)), 100, 1, (0.9, 1.2), 0.3),
    "tmpd": PosteriorRow(guided(lambda A, y, s: tmpd(A, y, s), lambda: ddim(1.0)), 100, 1, (0.9, 1.4), 1.0),
    "diffpir": PosteriorRow(guided(lambda A, y, s: diffpir(A, y, s), lambda: renoise(0.5)), 100, 1, (0.8, 1.2), 0.2),
    "ddnm": PosteriorRow(guided(lambda A, y, s: ddnm(A, y, s), lambda: ddim(0.85)), 100, 1, (0.7, 1.2), 1.0),
    "data_consistency": PosteriorRow(guided(lambda A, y, s: data_consistency(A, y, s), lambda: ddim(1.0)), 100, 1, (0.8, 1.2), 0.8),
    "annealed_likelihood": PosteriorRow(
        guided(lambda A, y, s: annealed_likelihood(A, y, s), lambda: annealed_langevin(0.2, 30)), 20, 30, (1.0, 1.4), 0.4
    ),
    "projection": PosteriorRow(alone(lambda A, y, s: chain(projection(A, y, s), ddim(1.0))), 100, 1, (0.6, 1.2), 2.0),
    "mcg": PosteriorRow(alone(lambda A, y, s: mcg(A, y, s, zeta=0.01 / size(A, y))), 100, 1, (0.6, 1.2), 1.8),
    "repaint": PosteriorRow(alone(lambda A, y, s: repaint(A, y, s, num_resamplings=5)), 20, 5, (1.1, 1.8), 2.0, svd=True),
    "ddrm": PosteriorRow(alone(lambda A, y, s: ddrm(A, y, s)), 100, 1, (0.4, 1.2), 1.5, svd=True),
    "red_diff": PosteriorRow(alone(lambda A, y, s: red_diff(A, y, s)), 100, 1, (0.1, 1.2), 0.4),
    "daps": PosteriorRow(alone(lambda A, y, s: daps(A, y, s, variance=0.5)), 20, 5, (0.5, 1.5), 1.0),
    "fps": PosteriorRow(alone(lambda A, y, s: fps(A, y, s)), 100, 1, (0.5, 1.5), 1.0, particles=5),
}
