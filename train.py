"""Learn a prior, or a reconstruction: python train.py CONFIG [--method NAME] [--output DIR] [--field.of.config VALUE].

Without a method the config's prior is trained, from images alone; a method is one of the config's learned reconstructions, or `classifier`.
Runs on from the last checkpoint in the output folder. Writes there `config.json`, `log.jsonl`, `checkpoints/`, `sheets/*.png` and
`weights.safetensors`, the averaged weights that `sample.py` reads, with `card.md`, what is to be known of them.

SIGTERM and SIGINT end it after the step it is in, many processes after the next `log_every`, saved, with status 143 and 130. The same command goes
on from there, after a kill from the last checkpoint, and ends at the same weights, on other devices up to rounding. Each batch is spread over all
devices of all processes, which find each other as `medjax/training/cluster.py` says.
"""

import signal
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medjax.experiment.card import card
from medjax.experiment.command_line import located, parse, run, versions
from medjax.experiment.ledger import gathered
from medjax.experiment.record import of_training, to_json
from medjax.experiment.task import field as field_of
from medjax.experiment.task import task
from medjax.implicit import trouble
from medjax.report.atomic import prepare_folder, write_atomically
from medjax.report.figure import sheet
from medjax.training import checkpoint, cluster, log, mesh
from medjax.training.flops import speed, train_flops
from medjax.training.power_average import exponent, save_snapshots
from medjax.training.state import initial_state, make_optimizer, part_size, train_step
from medjax.training.weights import load_weights, save_weights


def main(arguments):
    """Train what the command line names."""
    cluster.join()
    options, config = parse(arguments, __doc__, {"output": "", "method": ""})
    field = field_of(options.method)
    _refuse_idle(arguments, options.method, field)
    work = task(config, options.method)
    settings, output = work.settings, Path(options.output or f"out/train/{work.name}")
    optimizer = make_optimizer(settings.learning_rate, settings.warmup_steps, settings.num_steps, settings.clip_norm, settings.turns)
    grid = mesh.device_mesh(settings.num_shards, part_size(settings.batch_size, settings.accumulate))
    gammas = [exponent(width) for width in settings.ema_widths]
    everywhere, over = mesh.replicated(grid), mesh.batch_sharding(grid)
    key, source = mesh.spread(jax.random.key(settings.seed), everywhere), mesh.spread(work.source, everywhere)
    state, shardings = _initial(work, optimizer, grid, key, checkpoint.any_saved(output / "checkpoints"))
    _prepare(output, config, options.method, state.params)
    kept = output / "checkpoints", settings.keep, settings.keep_best
    with checkpoint.open_checkpoints(*kept) as manager:
        state, host, skipped = checkpoint.restore(manager, state)
    first = int(state.step)
    owed = host.get("owed", [])  # what a stop left no time for
    _begin(output, config, work, state, skipped, bool(owed))

    steps = train_step(work.loss_fn, optimizer, settings.ema_decay, settings.accumulate, work.batched, gammas)
    step, look = jax.jit(steps, donate_argnums=1, out_shardings=(shardings, everywhere)), _looker(output, work, source, over)
    look(state.ema, first, owed)
    validated = {int(step): loss for step, loss in gathered(log.values(output / "log.jsonl", "validation_loss") if cluster.first() else {}).items()}
    stop = []
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, frame: stop.append(number))

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with checkpoint.open_checkpoints(*kept, validated.get) as manager, Progress(*columns, disable=not cluster.first()) as bar:
        row = bar.add_task("train", total=settings.num_steps, completed=first, rate="")
        losses, stream, warned = host.get("losses", []), work.stream(source, key, first, over), False
        flops, clock, waited, timed = None, time.perf_counter(), 0.0, 0
        for done in range(first + 1, settings.num_steps + 1):
            batch, seconds = next(stream)
            waited, timed = waited + seconds, timed + 1
            flops = train_flops(work.loss_fn, state.params, key, batch) if flops is None else flops
            state, metrics = step(key, state, batch)
            losses.append(metrics)
            ended = done == settings.num_steps
            stopping = _stopping(stop, done, settings)
            logging, saving = done % settings.log_every == 0 or ended, done % settings.checkpoint_every == 0 or ended or bool(stopping)
            if (logging or saving) and not _finite(metrics):
                at, metrics = next((done - len(losses) + k, m) for k, m in enumerate(losses, 1) if not _finite(m))  # the rest holds its NaN
                found = f"the loss is {metrics['loss']}, the norm of its gradient {metrics['grad_norm']} at step {at}"
                batch = next(work.stream(source, key, at - 1, over))[0]
                raise ValueError(f"{found}; {trouble(metrics) or _advice(metrics, batch, field, settings)}")
            if logging:
                means = {name: float(np.mean([float(m[name]) for m in losses])) for name in metrics}
                found = trouble(means)
                if found and settings.strict:
                    raise ValueError(f"step {done}: {found}")
                if found and not warned:
                    bar.console.print(f"step {done}: {found}", soft_wrap=True, highlight=False)
                    warned = True
                rates = speed(settings.batch_size * timed, flops * timed, time.perf_counter() - clock, waited)
                _log(output, step=done, **rates, **means)
                bar.update(row, completed=done, rate=f"loss {means['loss']:.4f}  {rates['images_per_second']:.1f} images/s")
                losses, clock, waited, timed = [], time.perf_counter(), 0.0, 0
            due = _due(done, settings)
            validated |= {} if stopping else look(state.ema, done, due)
            if settings.ema_widths and (done % settings.snapshot_every == 0 or ended):
                tracks = mesh.whole(state.tracks)
                if cluster.first():
                    save_snapshots(output / "snapshots", done, tracks, settings.ema_widths)
            if saving:
                _export(output, config, work, arguments, done, mesh.whole(state.ema))
                floats = [{name: float(value) for name, value in m.items()} for m in losses]
                checkpoint.save(manager, state, {"losses": floats, "owed": due if stopping else []})
            if stopping:
                bar.stop()
                checkpoint.finish(manager)
                print(f"stopped by signal {stopping} after step {done}; the same command goes on from there")
                return 128 + stopping
        checkpoint.finish(manager)
    if not (output / "weights.safetensors").is_file():  # of a training that had ended before
        _export(output, config, work, arguments, first, mesh.whole(state.ema))
    if cluster.first():
        print(f"weights: {output / 'weights.safetensors'}   card: {output / 'card.md'}   log: {output / 'log.jsonl'}   sheets: {output / 'sheets'}")
    return 0


