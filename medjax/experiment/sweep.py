"""A field of a method tuned on validation images."""

from typing import Any, NamedTuple

import jax

from medjax.config import Config, ConfigError, Method, nearest
from medjax.metrics.confidence_interval import confidence_interval
from medjax.override import override

COLUMNS = ("psnr", "ssim", "residual")
"""What is told of each value; the PSNR decides."""


class Sweep(NamedTuple):
    """field: dotted path. method: key of `Config.methods`. answer: name of what it gives. values: as on the command line. configs: one a value."""

    field: str
    method: str
    answer: str
    values: tuple[str, ...]
    configs: tuple[Config, ...]


def read_sweep(config: Config, text: str) -> Sweep:
    """`methods.NAME.FIELD=VALUE,VALUE,...`, read as overrides of `config`.

    Raises:
      ConfigError: for anything else, an unknown field, or a value that does not fit.
    """
    field, _, listed = text.partition("=")
    path, values = field.replace("-", "_").split("."), tuple(dict.fromkeys(filter(None, listed.split(","))))
    if path[0] != "methods" or len(path) < 3 or len(values) < 2:
        raise ConfigError(f"--sweep is {text!r}; methods.NAME.FIELD=VALUE,VALUE is needed, with two values or more")
    if path[1] not in config.methods:
        raise ConfigError(f"--sweep: no method {path[1]!r} in config {config.name}; {nearest(path[1], config.methods)}")
    if path[-1] == "checkpoint" or "train" in path[2:3]:
        what = "names weights, which are read once" if path[-1] == "checkpoint" else "is of a training, and changes no answer"
        raise ConfigError(f"--sweep: {field} {what}; each is evaluated by a run of its own")
    answer = path[1] if not isinstance(config.methods[path[1]], Method) else "posterior_mean"
    return Sweep(field, path[1], answer, values, tuple(override(config, field, value) for value in values))


def evaluation_key(seed: int, i: int):
    """Key of the i-th image that is evaluated."""
    return jax.random.fold_in(jax.random.key(seed), i)


def validation_key(i: int):
    """Key of the i-th image to tune on: of a stream that no seed of training or evaluation draws from."""
    stream = jax.random.fold_in(jax.random.key(20_000), 2**31 - 1)  # they fold a seed's key with counts, which are smaller
    return jax.random.fold_in(stream, i)


def tuned(sweep: Sweep, cases) -> dict[str, Any]:
    """Which value is best, as a report holds it.

    Args:
      sweep: what was tried.
      cases: value -> list of `checked_case`, one an image.

    Returns:
      `field`, `num_images`, `values` (each measure as `(mean, half width)` by value), `cases` (the PSNR of each image by value), `best` (the value of
      the highest mean PSNR) and `at_end`: whether that is the lowest or the highest of the numbers tried, beyond which a better one may be.
    """
    found = {value: {c: [case["methods"][sweep.answer][c] for case in cases[value]] for c in COLUMNS} for value in sweep.values}
    rows = {value: {c: confidence_interval(scores) for c, scores in row.items()} for value, row in found.items()}
    best = max(sweep.values, key=lambda value: rows[value]["psnr"][0])
    record = {"field": sweep.field, "num_images": len(cases[best]), "values": rows, "cases": {value: row["psnr"] for value, row in found.items()}}
    return record | {"best": best, "at_end": _at_end(sweep.values, best)}


def _at_end(values, best) -> str:
    """`lowest`, `highest` or nothing; a lowest of 0 is no end to go beyond."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return ""
    return {min(numbers) or None: "lowest", max(numbers): "highest"}.get(float(best), "")
