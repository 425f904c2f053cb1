"""One measurement, every answer: direct, solved for, posterior samples."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from medjax import config as configs
from medjax.experiment.command_line import located
from medjax.experiment.prior import denoiser, initialise
from medjax.experiment.record import of_weights
from medjax.implicit import trouble
from medjax.iterate import Outcome, iterate_until
from medjax.linalg import real_dtype
from medjax.samplers.first_non_finite import first_non_finite
from medjax.samplers.sample import sample
from medjax.training.weights import load_metadata, load_weights
from medjax.typing import Guide, Kernel, Reconstruction, Solver

_BEYOND = 1.02
"""`Outcome.step_ratio` from which on a step size is too large for certain: the quotients are of single precision."""


def checked_method(config: configs.Config, method: str, num_samples: int) -> tuple[str, int]:
    """`(method, num_samples)`, those of the config where they are empty and 0; no samples for a method that gives one image.

    Raises:
      ConfigError: for an unknown method, a function whose data are set by hand, no samples, or a baseline that is no `Solve`.
    """
    method, num_samples = method or config.method, num_samples or config.num_samples
    if not isinstance(config.methods.get(config.baseline), configs.Solve):
        solves = [name for name, settings in config.methods.items() if isinstance(settings, configs.Solve)]
        raise configs.ConfigError(f"baseline {config.baseline!r} of config {config.name} is no Solve; {configs.nearest(config.baseline, solves)}")
    if method not in config.methods:
        raise configs.ConfigError(f"no method {method!r} in config {config.name}; {configs.nearest(method, config.methods)}")
    if num_samples < 1:
        raise configs.ConfigError(f"--num-samples needs at least 1, got {num_samples}")
    settings, offered = config.methods[method], {name: None for name in ("A", "y", "sigma_y", "denoise")}
    for field in {configs.Solve: ("solver",), configs.Learned: ("reconstruction",), configs.Method: ("guide", "kernel")}[type(settings)]:
        spec = getattr(settings, field)
        for name in configs.taken(spec, offered) if spec else ():
            if name in spec.args:
                origin = "prior" if name == "denoise" else "measurement"
                raise configs.ConfigError(f"methods.{method}.{field}.{name} cannot be set; it comes from the {origin}")
    return method, num_samples if isinstance(settings, configs.Method) else 0


def needs_prior(config: configs.Config, methods) -> bool:
    """Whether any of `methods` asks for the trained prior."""
    settings = [config.methods[name] for name in methods]
    plugged = [s for s in settings if isinstance(s, configs.Solve) and configs.taken(s.solver, {"denoise": None})]
    return bool(plugged) or any(isinstance(s, configs.Method) for s in settings)


def wanted_weights(config: configs.Config, methods) -> dict[str, tuple[str, Any]]:
    """What `methods` need to have learned: `prior`, or the name of a learned method, -> (path of its weights, their shapes)."""
    key, found = jax.random.key(0), {}
    if needs_prior(config, methods):
        found["prior"] = prior_path(config), jax.eval_shape(lambda: initialise(config.prior, key))
    for name in methods:
        settings = config.methods[name]
        if isinstance(settings, configs.Learned):
            A = configs.build(config.measure.operator)
            y = jax.eval_shape(A, jax.ShapeDtypeStruct(config.prior.shape, jnp.result_type(float)))
            made = reconstruction(config, settings)
            path = settings.checkpoint or _where(f"{config.name}_{name}")
            found[name] = path, jax.eval_shape(lambda A, made=made, y=y: made.init(key, A, jnp.zeros(y.shape, y.dtype)), A)
    return found


def prior_path(config: configs.Config) -> str:
    """The weights of the prior that the config names, or those of one's own training where they are not there."""
    return named_path(config.prior.checkpoint, config.name)


def named_path(path: str, name: str) -> str:
    """`path`, or the weights of one's own training of that name where it is not there and they are."""
    own = f"out/train/{name}/weights.safetensors"
    return own if not located(path).is_file() and located(own).is_file() else path


def _where(name):
    """The weights of one's own training where there are such, else those that are shipped."""
    own = f"out/train/{name}/weights.safetensors"
    shipped = f"checkpoints/{name}.safetensors"
    return own if located(own).is_file() or not located(shipped).is_file() else shipped


def loaded_weights(config: configs.Config, methods) -> tuple[dict[str, Any], list[str]]:
    """The weights that `wanted_weights` names, and a line for each learned method on where they are from, and what they were trained for elsewhere.

    Raises:
      ValueError: as `load_weights`.
    """
    found, remarks = {}, []
    for name, (path, like) in wanted_weights(config, methods).items():
        found[name] = load_weights(located(path), like)
        record = load_metadata(located(path)).get("config", "{}")
        other = of_weights(record, config, name)
        if name != "prior" or other or path != config.prior.checkpoint:
            remarks.append(f"{name}: weights {path}{f', of another problem: {other}' * bool(other)}")
    return found, remarks


