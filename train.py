"""Learn a prior, or a reconstruction: python train.py CONFIG [--method NAME] [--output DIR] [--field.of.config VALUE].

Without a method the config's prior is trained, from images alone; a method is one of the config's learned reconstructions.
Runs on from the last checkpoint in the output folder. Writes there `config.json`, `log.jsonl`, `checkpoints/`, `sheets/*.png` and
`weights.safetensors`, the averaged weights that `sample.py` reads.
"""

import signal
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medjax.experiment.command_line import located, parse, run, versions
from medjax.experiment.record import of_training, to_json
from medjax.experiment.task import task
from medjax.implicit import trouble
from medjax.report.atomic import prepare_folder, write_atomically
from medjax.report.figure import sheet
from medjax.training import checkpoint, log
from medjax.training.state import batch_key, initial_state, make_optimizer, train_step
from medjax.training.weights import load_weights, save_weights


def main(arguments):
    """Train what the command line names."""
    options, config = parse(arguments, __doc__, {"output": "", "method": ""})
    field = f"methods.{options.method}.train" if options.method else "train"
    _refuse_idle(arguments, options.method, field)
    work = task(config, options.method)
    settings, output = work.settings, Path(options.output or f"out/train/{work.name}")
    optimizer = make_optimizer(settings.learning_rate, settings.warmup_steps, settings.num_steps, settings.clip_norm, settings.turns)
    key = jax.random.key(settings.seed)
    params = jax.jit(work.initialise)(key)
    if settings.initial:
        params = jax.tree.map(jnp.asarray, load_weights(located(settings.initial), params))
    state = initial_state(params, optimizer)
    if (output / "weights.safetensors").is_file():
        load_weights(output / "weights.safetensors", params)  # refuses a folder of another network before anything is touched
    if (output / "config.json").is_file() and checkpoint.any_saved(output / "checkpoints"):
        changed = of_training((output / "config.json").read_text(), config, options.method)
        if changed:
            raise ValueError(f"{output} holds a training with another {changed}; another --output is needed")
    prepare_folder(output / "sheets")
    with checkpoint.open_checkpoints(output / "checkpoints") as manager:
        state = checkpoint.restore(manager, state)
    with write_atomically(output / "config.json") as path:
        Path(path).write_text(to_json(config) + "\n")
    log.append(output / "log.jsonl", event="start", versions=versions())
    num_params = sum(leaf.size for leaf in jax.tree.leaves(params))
    size = f"{num_params / 1e6:.2f} M parameters, images {list(config.prior.shape)}"
    print(f"{work.name}: {size}, {settings.num_steps} steps of {settings.batch_size}, in {output}")
    if int(state.step):
        print(f"goes on from step {int(state.step)}" + f", not from {settings.initial}" * bool(settings.initial))

    step = jax.jit(train_step(work.loss_fn, optimizer, settings.ema_decay), donate_argnums=1)
    stop = []
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, frame: stop.append(number))

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with checkpoint.open_checkpoints(output / "checkpoints") as manager, Progress(*columns) as bar:
        first = int(state.step)
        row = bar.add_task("train", total=settings.num_steps, completed=first, rate="")
        clock, losses, warned = time.perf_counter(), [], False
        for i in range(first, settings.num_steps):
            batch = work.draw(work.source, batch_key(key, i))
            state, metrics = step(key, state, batch)
            losses.append(metrics)
            done = i + 1
            stopping = bool(stop)  # read once: a signal between two reads would end the run unsaved
            last = done == settings.num_steps or stopping
            logging, saving = done % settings.log_every == 0 or done == settings.num_steps, done % settings.checkpoint_every == 0 or last
            if (logging or saving) and not _finite(metrics):
                at, metrics = next((done - len(losses) + k, m) for k, m in enumerate(losses, 1) if not _finite(m))  # the rest holds its NaN
                found = f"the loss is {metrics['loss']}, the norm of its gradient {metrics['grad_norm']} at step {at}"
                batch = work.draw(work.source, batch_key(key, at - 1))
                raise ValueError(f"{found}; {trouble(metrics) or _advice(metrics, batch, field, settings)}")
            if logging:
                means = {name: float(np.mean([m[name] for m in losses])) for name in metrics}
                rate = settings.batch_size * len(losses) / (time.perf_counter() - clock)
                found = trouble(means)
                if found and settings.strict:
                    raise ValueError(f"step {done}: {found}")
                if found and not warned:
                    bar.console.print(f"step {done}: {found}", soft_wrap=True, highlight=False)
                    warned = True
                log.append(output / "log.jsonl", step=done, images_per_second=round(rate, 2), **means)
                bar.update(row, completed=done, rate=f"loss {means['loss']:.4f}  {rate:.1f} images/s")
                clock, losses = time.perf_counter(), []
            if saving:
                checkpoint.save(manager, state)
                save_weights(output / "weights.safetensors", state.ema, {"config": to_json(config), "step": str(done), "versions": str(versions())})
            if done % settings.sheet_every == 0 or last:
                images, told = work.show(state.ema, work.source)
                sheet(output / "sheets" / f"{done:07d}.png", np.asarray(images), unit=work.unit)
                if told:
                    log.append(output / "log.jsonl", step=done, **{name: float(value) for name, value in told.items()})
            if stopping:
                bar.stop()
                manager.wait_until_finished()
                print(f"stopped by signal {stop[0]} after step {done}; the same command goes on from there")
                return 128 + stop[0]
    print(f"weights: {output / 'weights.safetensors'}   log: {output / 'log.jsonl'}   sheets: {output / 'sheets'}")
    return 0


def _refuse_idle(arguments, method, field):
    """Words that change nothing of this training."""
    for word in (argument.partition("=")[0] for argument in arguments if argument.startswith("--")):
        path = word[2:].replace("-", "_").split(".")
        if path[0] == "train" and method:
            raise ValueError(f"{word} is of the prior's training; --{field}{word[7:]} is needed")
        if path[0] == "methods" and path[1:2] != [method] and path[2:3] == ["train"]:
            raise ValueError(f"{word} is not of this training, that of {method or 'the prior, for want of a --method'}")
        if path == ["seed"]:
            raise ValueError(f"{word} changes no training; --{field}.seed is needed")


def _finite(metrics):
    """Whether the loss and its gradient are."""
    return all(bool(jnp.isfinite(metrics[name])) for name in ("loss", "grad_norm"))


def _advice(metrics, batch, field, settings):
    """What to do where the loss or its gradient is not finite, and the lower problem, if there is one, was solved."""
    if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(batch) if jnp.issubdtype(leaf.dtype, jnp.inexact)):
        return "its batch is not finite: the settings of the measurement are out of range"
    if "lower_steps" in metrics and bool(jnp.isfinite(metrics["loss"])):
        option = f"--{field.removesuffix('train')}reconstruction.num_ritz 20"
        saddle = f"its Hessian is singular or not positive definite; {option} tells its least Ritz value"
        why = saddle if "lower_unbounded" in metrics else "its map does not contract"
        return f"the lower problem was solved, but not the linear system of its derivative: {why}"
    return f"lower --{field}.learning-rate (now {settings.learning_rate})"


if __name__ == "__main__":
    sys.exit(run(main))
