"""Checkpoints of a run, written in the background and renamed when whole."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN

_DAMAGED = "damaged-"


class _Best(NamedTuple):
    """Orbax's policy that keeps the `num` checkpoints of least finite `loss(step)`, the later one of equals."""

    num: int
    loss: Callable[[int], float | None]

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        """For each of `checkpoints`."""
        losses = {each.step: self.loss(each.step) for each in checkpoints}
        found = sorted((loss, -step) for step, loss in losses.items() if loss is not None and math.isfinite(loss))
        best = {-step for _, step in found[: self.num]}
        return [each.step in best for each in checkpoints]


@contextlib.contextmanager
def open_checkpoints(folder, keep: int = 2, keep_best: int = 0, loss: Callable[[int], float | None] = lambda step: None) -> Iterator:
    """Manager of the checkpoints under `folder`: the latest `keep` of them, and beside these the `keep_best` of least loss.

    Orbax's `best_fn` with `max_to_keep` would drop the latest one where it is not among the best, and a run that stops would lose its work; its own
    record of losses does not outlive the process, nor would it take one that is found after the checkpoint was written.

    Args:
      folder: of the checkpoints.
      keep: of the latest.
      keep_best: of those with a loss.
      loss: of the checkpoint of a step on images that are not trained on, None where it is not known; asked whenever one is saved.

    Returns:
      A context of Orbax's `CheckpointManager`.
    """
    policy = AnyPreservationPolicy([LatestN(keep), _Best(keep_best, loss)])
    options = ocp.CheckpointManagerOptions(preservation_policy=policy, create=True, enable_async_checkpointing=True)
    with ocp.CheckpointManager(Path(folder).absolute(), options=options) as manager:
        yield manager


def any_saved(folder) -> bool:
    """Whether `folder` holds a whole checkpoint; it need not be there."""
    return any(path.name.isdigit() for path in Path(folder).glob("*"))


def save(manager: ocp.CheckpointManager, state, host: dict) -> None:
    """Save `state` and `host`, what JSON can hold of a run beside it, under the state's own step; what is already saved is left.

    Returns once the arrays are copied; the files are written in the background, and an error there is raised by the next call.

    Raises:
      OSError: as `finish`, for this checkpoint or the one before.
    """
    step = int(state.step)
    if step not in manager.all_steps():
        args = ocp.args.Composite(state=ocp.args.StandardSave(state._asdict()), host=ocp.args.JsonSave(host))
        with _told(manager):
            manager.save(step, args=args)


def finish(manager: ocp.CheckpointManager) -> None:
    """Wait until what was saved is whole.

    Raises:
      OSError: in one line, where it could not be written; the checkpoints before it are as they were.
    """
    with _told(manager):
        manager.wait_until_finished()


def restore(manager: ocp.CheckpointManager, state, step: int | None = None) -> tuple:
    """The latest checkpoint that can be read, or that of `step`.

    Args:
      manager: of `open_checkpoints`.
      state: in whose structure and over whose devices the arrays are restored, whatever they were saved from.

    Returns:
      `(state, host, skipped)`: `state` itself and `{}` where nothing is saved; a line for each later checkpoint that was damaged, which is set aside
      as `damaged-STEP`.

    Raises:
      ValueError: where there are checkpoints and none can be read, those of another network, say.
    """
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state._asdict())
    args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), host=ocp.args.JsonRestore())
    failed = {}
    for saved in sorted(manager.all_steps() if step is None else [step], reverse=True):
        try:
            with _quiet():
                found = manager.restore(saved, args=args)
        except Exception as error:  # of the many parsers below
            failed[saved] = " ".join(str(error).split())[:160]
            continue
        for bad in failed if jax.process_index() == 0 else ():
            (manager.directory / str(bad)).rename(manager.directory / f"{_DAMAGED}{bad}")
        if failed:
            manager.reload()
        lines = (f"{manager.directory / str(bad)} cannot be read ({why}); it is set aside as {_DAMAGED}{bad}" for bad, why in failed.items())
        return type(state)(**found["state"]), found["host"], tuple(lines)
    if failed:
        last, why = next(iter(failed.items()))
        found = f"step {last} does not fit this config's network and optimizer, or is damaged ({why})"
        raise ValueError(f"{manager.directory}: {found}; another --output is needed")
    return state, {}, ()


@contextlib.contextmanager
def _told(manager):
    """OSError in one line for whatever writing raises."""
    try:
        yield
    except Exception as error:  # of the many writers below
        steps = manager.all_steps()
        left = f"the latest whole one is of step {max(steps)}" if steps else "there is none before"
        raise OSError(f"{manager.directory}: a checkpoint could not be written ({' '.join(str(error).split())[:160]}); {left}") from error


@contextlib.contextmanager
def _quiet():
    """Without the log of what is raised and handled."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
