"""What a config names of learned methods and their losses is what train.py trains: in process, through the task that it takes."""

import ast
import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from streams import drawn

from medjax import config as configs
from medjax.config import Learned, Measure, Spec, Train
from medjax.experiment.task import task
from medjax.learned.adversarial_regulariser import adversarial_regulariser
from medjax.learned.learned_strength import learned_strength
from medjax.learned.noise2noise import noise2noise
from medjax.learned.post_processing import post_processing
from medjax.learned.ssdu import ssdu
from medjax.learned.supervised import supervised
from medjax.learned.variational import variational
from medjax.learned.variational_network import variational_network
from medjax.networks.cnn import cnn
from medjax.networks.fields_of_experts import fields_of_experts
from medjax.operators.fbp import fbp
from medjax.solvers.tv_reconstruction import tv_reconstruction
from medjax.training.state import initial_state, make_optimizer, train_step

ROOT = Path(__file__).parents[1]
SIZE = 16
EXPERTS = Spec("fields_of_experts", {"num_filters": 3, "size": 2, "potential": "charbonnier"})
REGULARISED = Spec("variational", {"network": EXPERTS})
AFTER = Spec("post_processing", {"network": Spec("cnn", {"features": 1, "width": 4, "num_layers": 2})})
CASCADES = Spec("variational_network", {"refine": Spec("cnn", {"features": 2, "width": 4, "num_layers": 2}), "num_cascades": 1})
OPPOSITE = Spec("algebra.scale", {"c": -1.0, "A": Spec("algebra.identity")})
EQUILIBRIUM = Spec("deep_equilibrium", {"network": Spec("cnn", {"features": 1, "width": 4, "num_layers": 2})})
CHAINS = Spec("with_chains", {"reconstruction": REGULARISED, "num_chains": 2})
AGAINST = Spec("with_regulariser", {"reconstruction": AFTER, "critic": Spec("critic", {"width": 4, "num_levels": 2, "num_dense": 4})})
STRENGTH = Spec("learned_strength", {"make": Spec("tv_reconstruction", {"nonnegative": True}), "max_steps": 30, "backward": "unroll"})

LOSSES = {
    "adversarial_regulariser": (REGULARISED, Spec("adversarial_regulariser", {"penalty": 3.0})),
    "contrastive_divergence": (REGULARISED, Spec("contrastive_divergence", {"step_size": 1e-3, "num_steps": 2})),
    "energy_denoising": (REGULARISED, Spec("energy_denoising", {"sigma": 0.1})),
    "equivariant_imaging": (AFTER, Spec("equivariant_imaging", {"group": "quarter_turns", "weight": 2.0})),
    "explicit_score_matching": (REGULARISED, Spec("explicit_score_matching", {"score_fn": OPPOSITE})),
    "implicit_score_matching": (REGULARISED, Spec("implicit_score_matching")),
    "jacobian_regularised": (EQUILIBRIUM, Spec("jacobian_regularised", {"strength": 0.5})),
    "noise2inverse": (AFTER, Spec("noise2inverse", {"num_splits": 2})),
    "noise2noise": (AFTER, Spec("noise2noise", {"split": 0.5})),
    "penalised": (STRENGTH, Spec("penalised", {"told": "strength", "weight": 0.1})),
    "persistent_contrastive_divergence": (CHAINS, Spec("persistent_contrastive_divergence", {"step_size": 1e-3, "num_steps": 2})),
    "sliced_score_matching": (REGULARISED, Spec("sliced_score_matching")),
    "ssdu": (CASCADES, Spec("ssdu", {"ratio": 0.3})),
    "supervised": (STRENGTH, Spec("supervised")),
    "unrolled_adversarial": (AGAINST, Spec("unrolled_adversarial", {"weight": 0.2})),
}
"""Every loss of a reconstruction by its name, and what it trains."""


