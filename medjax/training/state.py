"""What a training run carries, and one step of it."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

from medjax.linalg import norm
from medjax.training.alternating import alternating
from medjax.training.forced_normalisation import forced_normalisation
from medjax.typing import Loss


class TrainState(NamedTuple):
    """step: scalar int32. params: weights. ema: their moving average. opt_state: of the optax transform. tracks: averages by powers of time."""

    step: jax.Array
    params: Any
    ema: Any
    opt_state: Any
    tracks: tuple = ()


def initial_state(params, optimizer: optax.GradientTransformation, num_tracks: int = 0) -> TrainState:
    """State before the first step, with the averages at `params`."""
    ema, *tracks = (jax.tree.map(jnp.copy, params) for _ in range(1 + num_tracks))
    return TrainState(jnp.zeros((), jnp.int32), params, ema, optimizer.init(_learned(params)), tuple(map(_learned, tracks)))


def batch_key(key, step):
    """Key of the batch of a step, which the loss draws nothing from."""
    return jax.random.split(jax.random.fold_in(key, step))[0]


def train_step(
    loss_fn: Loss, optimizer: optax.GradientTransformation, ema_decay: float, num_parts: int = 1, batched: Any = True, gammas=()
) -> Callable:
    r"""One step of stochastic gradient descent.

    Everything random comes from `fold_in(key, state.step)`, so a resumed run replays exactly. The average is
    :math:`\bar\theta \leftarrow d \bar\theta + (1 - d) \theta` with :math:`d = \min(d_{max}, (1 + t) / (10 + t))`.

    What a loss hands from step to step (chains of Markov, starts of inner solvers) is no weight: it lies in `params["carried"]`, gets no gradient
    and no average, and is what the loss says in `metrics["carried"]` after the step.

    Args:
      loss_fn: a `Loss`.
      optimizer: optax transform.
      ema_decay: d_max.
      num_parts: parts of a batch whose gradients are added before the weights move (gradient accumulation), each with a key of its own: memory for
        activations of one part. Metrics are means over the parts. What a loss carries goes from part to part.
      batched: which leaves of a batch have the examples on their first axis, a prefix of its tree; True for all.
      gammas: exponents of the averages in `state.tracks`, see `power_average`.

    Returns:
      `step(key, state, batch) -> (state, metrics)`, to be jitted with the state donated.
    """

    def gradient(learned, carried, key, batch):
        (loss, metrics), grads = jax.value_and_grad(lambda p: loss_fn(_joined(p, carried), key, batch), has_aux=True)(learned)
        return {"loss": loss, **metrics}, grads

    def accumulated(learned, carried, key, batch):
        if num_parts == 1:
            return gradient(learned, carried, key, batch)

        def one(total, i):
            carried, grads = total
            metrics, found = gradient(learned, carried, jax.random.fold_in(key, i), _part(batch, batched, i, num_parts))
            carried = {"carried": metrics.pop("carried")} if carried else {}
            return (carried, jax.tree.map(jnp.add, grads, found)), metrics

        (carried, grads), metrics = jax.lax.scan(one, (carried, jax.tree.map(jnp.zeros_like, learned)), jnp.arange(num_parts))
        return {**jax.tree.map(lambda m: jnp.mean(m, 0), metrics), **carried}, jax.tree.map(lambda g: g / num_parts, grads)

    def step(key, state, batch):
        key_loss = jax.random.split(jax.random.fold_in(key, state.step))[1]
        learned, carried = _learned(state.params), _carried(state.params)
        metrics, grads = accumulated(learned, carried, key_loss, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, learned)
        learned = optax.apply_updates(learned, updates)
        decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
        ema = jax.tree.map(lambda a, p: a + (1 - decay).astype(a.dtype) * (p - a), _learned(state.ema), learned)
        carried = {"carried": metrics["carried"]} if carried else {}
        metrics = {"grad_norm": norm(grads), **{name: value for name, value in metrics.items() if name != "carried"}}
        tracks = tuple(
            jax.tree.map(lambda a, p, g=gamma: p + (1 - 1 / (state.step + 1.0)).astype(a.dtype) ** (g + 1) * (a - p), track, learned)
            for gamma, track in zip(gammas, state.tracks, strict=True)
        )
        return TrainState(state.step + 1, _joined(learned, carried), _joined(ema, carried), opt_state, tracks), metrics

    return step


def part_size(batch_size: int, num_parts: int) -> int:
    """Examples in each part of a batch.

    Raises:
      ValueError: where they would not be of equal size.
    """
    if batch_size % num_parts:
        raise ValueError(f"a batch of {batch_size} cannot be taken in {num_parts} parts of equal size; a multiple is needed")
    return batch_size // num_parts


def _part(batch, batched, i, num_parts):
    """Part i of a batch: examples i, i + num_parts, ..., so that each device has some of every part."""

    def rows(leaf):
        part_size(leaf.shape[0], num_parts)
        return jax.lax.dynamic_index_in_dim(leaf.reshape(-1, num_parts, *leaf.shape[1:]), i, 1, keepdims=False)

    return jax.tree.map(lambda has_rows, part: jax.tree.map(rows, part) if has_rows else part, batched, batch)


def _learned(params):
    """The weights of `params`."""
    return {name: value for name, value in params.items() if name != "carried"} if isinstance(params, dict) else params


def _carried(params):
    """What is no weight, `{}` where there is none."""
    return {"carried": params["carried"]} if isinstance(params, dict) and "carried" in params else {}


def _joined(learned, carried):
    return {**learned, **carried} if carried else learned


def make_optimizer(
    learning_rate: float, warmup_steps: int, num_steps: int, clip_norm: float, turns: dict[str, int] | None = None
) -> optax.GradientTransformation:
    """Muon for kernels and Adam for vectors, with a linear warm-up, a cosine decay to 1 % and clipping by the global norm; by groups with `turns`.

    Muon makes the update of each kernel nearly orthogonal as a matrix [everything that enters, features], and sizes it to a root mean square of
    half the learning rate. Measured on `ct_torso`, batches of 8, from scratch: its loss after 375 steps is 0.171, Adam's 0.243.
    Weights of magnitude 1 (`forced_normalisation`) want larger rates, for half the rate is how far each feature turns in a step: a small `edm2_unet`
    on random ellipses of 32 x 32, batches of 8, has a loss of 0.86, 0.65, 0.53 and 0.46 after 200 steps at 0.001, 0.006, 0.024 and 0.06, with Adam
    at 0.012, the rate of its paper, 0.63.

    Reference:
      Jordan et al. (2024), https://kellerjordan.github.io/posts/muon; sized as by Liu et al. (2025), https://arxiv.org/abs/2502.16982, eq. 4.
    """

    def as_matrices(params):
        shapes = {4: MuonDimensionNumbers((0, 1, 2), 3), 2: MuonDimensionNumbers(0, 1)}
        return jax.tree.map(lambda p: shapes.get(p.ndim), params)

    def over(share):
        """Of weights that are moved in this share of the steps: their schedule counts their own."""
        warmup, num = math.ceil(share * warmup_steps), math.ceil(share * num_steps)
        schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, max(num, warmup + 1), learning_rate / 100)
        optimizer = muon(schedule, adam_learning_rate=schedule, adam_b2=0.99, consistent_rms=0.5, muon_weight_dimension_numbers=as_matrices)
        return forced_normalisation(optax.chain(optax.clip_by_global_norm(clip_norm), optimizer))

    return alternating({name: over(n / sum(turns.values())) for name, n in turns.items()}, turns) if turns else over(1)
