"""One image of an evaluation: measured once, answered by every method, scored."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from medjax import config as configs
from medjax.experiment.assess import assess, calibration
from medjax.experiment.problem import simulate
from medjax.experiment.reconstruct import broken_at, checked_method, checked_outcome, direct, not_finite, posterior, solution
from medjax.implicit import trouble

COLUMNS = ("psnr", "ssim", "nmse", "residual")
"""The measures that every answer has."""


def checked_methods(config: configs.Config, methods: str, num_samples: int) -> tuple[tuple[str, ...], int]:
    """Names of a comma-separated list, each once, the config's own where it is empty; and the samples of its sampler, 0 without one.

    Raises:
      ConfigError: as `checked_method`, for more than one sampler, and for the single sample that has no spread.
    """
    names = [name.strip() for name in methods.split(",") if name.strip()]
    found = dict(checked_method(config, name, num_samples) for name in names or [""])
    samplers = {name: num for name, num in found.items() if num}
    if len(samplers) > 1:
        raise configs.ConfigError(f"--method names the samplers {', '.join(samplers)}; at most one is needed, beside any number of others")
    if 1 in samplers.values():
        raise configs.ConfigError("--num-samples is 1; at least 2 samples are needed")
    return tuple(found), sum(samplers.values())


def case(config: configs.Config, methods, num_samples: int) -> Callable:
    """`(weights, A, key, x, y=None) -> (scores, outcomes, spread)` of an image x `[...]`, as networks see it, and its data, if any; to be jitted.

    scores: name of an answer -> what `assess` says: the direct one, each `Solve` and `Learned` by its name, `posterior_sample` and `posterior_mean`
    of a sampler. outcomes: name of such a method -> its `Outcome`. spread: what `calibration` says of the samples.
    """
    first, solves = direct(config), {name: solution(config, name) for name in methods if not isinstance(config.methods[name], configs.Method)}
    samplers = [posterior(config, name, num_samples) for name in methods if name not in solves]

    def fn(weights, A, key, x, y=None):
        key_noise, key_samples = jax.random.split(key)
        problem = simulate(config, A, key_noise, x, y)
        data = problem.A, problem.y, problem.sigma_y
        answers, outcomes, spread = {config.direct.name: first(problem.A, problem.y)}, {}, {}
        for name, solve in solves.items():
            answers[name], outcomes[name] = solve(weights, *data, answers[config.direct.name])
        for draw in samplers:
            samples = draw(weights, key_samples, *data)
            answers |= {"posterior_sample": samples[0], "posterior_mean": jnp.mean(samples, 0)}
            spread = calibration(problem, samples)
        return {name: assess(problem, x) for name, x in answers.items()}, outcomes, spread

    return fn


def explanation(config: configs.Config, methods, num_samples: int) -> Callable:
    """`(weights, A, key, x, y=None) -> line` on the samples that are not finite in `case` of the same arguments, which is drawn once more."""
    ((name, settings),) = ((n, s) for n, s in config.methods.items() if n in methods and isinstance(s, configs.Method))
    replay = broken_at(config, name, num_samples)

    def steps(weights, A, key, x, y=None):
        key_noise, key_samples = jax.random.split(key)
        problem = simulate(config, A, key_noise, x, y)
        return replay(weights, key_samples, problem.A, problem.y, problem.sigma_y)

    return lambda *args: not_finite(name, jax.jit(steps)(*args), settings.num_steps)


def troubles(cases) -> list[str]:
    """A line for each learned method whose lower problem was not solved in all of `cases`, which are of `checked_case`."""
    found = []
    for name in cases[0]["outcomes"]:
        runs = [case["outcomes"][name] for case in cases]
        line = trouble({key: np.mean([run[key] for run in runs]) for key in runs[0] if key.startswith("lower_")})
        found += [f"{name}: {line}"] * bool(line)
    return found


def checked_case(name: str, found, explain: Callable | None = None) -> dict:
    """What `case` gave for the image `name`, as a report holds it: methods, outcomes and the spread.

    `explain() -> line` is asked about samples that are not finite.

    Raises:
      ValueError: where an answer is not finite or a run diverged, as `checked_outcome` says.
    """
    scores, outcomes, spread = jax.device_get(found)
    try:
        outcomes = {method: checked_outcome(method, outcome) for method, outcome in outcomes.items()}
    except ValueError as error:
        raise ValueError(f"{error} ({name})") from error
    for method, row in scores.items():
        if not np.isnan(list(row.values())).any():
            continue
        if method.startswith("posterior_") and explain:
            raise ValueError(f"{explain()} ({name})")
        raise ValueError(f"{method} holds NaN for {name}; the measurement or the settings of the config are out of range")
    return {"methods": jax.tree.map(float, scores), "outcomes": outcomes, **jax.tree.map(float, spread)}
