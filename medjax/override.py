"""Fields of a config changed by dotted paths, as the command line names them."""

import ast
import contextlib
import dataclasses
import inspect
import types
import typing
from typing import Any

from medjax.config import Config, ConfigError, Spec, kinds_of, locate, modules, nearest


def override(config: Config, path: str, text: str) -> Config:
    """`config` with the field at a dotted `path` set to `text`, read as the type of the present value.

    Arguments of a `Spec` are its fields, also those it leaves at the default of its function. Where other files than those of the config are named,
    what it says about them (`Config.about`) goes.

    Raises:
      ConfigError: with the nearest name for an unknown field, or the wanted type.
    """
    names = path.replace("-", "_").split(".")
    found = _replaced(config, names, text, path)
    assert isinstance(found, Config)
    others = names[0] == "files" and names != ["files", "folder"] and found.files != config.files
    return dataclasses.replace(found, about="") if others else found


def _fields(node) -> dict[str, Any]:
    """Field name -> present value of a node of a config; None for a required argument of a Spec that is not given yet."""
    if isinstance(node, dict):
        return node
    if not isinstance(node, Spec):
        return {f.name: getattr(node, f.name) for f in dataclasses.fields(node)} if dataclasses.is_dataclass(node) else {}
    defaults = {name: p.default for name, p in inspect.signature(locate(node.name)).parameters.items()}
    return {"name": node.name} | {n: None if d is inspect.Parameter.empty else d for n, d in defaults.items()} | node.args


def _replaced(node, names, text, path):
    """`node` with the field at `names` set."""
    fields, name = _fields(node), names[0]
    if name not in fields:
        raise ConfigError(f"--{path}: unknown config field {name!r}; {nearest(name, fields)}")
    value = _replaced(fields[name], names[1:], text, path) if len(names) > 1 else _parsed(text, fields[name], path, kinds_of(node, name))
    if isinstance(node, dict):
        return {**node, name: value}
    if isinstance(node, Spec):
        return Spec(str(value)) if name == "name" else Spec(node.name, {**node.args, name: value})
    return dataclasses.replace(node, **{name: value})


def _parsed(text: str, old, path: str, kinds: tuple):
    """`text` as a value of the type of `old`, or of one of `kinds` where there is no value yet."""
    if isinstance(old, str):
        return text
    if isinstance(old, Spec):
        return Spec(text)
    value = _literal(text)
    if old is None:
        return _first(text, value, path, kinds)
    if kinds == (Spec,) and isinstance(value, (tuple, list)) and all(isinstance(name, str) for name in value):
        return tuple(Spec(name) for name in value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    wanted = {tuple: (tuple, list), list: (tuple, list)}.get(type(old), (type(old),))
    if not isinstance(value, wanted) or value != value:  # NaN
        raise ConfigError(f"--{path}: wants {type(old).__name__} like {old!r}, got {text!r}")
    if kinds == (Spec,) and value:
        raise ConfigError(f"--{path}: wants names of functions, got {text!r}")
    return value


def _literal(text: str):
    """What `text` says in Python, nan and inf included; the text itself where it says nothing."""
    for read in (ast.literal_eval, float):
        with contextlib.suppress(ValueError, SyntaxError, TypeError):
            return read(text)
    return text


def _first(text: str, value, path: str, kinds: tuple):
    """The value of an argument that had none: a number, numbers, or the name of a function, as far as `kinds` allow."""
    kinds = tuple(typing.get_origin(kind) or kind for kind in kinds)  # tuple of tuple[str, ...]
    plain = [kind for kind in kinds if kind in (int, float, bool, str, tuple, list)]
    functions = not kinds or set(kinds) - {*plain, types.NoneType}
    if isinstance(value, str):
        if str in plain:
            return text
        if functions and text.partition(".")[0] in modules():
            return Spec(text)
    elif value == value and (value is None or type(value) in (plain if kinds else (int, float, complex, bool, tuple, list))):
        return value
    elif type(value) is int and float in plain:
        return float(value)
    names = [kind.__name__ for kind in plain] or ["a number"] * (not kinds)
    raise ConfigError(f"--{path}: wants {' or '.join([*names, *['the name of a function'] * bool(functions)])}, got {text!r}")
