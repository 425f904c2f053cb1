"""What is to be known of trained weights, beside them."""

import hashlib
import json
import platform
import shlex
from pathlib import Path

import jax

from medjax.config import Config, Spec
from medjax.experiment.task import Task
from medjax.training import log


def card(config: Config, work: Task, arguments: list[str], step: int, params, weights) -> str:
    """A model card (Markdown) of weights as they are after a step; `log.jsonl` beside them tells what they cost and how well they do.

    Args:
      config, work: what was trained.
      arguments: of `train.py`.
      step: that was done last.
      params: the weights.
      weights: path of the `.safetensors` file.

    Returns:
      The card, which leaves to its reader what the weights are not for, beyond any medical decision.

    Reference:
      Mitchell et al. (2019), Model cards for model reporting, https://arxiv.org/abs/1810.03993
    """
    weights, settings, prior = Path(weights), work.settings, config.prior
    records = log.whole(weights.with_name("log.jsonl"))
    starts = [each for each in records if each.get("event") == "start"]
    devices = dict.fromkeys(f"{each['devices']} x {each['kind']}" for each in starts)
    source = config.files or prior.data
    size, digest = weights.stat().st_size / 1e6, hashlib.sha256(weights.read_bytes()).hexdigest()
    rows = {
        "learns": f"images {' x '.join(map(str, prior.shape))} of `{described(source) if source else 'nothing'}`" + _classes(prior),
        "data": config.about or ("not told (`about` of the config)" if config.files else "generated, no image of a person"),
        "network": f"`{described(work.network)}`, {sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6:.2f} M weights",
        "begins with": f"`{settings.initial}`" if settings.initial else "weights drawn at random",
        "command": f"`python train.py {shlex.join(arguments)}`",
        "steps": f"{step:,} of {settings.batch_size}, {step * settings.batch_size:,} images"
        + f"; {settings.num_steps:,} are planned" * (step < settings.num_steps),
        "cost": f"{_seconds(records, settings.batch_size) / 3600:.2f} h on {' and '.join(devices)} ({platform.machine()})",
        "ends at": ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in _last(records).items()),
        "versions": ", ".join(f"{name} {value}" for name, value in starts[-1]["versions"].items()),
        "file": f"`{weights.name}`, averaged weights (decay {settings.ema_decay:g}), {size:.1f} MB, SHA-256 {digest}",
    }
    table = "\n".join(f"| {name} | {' '.join(text.split())} |" for name, text in rows.items())
    return (
        f"# `{work.name}`\n\n| | |\n|---|---|\n{table}\n\n**Not for** any medical decision, or images of another kind than those it learned from.\n"
    )


def described(spec: Spec) -> str:
    """A `Spec` as a call: `unet(width=32, multipliers=[1, 2])`."""
    args = ", ".join(f"{name}={described(value) if isinstance(value, Spec) else json.dumps(value, default=str)}" for name, value in spec.args.items())
    return f"{spec.name}({args})"


def _classes(prior):
    """The classes in words."""
    return f", told {', '.join(prior.classes)}" * bool(prior.classes)


def _seconds(records, batch_size):
    """Time spent in steps, from the speeds of the log."""
    steps = [each for each in records if each.get("images_per_second")]
    before = [0, *(each["step"] for each in steps)]
    return sum((each["step"] - first) * batch_size / each["images_per_second"] for each, first in zip(steps, before, strict=False))


def _last(records):
    """The last of each loss and measure, the losses of training as means over the last tenth of the lines."""
    steps, found = [each for each in records if "loss" in each], {}
    if steps:
        tail = steps[-max(1, len(steps) // 10) :]
        found["training_loss"] = sum(each["loss"] for each in tail) / len(tail)
    for each in records:
        found |= {name: value for name, value in each.items() if name.startswith("validation_") and isinstance(value, float)}
    return found
