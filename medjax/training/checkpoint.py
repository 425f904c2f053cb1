"""Checkpoints of a run, written in the background and renamed when whole."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp


def open_checkpoints(folder, keep: int = 2) -> ocp.CheckpointManager:
    """Manager of the checkpoints under `folder`, the latest `keep` of them; to be used in a `with` block."""
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True)
    return ocp.CheckpointManager(Path(folder).absolute(), options=options)


def any_saved(folder) -> bool:
    """Whether `folder` holds a whole checkpoint; it need not be there."""
    return any(path.name.isdigit() for path in Path(folder).glob("*"))


def save(manager: ocp.CheckpointManager, state) -> None:
    """Save `state` under its own step; what is already saved is left."""
    step = int(state.step)
    if step not in manager.all_steps():
        manager.save(step, args=ocp.args.StandardSave(state._asdict()))


def restore(manager: ocp.CheckpointManager, state):
    """The latest saved state in the structure of `state`, or `state` itself where nothing is saved.

    Raises:
      ValueError: for a checkpoint of another network.
    """
    step = manager.latest_step()
    if step is None:
        return state
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state._asdict())
    try:
        found = manager.restore(step, args=ocp.args.StandardRestore(abstract))
    except (ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0][:160]
        found = f"step {step} does not fit this config's network and optimizer ({first})"
        raise ValueError(f"{manager.directory}: {found}; another --output is needed") from error
    return type(state)(**found)
