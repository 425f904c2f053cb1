"""Derivatives of a sample for the strength of a guide or a kernel: what tuning a reconstruction by gradients needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_matrix import Dense

from medjax.diffusion.mixture import mixture, mixture_log_density
from medjax.guides.annealed_likelihood import annealed_likelihood
from medjax.guides.classifier import classifier
from medjax.guides.classifier_free import classifier_free
from medjax.guides.data_consistency import data_consistency
from medjax.guides.ddnm import ddnm
from medjax.guides.dds import dds
from medjax.guides.diffpir import diffpir
from medjax.guides.dps import dps
from medjax.guides.hybrid import hybrid
from medjax.guides.mmps import mmps
from medjax.guides.pigdm import pigdm
from medjax.operators.decomposed import decomposed
from medjax.samplers.chain import chain
from medjax.samplers.daps import daps
from medjax.samplers.ddim import ddim
from medjax.samplers.ddrm import ddrm
from medjax.samplers.dds_volume import dds_volume
from medjax.samplers.diffusion_mbir import diffusion_mbir
from medjax.samplers.mcg import mcg
from medjax.samplers.moment_matching import moment_matching
from medjax.samplers.projection import projection
from medjax.samplers.red_diff import red_diff
from medjax.samplers.sample import sample

NUM = 5
PLACES = jnp.arange(float(NUM))
MATRIX = jnp.cos(jnp.arange(3.0)[:, None] * PLACES[None] + PLACES[None]) / 2
MEASURED = (Dense(MATRIX), jnp.array([0.8, -1.0, 0.4]), jnp.array([0.3, 0.5, 0.4]))
PRIOR = (jnp.array([0.4, 0.6]), jnp.stack([jnp.cos(PLACES), -jnp.sin(PLACES)]), jnp.array([0.3, 0.8]))
LEVELS = jnp.array([2.0, 0.8, 0.3, 0.0])
prior, other = mixture(*PRIOR), mixture(PRIOR[0], 0.5 * PRIOR[1], 0.4)


def guided(make):
    """A guide of a strength, with a kernel."""
    return lambda strength: (make(strength), ddim(0.85))


def alone(make):
    """A kernel of a strength, without guide."""
    return lambda strength: (lambda denoise: denoise, make(strength))


# name of method and option -> (strength -> (guide, kernel), strength)
STRENGTHS = {
    "annealed_likelihood gamma": (guided(lambda t: annealed_likelihood(*MEASURED, gamma=t)), 0.9),
    "classifier scale": (guided(lambda t: classifier(mixture_log_density(*PRIOR), t)), 0.7),
    "classifier_free weight": (guided(lambda t: classifier_free(other, t)), 0.8),
    "data_consistency step": (guided(lambda t: data_consistency(*MEASURED, step=t)), 1.2),
    "ddnm variance": (guided(lambda t: ddnm(*MEASURED, variance=t)), 0.6),
    "dds variance": (guided(lambda t: dds(*MEASURED, variance=t, num_krylov=12)), 0.6),
    "diffpir weight": (guided(lambda t: diffpir(*MEASURED, weight=t)), 2.0),
    "dps zeta": (guided(lambda t: dps(*MEASURED, zeta=t)), 0.01),
    "hybrid weight": (guided(lambda t: hybrid(Dense(jnp.eye(NUM)), other, t)), 0.4),
    "mmps variance": (guided(lambda t: mmps(*MEASURED, variance=t, isotropic_above=0.5, num_krylov=12)), 0.6),
    "pigdm variance": (guided(lambda t: pigdm(*MEASURED, variance=t)), 0.6),
    "daps step_size": (alone(lambda t: daps(*MEASURED, num_langevin=5, step_size=t)), 0.3),
    "daps variance": (alone(lambda t: daps(*MEASURED, num_langevin=5, variance=t)), 0.6),
    "ddrm eta": (alone(lambda t: ddrm(decomposed(Dense(MATRIX), (NUM,)), MEASURED[1], 0.4, eta=t)), 0.7),
    "ddrm eta_b": (alone(lambda t: ddrm(decomposed(Dense(MATRIX), (NUM,)), MEASURED[1], 0.4, eta_b=t)), 0.7),
    "dds_volume strength": (alone(lambda t: dds_volume(*MEASURED, strength=t)), 0.2),
    "diffusion_mbir strength": (alone(lambda t: diffusion_mbir(*MEASURED, strength=t)), 0.2),
    "diffusion_mbir rho": (alone(lambda t: diffusion_mbir(*MEASURED, rho=t)), 0.7),
    "mcg zeta": (alone(lambda t: mcg(*MEASURED, zeta=t)), 0.01),
    "mcg weight": (alone(lambda t: mcg(*MEASURED, zeta=0.01, weight=t)), 0.8),
    "moment_matching eta": (alone(lambda t: moment_matching(*MEASURED, eta=t)), 0.6),
    "moment_matching variance": (alone(lambda t: moment_matching(*MEASURED, isotropic_above=0.5, variance=t)), 0.6),
    "projection weight": (alone(lambda t: chain(projection(*MEASURED, weight=t), ddim(1.0))), 0.8),
    "red_diff weight": (alone(lambda t: red_diff(*MEASURED, weight=t)), 0.3),
    "red_diff variance": (alone(lambda t: red_diff(*MEASURED, variance=t)), 0.6),
}


@pytest.mark.parametrize("make, strength", STRENGTHS.values(), ids=STRENGTHS)
def test_derivative_for_a_strength(key, make, strength):
    """Of a sample of three steps from a prior of two modes, against a central difference."""
    x = 2.0 * jax.random.normal(key, (NUM,))

    def value(t):
        guide, kernel = make(t)
        return jnp.sum(sample(key, kernel, guide(prior), LEVELS, x) * jnp.cos(PLACES))

    run, change = jax.jit(jax.value_and_grad(value)), 1e-5 * strength
    (high, _), (low, _), (_, derivative) = (run(strength + sign * change) for sign in (1, -1, 0))
    assert abs(derivative) > 1e-3
    assert np.isclose(derivative, (high - low) / (2 * change), rtol=1e-6, atol=1e-8)
