"""Experiments as frozen dataclasses: what runs is a tree of names and numbers, kept beside its results.

A `Spec` names a public function by its file name; `build` finds it under medjax/ by that path. Overrides are dotted paths into the tree.
"""

import ast
import contextlib
import dataclasses
import difflib
import functools
import importlib
import inspect
import pkgutil
import re
import runpy
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).parents[1]
"""Folder of the mains, `configs/` and `checkpoints/`."""


class ConfigError(ValueError):
    """A config that names something that does not exist or does not fit; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """A public function of medjax by name, with its arguments: an integer named `key` is a seed, a `Spec` is what its function returns.

    For a `Callable` it is the function itself where that wants arguments that the `Spec` does not have: they come with the call.
    """

    name: str
    args: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Prior:
    """What is learned.

    shape: of an image as networks see it, `(h, w)` or `(h, w, c)`.
    data: phantom to draw from.
    units: how its images become network input.
    network: module that predicts.
    sigma_data, mean: statistics of the network input.
    checkpoint: weights that `sample.py` reads, relative to the repository.
    """

    shape: tuple[int, ...]
    data: Spec
    units: Spec
    network: Spec
    sigma_data: float
    mean: float
    checkpoint: str


@dataclasses.dataclass(frozen=True)
class Train:
    """How it is learned; `every` fields count steps.

    num_images: in the training set, each drawn again and again; 0 for a new one every time.
    augment: functions `draw -> draw` of images, the first one innermost.
    initial: weights to start from.
    turns: group of weights -> its steps, of groups that are updated in turn (an adversarial pair); empty where all are at once.
    strict: stop where a lower problem was not solved, has no minimum or an indefinite Hessian (`implicit.trouble`); else that is printed once.
    """

    loss: Spec
    num_steps: int = 10_000
    batch_size: int = 16
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    num_images: int = 0
    augment: tuple[Spec, ...] = ()
    initial: str = ""
    turns: dict[str, int] = dataclasses.field(default_factory=dict)
    strict: bool = False
    log_every: int = 20
    checkpoint_every: int = 500
    sheet_every: int = 1000

    def __post_init__(self):
        counts, others = ("num_steps", "batch_size", "log_every", "checkpoint_every", "sheet_every"), ("num_images", "warmup_steps", "learning_rate")
        for name, least in {**dict.fromkeys(counts, 1), **dict.fromkeys(others, 0), "ema_decay": 0, "clip_norm": 1e-9}.items():
            if not least <= getattr(self, name) <= (1 if name == "ema_decay" else float("inf")):
                raise ConfigError(f"train.{name} is {getattr(self, name)}; at least {least}{' and at most 1' * (name == 'ema_decay')} is needed")


@dataclasses.dataclass(frozen=True)
class Measure:
    """How the data come about: the forward model and its noise.

    simulator: the operator that makes the data of an image, where it is another one, of finer pixels, than reconstructions see.
    """

    modality: str
    operator: Spec
    noise: Spec
    simulator: Spec | None = None

    def __post_init__(self):
        if self.modality not in ("ct", "mri"):
            raise ConfigError(f"measure.modality is {self.modality!r}; ct or mri is needed")


@dataclasses.dataclass(frozen=True)
class Solve:
    """A classical or plug-and-play reconstruction.

    solver: a function that returns a `Solver`; of A, y, sigma_y and denoise (the trained prior) it is given those that it takes.
    num_steps: the most steps.
    tolerance: relative change at which it stops before, as its `Info` tells; 0 where nothing changes any more.
    start: "direct", the answer of `Config.direct`, or an image of "zeros" or of "ones".
    """

    solver: Spec
    num_steps: int
    tolerance: float = 0.0
    start: str = "direct"

    def __post_init__(self):
        if self.num_steps < 1:
            raise ConfigError(f"num_steps of {self.solver.name} is {self.num_steps}; at least 1 is needed")
        if self.start not in ("direct", "zeros", "ones"):
            raise ConfigError(f"start of {self.solver.name} is {self.start!r}; direct, zeros or ones is needed")


@dataclasses.dataclass(frozen=True)
class Method:
    """A posterior sampler: guide and kernel, over noise levels.

    guide: of the data; None for a kernel that takes the data itself.
    kernel: of A, y and sigma_y it is given those that it takes.
    levels: function `(num_steps, sigma_min, sigma_max, ...) -> sigmas`.
    particles: that one run carries on the first axis of x; 0 for kernels of one image.
    """

    guide: Spec | None
    kernel: Spec
    num_steps: int
    sigma_min: float
    sigma_max: float
    levels: Spec = Spec("karras")  # noqa: RUF009
    particles: int = 0

    def __post_init__(self):
        if self.num_steps < 1 or self.particles < 0:
            found = f"num_steps of {self.kernel.name} is {self.num_steps}, its particles are {self.particles}"
            raise ConfigError(f"{found}; at least 1 and 0 are needed")


@dataclasses.dataclass(frozen=True)
class Learned:
    """A reconstruction with learned weights.

    reconstruction: function that returns a `Reconstruction`; it is given `direct`, `(A, y) -> x`, where it takes that.
    train: how it is learned, by a loss over `Examples`.
    checkpoint: its weights, relative to the repository; empty for those of one's own `train.py`, else `checkpoints/CONFIG_METHOD.safetensors`.
    """

    reconstruction: Spec
    train: Train
    checkpoint: str = ""


Answer = Method | Solve | Learned


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment.

    direct: function `(A, y, ...) -> x`, the direct inverse.
    methods: every other answer by name.
    method: the one that is asked for where none is named.
    baseline: the one that every answer is shown beside, a `Solve`.
    files: function that returns the `Files` to train and evaluate on, in place of what `prior.data` generates.
    """

    name: str
    prior: Prior
    train: Train
    measure: Measure
    direct: Spec
    methods: dict[str, Answer]
    method: str
    baseline: str = "tv"
    num_samples: int = 8
    seed: int = 0
    files: Spec | None = None


