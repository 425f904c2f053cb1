"""Weights in one small file that nothing needs to unpickle."""

from pathlib import Path

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from medjax.report.atomic import write_atomically


def save_weights(path, params, metadata: dict[str, str]) -> None:
    """Write nested dicts of arrays to a `.safetensors` file with `metadata`, under a temporary name first.

    Raises:
      ValueError: for weights in anything else, a list, say.
    """
    flat = {_named(keys): np.asarray(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(params)}
    with write_atomically(path) as temporary:
        temporary.write_bytes(save(flat, metadata))


def load_metadata(path) -> dict[str, str]:
    """What `save_weights` wrote beside the weights.

    Raises:
      ValueError: for a damaged file.
    """
    try:
        with safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole .safetensors file ({error})") from error


def load_tree(path) -> dict:
    """The weights of a `.safetensors` file as nested dicts of arrays, whatever network they are of.

    Raises:
      ValueError: for a missing or damaged file.
    """
    tree = {}
    for name, array in _flat(path).items():
        node, *names = tree, *name.split("/")
        for each in names[:-1]:
            node = node.setdefault(each, {})
        node[names[-1]] = array
    return tree


def load_weights(path, expected):
    """Weights of a `.safetensors` file, in the structure of `expected`.

    Args:
      path: the file.
      expected: nested dicts of arrays or `ShapeDtypeStruct` that the network wants.

    Returns:
      Nested dicts of arrays.

    Raises:
      ValueError: for a missing or damaged file, or weights of another network, or expected in anything but dicts.
    """
    flat = _flat(path)
    wanted = {_named(keys): leaf.shape for keys, leaf in jax.tree_util.tree_leaves_with_path(expected)}
    shapes = {name: array.shape for name, array in flat.items()}
    odd = sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
    if odd:
        got, want = shapes.get(odd[0], "nothing"), wanted.get(odd[0], "nothing")
        raise ValueError(f"{path}: weights of another network: {odd[0]} is {got} in the file, the config's network wants {want}")
    return jax.tree_util.tree_map_with_path(lambda keys, _: flat[_named(keys)], expected)


def _flat(path):
    """The arrays of a file by name."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such weights; train them with train.py, or name others as the checkpoint of the config's prior or method")
    try:
        return load(Path(path).read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole .safetensors file ({error})") from error


def _named(keys):
    """The path of a leaf as its name in the file."""
    if not all(isinstance(k, jax.tree_util.DictKey) for k in keys):
        raise ValueError(f"params{jax.tree_util.keystr(keys)} lies in a list, tuple or class; weights are kept in nested dicts alone")
    return "/".join(str(k.key) for k in keys)
