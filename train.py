"""Learn a prior: python train.py CONFIG [--output DIR] [--field.of.config VALUE].

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

from medjax.config import bind, build, to_json
from medjax.diffusion.karras import karras
from medjax.experiment.command_line import located, parse, run, versions
from medjax.experiment.prior import denoiser, initialise, loss
from medjax.report.atomic import prepare_folder, write_atomically
from medjax.report.figure import sheet
from medjax.samplers.heun import heun
from medjax.samplers.sample import sample
from medjax.training import checkpoint, log
from medjax.training.state import initial_state, make_optimizer, train_step
from medjax.training.weights import load_weights, save_weights


def main(arguments):
    """Train what the command line names."""
    options, config = parse(arguments, __doc__, {"output": ""})
    prior, settings = config.prior, config.train
    output = Path(options.output or f"out/train/{config.name}")
    phantom, units = bind(prior.data), build(prior.units)
    loss_fn = loss(prior, settings.loss)
    optimizer = make_optimizer(settings.learning_rate, settings.warmup_steps, settings.num_steps, settings.clip_norm)

    def draw(key):
        return units.encode(phantom(key).image)

    key = jax.random.key(settings.seed)
    found = jax.eval_shape(draw, key).shape
    if found != prior.shape:
        raise ValueError(f"{config.name}: prior.shape is {list(prior.shape)}, but {prior.data.name} with {prior.units.name} gives {list(found)}")
    params = jax.jit(lambda key: initialise(prior, key))(key)
    if settings.initial:
        params = jax.tree.map(jnp.asarray, load_weights(located(settings.initial), params))
    state = initial_state(params, optimizer)
    if (output / "weights.safetensors").is_file():
        load_weights(output / "weights.safetensors", params)  # refuses a folder of another network before anything is touched
    prepare_folder(output / "sheets")
    with checkpoint.open_checkpoints(output / "checkpoints") as manager:
        state = checkpoint.restore(manager, state)
    with write_atomically(output / "config.json") as path:
        Path(path).write_text(to_json(config) + "\n")
    log.append(output / "log.jsonl", event="start", versions=versions())
    num_params = sum(leaf.size for leaf in jax.tree.leaves(params))
    size = f"{num_params / 1e6:.2f} M parameters, images {list(prior.shape)}"
    print(f"{config.name}: {size}, {settings.num_steps} steps of {settings.batch_size}, in {output}")

    step = jax.jit(train_step(loss_fn, optimizer, draw, settings.batch_size, settings.ema_decay), donate_argnums=1)
    sheet_fn = jax.jit(lambda params, key: _samples(prior, units, params, key))
    stop = []
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, frame: stop.append(number))

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with checkpoint.open_checkpoints(output / "checkpoints") as manager, Progress(*columns) as bar:
        first = int(state.step)
        task = bar.add_task("train", total=settings.num_steps, completed=first, rate="")
        clock, losses = time.perf_counter(), []
        for i in range(first, settings.num_steps):
            state, metrics = step(key, state)
            losses.append(metrics)
            done = i + 1
            stopping = bool(stop)  # read once: a signal between two reads would end the run unsaved
            last = done == settings.num_steps or stopping
            logging, saving = done % settings.log_every == 0 or done == settings.num_steps, done % settings.checkpoint_every == 0 or last
            if (logging or saving) and not all(bool(jnp.isfinite(metrics[name])) for name in ("loss", "grad_norm")):
                raise ValueError(f"the loss is {metrics['loss']} at step {done}; lower --train.learning-rate (now {settings.learning_rate})")
            if logging:
                means = {name: float(np.mean([m[name] for m in losses])) for name in metrics}
                rate = settings.batch_size * len(losses) / (time.perf_counter() - clock)
                log.append(output / "log.jsonl", step=done, images_per_second=round(rate, 2), **means)
                bar.update(task, completed=done, rate=f"loss {means['loss']:.4f}  {rate:.1f} images/s")
                clock, losses = time.perf_counter(), []
            if saving:
                checkpoint.save(manager, state)
                save_weights(output / "weights.safetensors", state.ema, {"config": to_json(config), "step": str(done), "versions": str(versions())})
            if done % settings.sheet_every == 0 or last:
                sheet(output / "sheets" / f"{done:07d}.png", np.asarray(sheet_fn(state.ema, jax.random.key(1))), unit=units.name)
            if stopping:
                bar.stop()
                manager.wait_until_finished()
                print(f"stopped by signal {stop[0]} after step {done}; the same command goes on from there")
                return 128 + stop[0]
    print(f"weights: {output / 'weights.safetensors'}   log: {output / 'log.jsonl'}   sheets: {output / 'sheets'}")
    return 0


def _samples(prior, units, params, key, num=16):
    """`num` samples of the prior `[num, h, w]`, as displayed."""
    denoise, sigmas = denoiser(prior)(params), karras(18, 0.005, 40 * prior.sigma_data)

    def one(key):
        x = prior.mean + sigmas[0] * jax.random.normal(key, prior.shape)
        return units.display(units.decode(sample(key, heun(), denoise, sigmas, x)))

    return jax.lax.map(one, jax.random.split(key, num), batch_size=4)


if __name__ == "__main__":
    sys.exit(run(main))
