"""Experiments as frozen dataclasses: what runs is a tree of names and numbers, kept beside its results.

A `Spec` names a public function by its file name; `build` finds it under medjax/ by that path. `medjax.override` changes single fields.
"""

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
    data: phantom to draw from; None where there are files alone.
    units: how its images become network input.
    network: module that predicts.
    sigma_data, mean: statistics of the network input.
    checkpoint: weights that `sample.py` reads, relative to the repository.
    classes: names of the labels of files, from 0, that the network is told; empty where it is told none.
    label: the class that images are taken to be of; empty for any.
    guidance: weight w of `classifier_free` towards that class.
    """

    shape: tuple[int, ...]
    data: Spec | None
    units: Spec
    network: Spec
    sigma_data: float
    mean: float
    checkpoint: str
    classes: tuple[str, ...] = ()
    label: str = ""
    guidance: float = 0.0

    def __post_init__(self):
        if self.label and self.label not in self.classes:
            known = nearest(self.label, self.classes) if self.classes else "it has no classes"
            raise ConfigError(f"prior.label is {self.label!r}; {known}")


@dataclasses.dataclass(frozen=True)
class Train:
    """How it is learned; `every` fields count steps.

    num_images: in the training set, each drawn again and again; 0 for a new one every time.
    augment: functions `draw -> draw` of images, the first one innermost.
    label_dropout: how often a prior with classes is not told the class, so that it can be asked without one.
    initial: weights to start from.
    turns: group of weights -> its steps, of groups that are updated in turn (an adversarial pair); empty where all are at once.
    ema_widths: relative widths of power-function averages, kept every snapshot_every steps (`medjax.training.power_average`).
    strict: stop where a lower problem was not solved, has no minimum or an indefinite Hessian (`implicit.trouble`); else that is printed once.
    accumulate: parts of a batch, one after the other in memory. num_shards: devices that hold a copy of the weights together.
    num_workers: processes that read files; 0 for threads of this one.
    keep, keep_best: checkpoints, the latest, and those of least loss on the first num_validation images that are never trained on.
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
    label_dropout: float = 0.1
    initial: str = ""
    turns: dict[str, int] = dataclasses.field(default_factory=dict)
    ema_widths: tuple[float, ...] = ()
    snapshot_every: int = 1000
    strict: bool = False
    accumulate: int = 1
    num_shards: int = 1
    num_workers: int = 0
    keep: int = 2
    keep_best: int = 1
    num_validation: int = 32
    log_every: int = 20
    checkpoint_every: int = 500
    sheet_every: int = 1000

    def __post_init__(self):
        counts = ("num_steps", "batch_size", "log_every", "checkpoint_every", "sheet_every", "accumulate", "num_shards", "keep")
        counts += ("snapshot_every",)
        others = ("num_images", "warmup_steps", "learning_rate", "num_workers", "keep_best", "num_validation")
        shares = ("ema_decay", "label_dropout")
        for name, least in {**dict.fromkeys(counts, 1), **dict.fromkeys((*others, *shares), 0), "clip_norm": 1e-9}.items():
            if not least <= getattr(self, name) <= (1 if name in shares else float("inf")):
                raise ConfigError(f"train.{name} is {getattr(self, name)}; at least {least}{' and at most 1' * (name in shares)} is needed")


@dataclasses.dataclass(frozen=True)
class Measure:
    """How the data come about: the forward model and its noise.

    modality: "ct", "mri", or "image" for what changes a picture (blur, missing pixels).
    simulator: the operator that makes the data of an image, where it is another one, of finer pixels, than reconstructions see.
    """

    modality: str
    operator: Spec
    noise: Spec
    simulator: Spec | None = None

    def __post_init__(self):
        if self.modality not in ("ct", "mri", "image"):
            raise ConfigError(f"measure.modality is {self.modality!r}; ct, mri or image is needed")


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
class Classifier:
    """A network that tells the classes of the prior, whose features generated images are judged by; `train.py --method classifier` trains it.

    network: with `apply(params, image) -> logits`, and `features=True` as `image_classifier` takes it.
    train: how it is learned; its images are as the prior's.
    checkpoint: its weights, relative to the repository.
    """

    network: Spec
    train: Train
    checkpoint: str


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment.

    direct: function `(A, y, ...) -> x`, the direct inverse.
    methods: every other answer by name.
    method: the one that is asked for where none is named.
    baseline: the one that every answer is shown beside, a `Solve`.
    files: function that returns the `Files` to train and evaluate on, in place of what `prior.data` generates.
    classifier: of those files, None for none.
    about: whose images are learned from and under which licence, for the card of the weights.
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
    classifier: Classifier | None = None
    about: str = ""


def nearest(name: str, names) -> str:
    """`; did you mean X?`, or the list where nothing is near."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(names))}"


@functools.cache
def modules() -> dict[str, str]:
    """File name -> module path, of every public thing in the folders of medjax."""
    root = importlib.import_module("medjax")
    packages = [importlib.import_module(f"medjax.{m.name}") for m in pkgutil.iter_modules(root.__path__) if m.ispkg]
    return {m.name: f"{package.__name__}.{m.name}" for package in packages for m in pkgutil.iter_modules(package.__path__)}


def locate(name: str):
    """The public function `name` from the file of that name in any folder of medjax; `file.function` where a file has several.

    Raises:
      ConfigError: with the nearest name, where there is none.
    """
    found, (file, _, function) = modules(), name.partition(".")
    if file not in found:
        raise ConfigError(f"nothing in medjax is named {file!r}; {nearest(file, found)}")
    module = importlib.import_module(found[file])
    if not hasattr(module, function or file):
        raise ConfigError(f"{found[file]} has no function {function or file!r}")
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
    return bind(value) if wanted and Callable in kinds_of(spec, name) else build(value)


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
        kinds = (Config, Prior, Train, Measure, Solve, Method, Learned, Classifier, Spec)
        fields = [field.name for kind in kinds for field in dataclasses.fields(kind)]
        hint = f"; {nearest(unknown[1], fields)}" if unknown else ""
        raise ConfigError(f"{path}: {error}{hint}") from error


def kinds_of(node, name: str) -> tuple:
    """The types that the function of a `Spec` tells for an argument, none where it takes arrays or does not tell."""
    if dataclasses.is_dataclass(node) and not isinstance(node, Spec):
        return (Spec,) if typing.get_type_hints(type(node))[name] == tuple[Spec, ...] else ()
    parameters = inspect.signature(locate(node.name)).parameters if isinstance(node, Spec) else {}
    found = parameters[name].annotation if name in parameters else Any
    kinds = typing.get_args(found) if isinstance(found, types.UnionType) else (found,)
    return () if {inspect.Parameter.empty, Any, jax.Array} & set(kinds) else kinds
