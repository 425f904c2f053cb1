"""What is kept of a config beside results, and where two such records differ."""

import dataclasses
import json

from medjax.config import Config

_FREE = ("num_steps", "log_every", "checkpoint_every", "sheet_every", "initial", "strict", "folder", "checkpoint")
_FREE += ("num_shards", "num_workers", "keep", "keep_best", "num_validation", "snapshot_every", "label", "guidance")
"""How long, how often, from where."""


def to_json(config) -> str:
    """A config as JSON, for the record kept beside results."""
    return json.dumps(dataclasses.asdict(config), indent=1, default=str)


def of_training(record: str, config: Config, method: str) -> str:
    """The first field by which `config` is another training, of `method` or of the prior, than that of `record` (JSON); empty where there is none."""
    own = [["measure"], ["direct"], ["methods", method]] if method else [["prior"], ["train"]]
    own = [["classifier"]] if method == "classifier" else own
    return _first(record, config, [*own, ["prior", "data"], ["prior", "units"], ["files"]])


def of_weights(record: str, config: Config, owner: str) -> str:
    """`FIELD is VALUE there and VALUE here`, the first by which the weights of `record` (JSON) are for another problem; empty where there is none.

    Args:
      record: what is written beside weights.
      config: where they are used.
      owner: "prior", or the learned method.
    """
    own = [["measure"], ["direct"], ["methods", owner, "reconstruction"]]
    if owner == "prior":
        own = [["prior", name] for name in ("network", "classes", "sigma_data", "mean")]
    return _first(record, config, [*own, ["prior", "units"]], values=True)


def _first(record, config, paths, values=False):
    """The first difference below `paths` in fields that both have, for versions differ."""
    try:
        old, new = json.loads(record), json.loads(to_json(config))
    except ValueError:
        return "config, or one that is damaged"
    for path in paths:
        before, after = old, new
        for name in path:
            before, after = ((tree or {}).get(name) for tree in (before, after))
        unknown = before is None and (values or path[0] not in old)  # weights know what they were trained for, and no more
        found = None if unknown else _changed(before, after, path)
        if found:
            return f"{found[0]} is {found[1]} there and {found[2]} here" if values else found[0]
    return ""


def _changed(before, after, path):
    """`(field, before, after)` of the first value that differs, None where none does."""
    if isinstance(before, dict) and isinstance(after, dict):
        shared = [name for name in before if name in after and name not in _FREE]
        return next((found for name in shared if (found := _changed(before[name], after[name], [*path, name]))), None)
    return (".".join(path), before, after) if before != after else None