def nearest(name: str, names) -> str:
    """`; did you mean X?`, or the list where nothing is near."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(names))}"


@functools.cache
def _modules() -> dict[str, str]:
    """File name -> module path, of every public thing in the folders of medjax."""
    root = importlib.import_module("medjax")
    packages = [importlib.import_module(f"medjax.{m.name}") for m in pkgutil.iter_modules(root.__path__) if m.ispkg]
    return {m.name: f"{package.__name__}.{m.name}" for package in packages for m in pkgutil.iter_modules(package.__path__)}


def locate(name: str):
    """The public function `name` from the file of that name in any folder of medjax; `file.function` where a file has several.

    Raises:
      ConfigError: with the nearest name, where there is none.
    """
    modules, (file, _, function) = _modules(), name.partition(".")
    if file not in modules:
        raise ConfigError(f"nothing in medjax is named {file!r}; {nearest(file, modules)}")
    module = importlib.import_module(modules[file])
    if not hasattr(module, function or file):
        raise ConfigError(f"{modules[file]} has no function {function or file!r}")
    return getattr(module, function or file)


@contextlib.contextmanager
def _told_as(name: str):
    """ConfigError in the name of `name` for what Python raises where an argument is of the wrong kind."""
    try:
        yield
    except jax.errors.JAXTypeError:  # of a tracer: no setting asks for that
        raise
    except (TypeError, IndexError, AttributeError, ZeroDivisionError) as error:
        raise ConfigError(f"{name}: {' '.join(str(error).split())}") from error


def _resolve(spec: Spec, name: str):
    """An argument as the function of `spec` takes it."""
    value = spec.args[name]
    if not isinstance(value, Spec):
        return jax.random.key(value) if name == "key" and isinstance(value, int) else value
    parameters = inspect.signature(locate(value.name)).parameters.items()
    wanted = [n for n, p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL and n not in value.args]
    return bind(value) if wanted and Callable in _kinds(spec, name) else build(value)


def build(spec: Spec, *first, **more):
    """Call what `spec` names with `first`, the arguments of the spec and `more`.

    Raises:
      ConfigError: where the name or an argument is unknown, or an argument is of a kind that the function cannot take.
    """
    fn = bind(Spec(spec.name, spec.args | more))
    with _told_as(spec.name):
        inspect.signature(fn).bind(*first)
        return fn(*first)


def bind(spec: Spec):
    """The function that `spec` names with its arguments bound, not yet called.

    Raises:
      ConfigError: where the name or an argument is unknown.
    """
    fn = locate(spec.name)
    parameters = inspect.signature(fn).parameters
    for name in spec.args:
        if name not in parameters:
            raise ConfigError(f"{spec.name} has no argument {name!r}; {nearest(name, parameters)}")
    return functools.partial(fn, **{name: _resolve(spec, name) for name in spec.args})


def taken(spec: Spec, offered: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments `offered` that the function which `spec` names takes."""
    return {name: value for name, value in offered.items() if name in inspect.signature(locate(spec.name)).parameters}