def _initial(work, optimizer, grid, key, saved):
    """The state before the first step, over the devices, and where each of its arrays lives; of a run that goes on from what is `saved` its shape."""

    def make(key):
        return initial_state(work.initialise(key), optimizer, len(work.settings.ema_widths))

    shardings = mesh.state_sharding(grid, jax.eval_shape(make, key))
    state = jax.jit(make, out_shardings=shardings)(key)
    if work.settings.initial and not saved:
        params = load_weights(located(work.settings.initial), state.params)
        tracks = tuple(mesh.spread(params, each) for each in shardings.tracks)
        state = state._replace(params=mesh.spread(params, shardings.params), ema=mesh.spread(params, shardings.ema), tracks=tracks)
    return state, shardings


def _prepare(output, config, method, params):
    """The folder, unless something in it is of another training."""
    if (output / "weights.safetensors").is_file() and not checkpoint.any_saved(output / "checkpoints"):
        load_weights(output / "weights.safetensors", params)
    if (output / "config.json").is_file() and checkpoint.any_saved(output / "checkpoints"):
        changed = of_training((output / "config.json").read_text(), config, method)
        if changed:
            raise ValueError(f"{output} holds a training with another {changed}; another --output is needed")
    if cluster.first():
        prepare_folder(output / "sheets")
    cluster.agreed(0)


def _begin(output, config, work, state, skipped, owed):
    """What is written and said before the first step."""
    if not cluster.first():
        return
    log.rewind(output / "log.jsonl", int(state.step), owed)
    with write_atomically(output / "config.json") as path:
        Path(path).write_text(to_json(config) + "\n")
    device = jax.devices()[0].device_kind
    log.append(output / "log.jsonl", event="start", versions=versions(), devices=jax.device_count(), kind=device, from_step=int(state.step))
    for line in skipped:
        print(line)
    num_params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    size = f"{num_params / 1e6:.2f} M parameters, images {list(config.prior.shape)}"
    spread = f" on {jax.device_count()} devices" * (jax.device_count() > 1)
    print(f"{work.name}: {size}, {work.settings.num_steps} steps of {work.settings.batch_size}{spread}, in {output}")
    if not work.num_held_out and work.settings.num_validation:
        print("no images to validate on: files tell no subjects, or give no share of them (files.validation); the latest checkpoints alone are kept")
    if int(state.step):
        print(f"goes on from step {int(state.step)}" + f", not from {work.settings.initial}" * bool(work.settings.initial))


def _export(output, config, work, arguments, step, ema):
    """The averaged weights, and their card."""
    if cluster.first():
        save_weights(output / "weights.safetensors", ema, {"config": to_json(config), "step": str(step), "versions": str(versions())})
        with write_atomically(output / "card.md") as path:
            Path(path).write_text(card(config, work, arguments, step, ema, output / "weights.safetensors"))


def _due(done, settings):
    """What there is to look at after a step."""
    ended = done == settings.num_steps
    return ["validation"] * (ended or done % settings.checkpoint_every == 0) + ["sheet"] * (ended or done % settings.sheet_every == 0)


def _looker(output, work, source, over):
    """`(ema, done, due) -> {done: loss}` over images that are never trained on, always the same, where that is due; a sheet is drawn."""
    settings = work.settings
    loss_fn = jax.jit(lambda params, key, batch: work.loss_fn(params, key, batch)[0])
    num = -(-work.num_held_out // settings.batch_size)
    keys = jax.random.split(jax.random.key(settings.seed + 1), max(num, 1))

    def look(ema, done, due):
        told = {}
        if "validation" in due and num:
            told[done] = float(np.mean([loss_fn(ema, keys[i], work.held_out(source, i, over)) for i in range(num)]))
            _log(output, step=done, validation_loss=told[done])
        if "sheet" in due:
            images, found = mesh.whole(work.show(ema, source))
            if cluster.first():
                sheet(output / "sheets" / f"{done:07d}.png", np.asarray(images), unit=work.unit)
            _log(output, step=done, **{name: float(value) for name, value in found.items()})
        return told

    return look


def _stopping(stop, done, settings):
    """The signal to stop by, 0 without one; read once a step, and by many processes where they meet."""
    if jax.process_count() == 1 or done % settings.log_every == 0:
        return cluster.agreed(stop[0] if stop else 0)
    return 0


def _log(output, **record):
    """A line of the log, of what there is to tell beside the step."""
    if cluster.first() and len(record) > 1:
        log.append(output / "log.jsonl", **record)


def _refuse_idle(arguments, method, field):
    """Words that change nothing of this training."""
    for word in (argument.partition("=")[0] for argument in arguments if argument.startswith("--")):
        path = word[2:].replace("-", "_").split(".")
        if path[0] == "train" and method:
            raise ValueError(f"{word} is of the prior's training; --{field}{word[7:]} is needed")
        if ".".join(path).startswith(("methods.", "classifier.")) and "train" in path[1:3] and not ".".join(path).startswith(field):
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