def reconstruction(config: configs.Config, settings: configs.Learned) -> Reconstruction:
    """The reconstruction of a `Learned`, before its weights; the direct inverse is given to it, and to those inside it, where they take one."""
    return configs.build(_with_direct(settings.reconstruction, direct(config)))


def _with_direct(spec: configs.Spec, fn: Callable) -> configs.Spec:
    """`spec` with fn as the argument `direct` of every function that takes one and has none."""
    args = {name: _with_direct(value, fn) if isinstance(value, configs.Spec) else value for name, value in spec.args.items()}
    return configs.Spec(spec.name, configs.taken(spec, {"direct": fn}) | args)


def direct(config: configs.Config) -> Callable:
    """`(A, y) -> x` of the config's direct inverse."""
    fn = configs.bind(config.direct)
    return lambda A, y: fn(A, y)


def solution(config: configs.Config, method: str, on_step: Callable | None = None, history: bool = False) -> Callable:
    """`(weights, A, y, sigma_y, x0) -> (x, Outcome)` of a `Solve` or a `Learned`, x0 being the direct answer.

    Args:
      config: with the prior and the methods.
      method: key of `config.methods`; its weights are a dict of what `wanted_weights` tells, None where that is nothing.
      on_step: called on the host, without arguments, once for each step of a `Solve`; None costs nothing.
      history: keep the change of every step of a `Solve` in the `Outcome`.
    """
    settings = config.methods[method]
    if isinstance(settings, configs.Learned):
        return _applied(reconstruction(config, settings), method)
    assert isinstance(settings, configs.Solve)
    make_denoiser = denoiser(config.prior) if needs_prior(config, [method]) else None

    def fn(weights, A, y, sigma_y, x0):
        offered = {"A": A, "y": y, "sigma_y": sigma_y, "denoise": make_denoiser(weights["prior"]) if make_denoiser else None}
        solver = configs.build(settings.solver, **configs.taken(settings.solver, offered))
        solver = _told(solver, on_step) if on_step else solver
        x0 = {"direct": x0, "zeros": jnp.zeros_like(x0), "ones": jnp.ones_like(x0)}[settings.start]
        record = (lambda state, info: info.change) if history else None
        state, outcome = iterate_until(solver, x0, settings.tolerance, settings.num_steps, record)
        return state.x, outcome

    return fn


def _applied(made, method):
    """`solution` of a reconstruction; how it ended is what it tells of its lower problem, one step without fault where it tells nothing."""

    def fn(weights, A, y, sigma_y, x0):
        x, metrics = made.apply(weights[method], A, y, sigma_y)
        told = {name: value for name, value in metrics.items() if name.startswith("lower_")}
        zero = jnp.zeros((), real_dtype(x))
        num_steps, change = jnp.asarray(told.get("lower_steps", 1), int), jnp.asarray(told.get("lower_residual", 0.0), zero.dtype)
        converged = jnp.asarray(told.get("lower_converged", 1.0)) > 0
        return x, Outcome(num_steps, change, zero, converged, ~jnp.all(jnp.isfinite(x)), None, told)

    return fn


def checked_outcome(name: str, outcome: Outcome) -> dict[str, Any]:
    """What a report says of a run of `name`, with what `implicit.trouble` reads of a learned method.

    Raises:
      ValueError: where it diverged, its step size was beyond its bound, or a learned regulariser has no minimum near the data.
    """
    num_steps, ratio = int(outcome.num_steps), float(outcome.step_ratio)
    told = {key: float(value) for key, value in (outcome.told or {}).items()}
    beyond = f"its step size is {ratio:.3g} times the largest that converges".replace("inf times", "far above") if ratio > _BEYOND else ""
    if bool(outcome.diverged):
        found = beyond or trouble(told) or "its settings or the data hold numbers out of range"
        raise ValueError(f"{name} diverged after {num_steps} steps: {found}")
    if beyond:
        raise ValueError(f"{name}: {beyond}; a smaller one is needed")
    if told.get("lower_unbounded"):
        raise ValueError(f"{name}: {trouble(told)}")
    found = {"num_steps": num_steps, "change": float(outcome.change), "step_ratio": ratio, "converged": bool(outcome.converged), **told}
    return found if outcome.history is None else {**found, "history": [float(v) for v in outcome.history[:num_steps]]}


def posterior(config: configs.Config, method: str, num_samples: int, on_step: Callable | None = None) -> Callable:
    """`(weights, key, A, y, sigma_y) -> samples [num_samples, ...]`, all in one program by `vmap`.

    Args:
      config: with the prior and the methods.
      method: key of `config.methods`, a `Method`; empty for the config's own.
      num_samples: how many samples; 0 for the config's number.
      on_step: called on the host, without arguments, once for each step of each sample; None costs nothing.

    Raises:
      ConfigError: as in `checked_method`.
    """
    return _drawn(config, method, num_samples, on_step, sample)