@pytest.fixture(scope="module")
def small():
    """`(reconstruction, loss) -> Config` whose method `mine` they are: of 16 px, CT for images and MRI by one coil for `CASCADES`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.syspath_prepend(str(ROOT))
        ct, mri = configs.load("configs/dival_ellipses.py"), configs.load("configs/mri_brain.py")
    beam = Spec("parallel_beam", {"image_size": SIZE, "angles": Spec("uniform_views", {"num_views": 8}), "num_detectors": 23})
    mask = Spec("equispaced_lines", {"shape": (SIZE, SIZE), "acceleration": 2, "center_fraction": 0.25})
    fourier = Spec("algebra.compose", {"A": Spec("masked_fourier", {"mask": mask}), "B": Spec("complex_channels")})

    def make(of, loss):
        base, data, operator = (mri, "brain", fourier) if of is CASCADES else (ct, "ellipses", beam)
        train = Train(loss, num_steps=2, batch_size=2, learning_rate=1e-2, warmup_steps=0)
        shape = (SIZE, SIZE, *base.prior.shape[2:])
        prior = dataclasses.replace(base.prior, shape=shape, data=Spec(data, {"size": SIZE}))
        measure = Measure(base.measure.modality, operator, base.measure.noise)
        return dataclasses.replace(base, prior=prior, measure=measure, methods={**base.methods, "mine": Learned(of, train)})

    return make


def test_every_loss_is_reachable(small):
    """By name from a config, with what it trains: it gives a number, and the table misses none."""
    found = {path.stem for path in (ROOT / "medjax" / "learned").glob("*.py") for node in ast.parse(path.read_text()).body if _is_loss(node, path)}
    assert found == set(LOSSES)
    for name, (of, loss) in LOSSES.items():
        assert loss.name == name
        work = task(small(of, loss), "mine")
        params, batch = (
            jax.eval_shape(work.initialise, jax.random.key(0)),
            jax.eval_shape(functools.partial(drawn, work), work.source, jax.random.key(0)),
        )
        value, told = jax.eval_shape(work.loss_fn, params, jax.random.key(1), batch)
        assert value.shape == () and all(jnp.ndim(each) == 0 for key, each in told.items() if key != "carried"), name


def _is_loss(node, path):
    """Whether a statement defines the function of the file's name, which returns a `Loss`."""
    return isinstance(node, ast.FunctionDef) and node.name == path.stem and isinstance(node.returns, ast.Name) and node.returns.id == "Loss"


def nonnegative_tv(A, y, sigma_y, strength):
    """Total variation of images >= 0."""
    return tv_reconstruction(A, y, sigma_y, strength, True)


def by_hand(name, direct):
    """The same loss, called."""
    experts, after = fields_of_experts(3, 2, "charbonnier"), post_processing(cnn(1, 4, 2), direct)
    return {
        "adversarial_regulariser": lambda: adversarial_regulariser(variational(experts, direct=direct), direct, 3.0),
        "ssdu": lambda: ssdu(variational_network(cnn(2, 4, 2), 1), 0.3),
        "noise2noise": lambda: noise2noise(after, direct, 0.5),
        "supervised": lambda: supervised(learned_strength(nonnegative_tv, direct, max_steps=30, backward="unroll")),
    }[name]()


@pytest.mark.parametrize("name", ["adversarial_regulariser", "ssdu", "noise2noise", "supervised"])
def test_two_steps_of_a_loss_by_its_name(small, name):
    """The value is that of the same functions called, with the options of the config, and the steps move all weights."""
    work = task(small(*LOSSES[name]), "mine")
    state, losses, batch = *_steps(work), drawn(work, work.source, jax.random.key(0))
    params = jax.jit(work.initialise)(jax.random.key(0))
    key = jax.random.split(jax.random.fold_in(jax.random.key(0), 0))[1]  # of the loss in `train_step`
    wanted = jax.jit(by_hand(name, lambda A, y: fbp(A, y, "hann", 0.8)))(params, key, batch)[0]
    assert np.allclose(losses[0], wanted, rtol=1e-9) and losses[1] != losses[0] and np.all(np.isfinite(losses))
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), params, state.params)
    assert jax.tree.all(moved), moved


def _steps(work, num=2):
    """`(state, losses)` after steps as train.py takes them."""
    settings, key = work.settings, jax.random.key(0)
    optimizer = make_optimizer(settings.learning_rate, settings.warmup_steps, settings.num_steps, settings.clip_norm, settings.turns)
    state, losses = initial_state(jax.jit(work.initialise)(key), optimizer), []
    step = jax.jit(train_step(work.loss_fn, optimizer, settings.ema_decay))
    for i in range(num):
        state, metrics = step(key, state, drawn(work, work.source, key, i))
        losses.append(float(metrics["loss"]))
    return state, losses