def shipped() -> list[str]:
    """The configs of this repository, as they are named on the command line."""
    return sorted(f"configs/{path.name}" for path in (ROOT / "configs").glob("*.py"))


def load(path) -> Config:
    """The config of a Python file that defines `get_config()`.

    Raises:
      ConfigError: where there is no such file or function.
    """
    if not str(path).endswith(".py"):
        raise ConfigError(f"{path}: a config is a Python file of configs/; data are named with --input")
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such config; {nearest(str(path), shipped())}")
    try:
        namespace = runpy.run_path(str(path))
        if "get_config" not in namespace:
            raise ConfigError(f"{path}: defines no get_config()")
        return namespace["get_config"]()
    except (TypeError, SyntaxError) as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        fields = [field.name for kind in (Config, Prior, Train, Measure, Solve, Method, Learned, Spec) for field in dataclasses.fields(kind)]
        hint = f"; {nearest(unknown[1], fields)}" if unknown else ""
        raise ConfigError(f"{path}: {error}{hint}") from error


def override(config: Config, path: str, text: str) -> Config:
    """`config` with the field at a dotted `path` set to `text`, read as the type of the present value.

    Arguments of a `Spec` are its fields, also those it leaves at the default of its function.

    Raises:
      ConfigError: with the nearest name for an unknown field, or the wanted type.
    """
    found = _replaced(config, path.replace("-", "_").split("."), text, path)
    assert isinstance(found, Config)
    return found


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
    value = _replaced(fields[name], names[1:], text, path) if len(names) > 1 else _parsed(text, fields[name], path, _kinds(node, name))
    if isinstance(node, dict):
        return {**node, name: value}
    if isinstance(node, Spec):
        return Spec(value) if name == "name" else Spec(node.name, {**node.args, name: value})
    return dataclasses.replace(node, **{name: value})


def _kinds(node, name: str) -> tuple:
    """The types that the function of a `Spec` tells for an argument, none where it takes arrays or does not tell."""
    if dataclasses.is_dataclass(node) and not isinstance(node, Spec):
        return (Spec,) if typing.get_type_hints(type(node))[name] == tuple[Spec, ...] else ()
    parameters = inspect.signature(locate(node.name)).parameters if isinstance(node, Spec) else {}
    found = parameters[name].annotation if name in parameters else Any
    kinds = typing.get_args(found) if isinstance(found, types.UnionType) else (found,)
    return () if {inspect.Parameter.empty, Any, jax.Array} & set(kinds) else kinds


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
    return value


def _literal(text: str):
    """What `text` says in Python, nan and inf included; the text itself where it says nothing."""
    for read in (ast.literal_eval, float):
        with contextlib.suppress(ValueError, SyntaxError, TypeError):
            return read(text)
    return text


def _first(text: str, value, path: str, kinds: tuple):
    """The value of an argument that had none: a number, numbers, or the name of a function, as far as `kinds` allow."""
    plain = [kind for kind in kinds if kind in (int, float, bool, str, tuple, list)]
    functions = not kinds or set(kinds) - {*plain, types.NoneType}
    if isinstance(value, str):
        if str in plain:
            return text
        if functions and text.partition(".")[0] in _modules():
            return Spec(text)
    elif value == value and (value is None or type(value) in (plain if kinds else (int, float, complex, bool, tuple, list))):
        return value
    elif type(value) is int and float in plain:
        return float(value)
    names = [kind.__name__ for kind in plain] or ["a number"] * (not kinds)
    raise ConfigError(f"--{path}: wants {' or '.join([*names, *['the name of a function'] * bool(functions)])}, got {text!r}")