def broken_at(config: configs.Config, method: str, num_samples: int) -> Callable:
    """`(weights, key, A, y, sigma_y) -> steps [num_samples]`: `posterior` once more, to find after which step each sample is not finite.

    Steps count from 0; a sample that stays finite has the number of steps.
    """
    return _drawn(config, method, num_samples, None, first_non_finite)


def not_finite(name: str, steps, num_steps: int) -> str:
    """What is said of samples by `name` that broke at `steps` `[num_samples]`, as `broken_at` found them; samples and steps are counted from 1."""
    broken = np.flatnonzero(np.asarray(steps) < num_steps)
    if not len(broken):
        return f"{name}: a sample is not finite, but all were when they were drawn once more"
    which, when = (", ".join(str(int(i) + 1) for i in found) for found in (broken, np.asarray(steps)[broken]))
    samples, verb, word = ("sample", "is", "step") if len(broken) == 1 else ("samples", "are", "steps")
    return f"{name}: {samples} {which} of {len(steps)} {verb} not finite from {word} {when} of {num_steps} on"


def finite_samples(name: str, samples, num_steps: int, replay: Callable) -> tuple[Any, str]:
    """`(samples, line)`: those of `samples` `[num_samples, ...]` that are finite, and what is said of the others, empty where all are.

    `replay() -> steps`, of `broken_at`, is called only where one is not.

    Raises:
      ValueError: with the line, where none is finite.
    """
    finite = np.asarray(jnp.all(jnp.isfinite(samples), axis=tuple(range(1, samples.ndim))))
    if finite.all():
        return samples, ""
    line = not_finite(name, replay(), num_steps)
    if not finite.any():
        raise ValueError(line)
    return samples[finite], line


def _drawn(config, method, num_samples, on_step, walk):
    """`posterior`, `walk` being `sample` or what takes its place."""
    method, num_samples = checked_method(config, method, num_samples)
    settings, prior, make_denoiser = config.methods[method], config.prior, denoiser(config.prior)
    assert isinstance(settings, configs.Method)
    sigmas = configs.build(settings.levels, settings.num_steps, settings.sigma_min, settings.sigma_max)

    def fn(weights, key, A, y, sigma_y):
        guide, kernel = sampler(settings, A, y, sigma_y)
        if kernel.particles != bool(settings.particles):
            needed = "carries particles, at least 1 is" if kernel.particles else "carries one image, 0 is"
            raise configs.ConfigError(f"methods.{method}.particles is {settings.particles}; {settings.kernel.name} {needed} needed")
        guided, kernel = guide(make_denoiser(weights["prior"])), _observed(kernel, on_step) if on_step else kernel

        def one(key):
            key_start, key_run = jax.random.split(key)
            shape = (settings.particles, *prior.shape) if settings.particles else prior.shape
            start = prior.mean + sigmas[0] * jax.random.normal(key_start, shape)
            return walk(key_run, kernel, guided, sigmas, start)

        if not settings.particles:
            return jax.vmap(one)(jax.random.split(key, num_samples))
        found = jax.vmap(one)(jax.random.split(key, -(-num_samples // settings.particles)))
        found = found.reshape(-1, *found.shape[2:]) if found.ndim > 1 else jnp.repeat(found, settings.particles)
        return found[:num_samples]

    return fn


def sampler(settings: configs.Method, A, y, sigma_y) -> tuple[Guide, Kernel]:
    """Guide and kernel of a `Method` for data; the guide leaves the denoiser alone where there is none."""
    guide = configs.build(settings.guide, A, y, sigma_y) if settings.guide else lambda denoise: denoise
    return guide, configs.build(settings.kernel, **configs.taken(settings.kernel, {"A": A, "y": y, "sigma_y": sigma_y}))


def _observed(kernel: Kernel, on_step: Callable) -> Kernel:
    """`kernel`, with `on_step` called on the host after each step."""

    def step(key, x, state, sigma, sigma_next, denoise):
        x, state = kernel.step(key, x, state, sigma, sigma_next, denoise)
        jax.debug.callback(lambda _: on_step(), x.ravel()[0])
        return x, state

    return kernel._replace(step=step)


def _told(solver: Solver, on_step: Callable) -> Solver:
    """`solver`, with `on_step` called on the host after each step."""

    def step(state):
        state, info = solver.step(state)
        jax.debug.callback(lambda _: on_step(), info.change)
        return state, info

    return Solver(solver.init, step)


def residual(A, x, y, sigma_y):
    """Root mean square of (y - A x) / sigma_y, over measured entries: 1 where the fit is as good as the noise allows."""
    error = (y - A(x)) / sigma_y
    measured = jnp.abs(y) > 0 if jnp.iscomplexobj(y) else jnp.ones(y.shape, bool)  # k-space is exactly 0 where the mask is
    components = 2 if jnp.iscomplexobj(y) else 1
    return jnp.sqrt(jnp.sum(jnp.abs(error) ** 2 * measured) / (components * jnp.maximum(jnp.sum(measured), 1)))
