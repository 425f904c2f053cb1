"""What `train.py` says of a training that is lost: the first step that was, and why."""

import importlib
import itertools
from pathlib import Path

import jax.numpy as jnp
import pytest

from medjax import implicit
from medjax.config import Spec, Train
from medjax.experiment.task import Task

ROOT = Path(__file__).parents[1]
SETTINGS = Train(Spec("supervised"), num_steps=4, batch_size=1, learning_rate=0.5, warmup_steps=0, log_every=4)
MET = {"loss": jnp.float32(1), "lower_steps": jnp.float32(9), "lower_converged": jnp.float32(1)}


@pytest.fixture
def train(monkeypatch):
    """The main, which leaves the signals of the tests alone."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    main = importlib.import_module("train")
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    return main


def at_a_saddle(params, key, batch):
    """A search for the minimum of x_1^2 / 2 - x_2^2 / 4 + x_2^4 / 4 - t x that ends at (1, 0)."""
    lower = lambda x, t: x[0] ** 2 / 2 - x[1] ** 2 / 4 + x[1] ** 4 / 4 - t @ x  # noqa: E731
    solved = implicit.minimise(lower, jnp.zeros(2), params["t"])
    return jnp.sum((solved.x - batch) ** 2), {**implicit.told(solved), "lower_unbounded": jnp.zeros(())}


def test_a_saddle_is_named_at_its_step(train, monkeypatch, tmp_path):
    """Not the last step of those that are looked at together: all after the first are NaN, and seem to have another cause."""
    stream = lambda *_: itertools.repeat((jnp.array([0.5, 0.5]), 0.0))  # noqa: E731
    work = Task(
        "toy", SETTINGS, {}, lambda key: {"t": jnp.array([1.0, 0.0])}, at_a_saddle, stream, stream, 32, True, lambda *_: None, "", Spec("toy")
    )
    monkeypatch.setattr(train, "task", lambda *_: work)
    found = (
        "the norm of its gradient nan at step 1; the lower problem was solved, but not the linear system of its derivative: its Hessian is singular "
    )
    option = "--methods.learned_primal_dual.reconstruction.num_ritz 20 tells its least Ritz value"
    with pytest.raises(ValueError, match=f"^the loss is 0.5, {found}or not positive definite; {option}$"):
        train.main(["configs/debug.py", "--method", "learned_primal_dual", "--output", str(tmp_path / "out")])


@pytest.mark.parametrize(
    "metrics, batch, wanted",
    [
        ({**MET, "lower_unbounded": jnp.float32(0)}, 1.0, "its Hessian is singular or not positive definite; --methods.x.reconstruction.num_ritz 20"),
        (MET, 1.0, "its map does not contract"),
        ({**MET, "loss": jnp.float32(jnp.nan)}, 1.0, "lower --methods.x.train.learning-rate (now 0.5)"),
        ({"loss": jnp.float32(1)}, 1.0, "lower --methods.x.train.learning-rate (now 0.5)"),
        (MET, jnp.nan, "its batch is not finite"),
    ],
)
def test_each_cause_has_its_advice(train, metrics, batch, wanted):
    assert wanted in train._advice(metrics, jnp.array([batch]), "methods.x.train", SETTINGS)
