"""Many inputs, each reconstructed into a folder of its own, whole or not at all."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from medjax.config import ConfigError
from medjax.data.read import read, read_stack
from medjax.data.scan import InputError, Scan, image_scan
from medjax.experiment.ledger import difference, gathered
from medjax.training import cluster

_HEADER = "header.json"


def inputs(path, array: str = "", slice_index: int | None = None, modality: str | None = None) -> dict[str, Callable[[], Scan]]:
    """Name of an input -> what reads it, `slice_index` and `modality` being as for `read`.

    Args:
      path: a folder, each file of which is an input of its own name, hidden ones excepted; or a `.npz` with images `[n, h, w]`, which are called
        `ARRAY_0000` and so on.
      array: name of the images in a `.npz`; empty for a folder.

    Raises:
      InputError: for a folder without files, or as `read_stack`.
    """
    if array:
        name, images = read_stack(path, array)
        return {f"{name}_{i:04d}": lambda image=image: image_scan(path, "npz", image, None, modality) for i, image in enumerate(images)}
    if not Path(path).is_dir():
        raise InputError(path, "is no folder; a folder of files is needed, or --array with a name in a .npz file")
    files = sorted(each for each in Path(path).iterdir() if each.is_file() and not each.name.startswith("."))
    if not files:
        raise InputError(path, "holds no files; a folder with at least one is needed")
    return {each.name: lambda each=each: read(each, slice_index, modality) for each in files}


def first_readable(inputs: dict[str, Callable[[], Scan]]) -> Scan:
    """The first of `inputs` that can be read.

    Raises:
      InputError: that of the first one, where none can.
    """
    failed = []
    for read_one in inputs.values():
        try:
            return read_one()
        except (ValueError, OSError) as error:
            failed.append(error)
    raise failed[0]


def each(output, header: dict[str, Any], inputs: dict[str, Callable[[], Scan]], reconstruct: Callable, tell: Callable) -> dict[str, dict[str, Any]]:
    """Reconstruct what is not yet there, the processes sharing it.

    Args:
      output: existing folder; the results of an input are in `output/NAME`, which is renamed to that once it is whole.
      header: what decides whether results may stand together, as `ledger.header`.
      inputs: of `inputs`.
      reconstruct: `(name, scan, folder)`, which writes into the folder, a `report.json` among it.
      tell: called with a line on each input that cannot be used.

    Returns:
      name -> `methods` of the report, of all that are whole, also those of earlier runs; the same in all processes, which meet here.

    Raises:
      ValueError: where the folder holds results of another header.
      ConfigError: where the settings do not fit, whatever the input.
    """
    output = Path(output)
    claim(output, header)
    there = {name: _scores(output / name) for name in inputs if (output / name / "report.json").is_file()} if cluster.first() else {}
    found = gathered(there)
    for name in [name for name in inputs if name not in found][jax.process_index() :: jax.process_count()]:
        partial = output / f".partial-{name}"
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        try:
            scan = inputs[name]()
            partial.mkdir()
            reconstruct(name, scan, partial)
            os.replace(partial, output / name)
            found[name] = _scores(output / name)
        except ConfigError:
            raise
        except (ValueError, OSError, OverflowError) as error:
            tell(f"{name} skipped: {' '.join(str(error).split())}")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    found = gathered(found)
    return {name: found[name] for name in inputs if name in found}


def claim(output, header: dict[str, Any]) -> None:
    """Say in a folder what its results are of, so that those of another header never join them; the processes meet here.

    Raises:
      ValueError: where it holds results of another header.
    """
    output, record = Path(output), json.loads(json.dumps(header))
    try:
        held = json.loads((output / _HEADER).read_text()) if (output / _HEADER).is_file() else record
    except ValueError:
        raise ValueError(f"{output / _HEADER}: damaged; without it nothing tells what the results are of, another --output is needed") from None
    if other := difference(held, record):
        raise ValueError(f"{output} holds results with another {other}; another --output is needed")
    cluster.agreed(0)  # all have read
    if cluster.first():
        partial = output / f".{os.getpid()}-{_HEADER}"
        partial.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(partial, output / _HEADER)


def _scores(folder) -> dict[str, Any]:
    """What the report of an input says of each method."""
    return json.loads((folder / "report.json").read_text())["methods"]
