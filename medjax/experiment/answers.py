"""All answers to one measurement, by programs that are compiled once for all measurements of a kind."""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from medjax.config import Config, Method
from medjax.experiment.problem import Problem
from medjax.experiment.reconstruct import broken_at, checked_outcome, direct, finite_samples, posterior, solution


class Answers(NamedTuple):
    """What `answered` gives.

    images: name -> x `[...]`: the direct one, the baseline, and that of the method or `posterior_mean`.
    samples: `[num_samples, ...]` that are finite, None for a method without samples.
    outcomes: name -> what a report says of a solver's run.
    seconds: name -> what each took, compilation included.
    broken: a line on samples that are not finite, empty where all are.
    """

    images: dict[str, Any]
    samples: Any
    outcomes: dict[str, dict[str, Any]]
    seconds: dict[str, float]
    broken: str


def programs(config: Config, method: str, num_samples: int, on_step: Callable | None = None, history: bool = False) -> dict[str, Callable]:
    """Name of an answer -> its jitted program, the method's last; `on_step` and `history` are of the method, as for `solution` and `posterior`."""
    found = {config.direct.name: direct(config)}
    if method != config.baseline:
        found[config.baseline] = solution(config, config.baseline)
    if isinstance(config.methods[method], Method):
        found["posterior_mean"] = posterior(config, method, num_samples, on_step)
    else:
        found[method] = solution(config, method, on_step, history)
    return {name: jax.jit(fn) for name, fn in found.items()}


def answered(
    config: Config, method: str, programs: dict[str, Callable], problem: Problem, weights, key, watching: Callable = contextlib.nullcontext
) -> Answers:
    """The answers of `programs` to a problem.

    Args:
      config: of the programs.
      method: of the programs.
      programs: as above.
      problem: what was measured.
      weights: as for `solution`.
      key: typed key of the samples.
      watching: gives a context in which the method runs.

    Raises:
      ValueError: where settings do not fit, before anything is computed; as `checked_outcome` and `finite_samples`.
    """
    data, (first, *_, last) = (problem.A, problem.y, problem.sigma_y), programs
    images, samples, outcomes, seconds, broken = {}, None, {}, dict.fromkeys(programs, 0.0), ""

    def timed(name, fn, *args):
        clock = time.perf_counter()
        found = jax.block_until_ready(fn(*args))
        seconds[name] = round(seconds[name] + time.perf_counter() - clock, 3)
        return found

    def given(name, start):
        return data[:2] if name == first else (weights, key, *data) if name == "posterior_mean" else (weights, *data, start)

    start = None
    for name, program in programs.items():
        shapes = timed(name, jax.eval_shape, program, *given(name, start))
        start = shapes if name == first else start
    for name, program in programs.items():
        with watching() if name == last else contextlib.nullcontext():
            found = timed(name, program, *given(name, images.get(first)))
            if name == first:
                images[name] = found
            elif name == "posterior_mean":
                settings = config.methods[method]
                assert isinstance(settings, Method)
                replay = partial(jax.jit(broken_at(config, method, len(found))), weights, key, *data)
                samples, broken = finite_samples(method, found, settings.num_steps, replay)
                images[name] = jnp.mean(samples, 0)
            else:
                images[name], outcome = found
                outcomes[name] = checked_outcome(name, outcome)
    return Answers(images, samples, outcomes, seconds, broken)
