"""Checkpoints of a run, written in the background and renamed when whole."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

_DAMAGED = "damaged-"


@contextlib.contextmanager
def open_checkpoints(folder, keep: int = 2, keep_best: int = 0) -> Iterator[ocp.CheckpointManager]:
    """Manager of the checkpoints under `folder`: the latest `keep` of them, and beside these the `keep_best` of least `validation_loss`.

    Orbax's `best_fn` with `max_to_keep` would drop the latest one where it is not among the best, and a run that stops would lose its work.
    """
    best = BestN(get_metric_fn=lambda metrics: -metrics["validation_loss"], n=keep_best, keep_checkpoints_without_metrics=False)
    policy = AnyPreservationPolicy([LatestN(keep), best] if keep_best else [LatestN(keep)])
    options = ocp.CheckpointManagerOptions(preservation_policy=policy, create=True, enable_async_checkpointing=True)
    with ocp.CheckpointManager(Path(folder).absolute(), options=options) as manager:
        yield manager


def any_saved(folder) -> bool:
    """Whether `folder` holds a whole checkpoint; it need not be there."""
    return any(path.name.isdigit() for path in Path(folder).glob("*"))


def save(manager: ocp.CheckpointManager, state, host: dict, metrics: dict[str, float] | None = None) -> None:
    """Save `state` and `host`, what JSON can hold of a run beside it, under the state's own step; what is already saved is left.

    Returns once the arrays are copied; the files are written in the background, and an error there is raised by the next call.

    Raises:
      OSError: as `finish`, for this checkpoint or the one before.
    """
    step = int(state.step)
    if step not in manager.all_steps():
        args = ocp.args.Composite(state=ocp.args.StandardSave(state._asdict()), host=ocp.args.JsonSave(host))
        with _told(manager):
            manager.save(step, args=args, metrics=metrics or None)


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
