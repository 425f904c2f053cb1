"""How good an answer is, as it goes into reports."""

import jax
import jax.numpy as jnp

from medjax.experiment.problem import Problem
from medjax.experiment.reconstruct import residual
from medjax.metrics.coverage import coverage
from medjax.metrics.nmse import nmse
from medjax.metrics.psnr import psnr
from medjax.metrics.ssim import ssim


def magnitude(x):
    """`[h, w]` as metrics see it: mu / mu_water for CT, the magnitude for MRI's `[h, w, 2]`."""
    return x if x.ndim == 2 else jnp.sqrt(jnp.sum(x**2, -1))


def assess(problem: Problem, x) -> dict[str, jax.Array]:
    """psnr [dB], ssim and nmse of an estimate where the truth is known, and the residual against the noise level."""
    found = {"residual": residual(problem.A, x, problem.y, problem.sigma_y)}
    if problem.truth is None:
        return found
    estimate, truth = magnitude(x), magnitude(problem.truth)
    return {"psnr": psnr(estimate, truth), "ssim": ssim(estimate, truth), "nmse": nmse(estimate, truth), **found}


def calibration(problem: Problem, samples) -> dict[str, jax.Array]:
    """Coverage of 90 % intervals where the truth is known, and the mean posterior standard deviation; nothing for a single sample."""
    if len(samples) < 2:
        return {}
    shown = jax.vmap(magnitude)(samples)
    found = {"posterior_std": jnp.sqrt(jnp.mean(jnp.var(shown, 0, ddof=1)))}
    if problem.truth is None:
        return found
    truth = magnitude(problem.truth)
    error = jnp.sqrt(jnp.mean((jnp.mean(shown, 0) - truth) ** 2))
    return {"coverage": coverage(shown, truth), "rms_error": error, **found}
