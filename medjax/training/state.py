"""What a training run carries, and one step of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

from medjax.linalg import norm
from medjax.typing import Loss


class TrainState(NamedTuple):
    """step: scalar int32. params: weights. ema: their moving average. opt_state: of the optax transform."""

    step: jax.Array
    params: Any
    ema: Any
    opt_state: Any


def initial_state(params, optimizer: optax.GradientTransformation) -> TrainState:
    """State before the first step, with the average at `params`."""
    return TrainState(jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, params), optimizer.init(params))


def train_step(loss_fn: Loss, optimizer: optax.GradientTransformation, draw: Callable, batch_size: int, ema_decay: float) -> Callable:
    r"""One step of stochastic gradient descent on freshly drawn examples.

    Everything random comes from `fold_in(key, state.step)`, so a resumed run replays exactly. The average is
    :math:`\bar\theta \leftarrow d \bar\theta + (1 - d) \theta` with :math:`d = \min(d_{max}, (1 + t) / (10 + t))`.

    Args:
      loss_fn: a `Loss`.
      optimizer: optax transform.
      draw: `key -> x`, one training example.
      batch_size: examples a step.
      ema_decay: d_max.

    Returns:
      `step(key, state) -> (state, metrics)`, to be jitted with the state donated.
    """

    def step(key, state):
        key_data, key_loss = jax.random.split(jax.random.fold_in(key, state.step))
        batch = jax.vmap(draw)(jax.random.split(key_data, batch_size))
        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params, key_loss, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
        ema = jax.tree.map(lambda a, p: a + (1 - decay).astype(a.dtype) * (p - a), state.ema, params)
        metrics = {"loss": loss, "grad_norm": norm(grads), **metrics}
        return TrainState(state.step + 1, params, ema, opt_state), metrics

    return step


def make_optimizer(learning_rate: float, warmup_steps: int, num_steps: int, clip_norm: float) -> optax.GradientTransformation:
    """Muon for kernels and Adam for vectors, with a linear warm-up, a cosine decay to 1 % and clipping by the global norm.

    Muon makes the update of each kernel nearly orthogonal as a matrix [everything that enters, features], and sizes it to a root mean square of
    half the learning rate. Measured on `ct_torso`, batches of 8, from scratch: its loss after 375 steps is 0.171, Adam's 0.243.

    Reference:
      Jordan et al. (2024), https://kellerjordan.github.io/posts/muon; sized as by Liu et al. (2025), https://arxiv.org/abs/2502.16982, eq. 4.
    """
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, max(num_steps, warmup_steps + 1), learning_rate / 100)

    def as_matrices(params):
        shapes = {4: MuonDimensionNumbers((0, 1, 2), 3), 2: MuonDimensionNumbers(0, 1)}
        return jax.tree.map(lambda p: shapes.get(p.ndim), params)

    optimizer = muon(schedule, adam_learning_rate=schedule, adam_b2=0.99, consistent_rms=0.5, muon_weight_dimension_numbers=as_matrices)
    return optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
