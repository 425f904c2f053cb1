"""What a step of a sampler and of a posterior sampler costs: python benchmarks/posterior_step.py [--only loop] [--json FILE].

The untrained networks and operators of configs/ct_torso.py (128 px, 60 views) and configs/debug.py (32 px, 20 views), float32, one program each.
`bare` are the calls that a method cannot do without, and no others, in a `fori_loop`; `x` is how many times as long the method takes, the median
of neighbours in one interleaved run; beside deepinv, how many times faster we are than the faster of it on one thread and it on all, for threads of
torch wait for one another on a busy machine.

loop: `sample` beside the denoiser's calls, in a `fori_loop` and one program a call; drawing noise is no call.
step: guides with one Krylov step and `ddim(1.0)` beside the network's value and vector-Jacobian products, A and its adjoint, as many as needed.
many: N samples by `vmap` beside the same calls on a batch of N, those of the network alone, and N times one sample.
memory: temporaries at 10 and 1000 steps.
deepinv: its `DPS` and its `Tomography` beside ours, parallel beam of 30 views, the denoiser of a white Gaussian prior in both, which costs nothing.
Same levels, same start and, of the deterministic sampler, same formula: its weight is our zeta / beta(sigma). `same A` is
||ours - theirs|| / ||theirs|| with the matrix of its projector in both, within 1e-3; `own A` that of each with its own projector, on data of that
projector.
"""

import dataclasses
import importlib
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from race import faster, gap, main, milliseconds, race, temporaries, torch_for_deepinv  # noqa: E402

from medjax.config import build, load  # noqa: E402
from medjax.diffusion.ddpm import linear_rate  # noqa: E402
from medjax.diffusion.karras import karras  # noqa: E402
from medjax.experiment.prior import denoiser, initialise  # noqa: E402
from medjax.guides.dds import dds  # noqa: E402
from medjax.guides.dps import dps  # noqa: E402
from medjax.guides.mmps import mmps  # noqa: E402
from medjax.guides.pigdm import pigdm  # noqa: E402
from medjax.operators.parallel_beam import parallel_beam  # noqa: E402
from medjax.phantoms.shepp_logan import shepp_logan  # noqa: E402
from medjax.samplers.ddim import ddim  # noqa: E402
from medjax.samplers.heun import heun  # noqa: E402
from medjax.samplers.sample import sample  # noqa: E402

NETWORKS = ("ct_torso", "debug")
NUM_STEPS, NUM_SAMPLES, BATCH_STEPS, SECONDS = 20, 8, 5, 60.0
SIGMA_Y = 1.0
SMALL = 1e-6  # of what the bare calls add, so that they stay finite

KERNELS = {"ddim(0)": ddim(0.0), "ddim(1)": ddim(1.0), "heun": heun()}
GUIDES = {
    "dps": lambda A, y: dps(A, y, SIGMA_Y, zeta=0.005),
    "pigdm": lambda A, y: pigdm(A, y, SIGMA_Y, num_krylov=1),
    "mmps": lambda A, y: mmps(A, y, SIGMA_Y, num_krylov=1),
    "dds": lambda A, y: dds(A, y, SIGMA_Y, num_krylov=1),
}


def setting(name):
    """`params -> Denoiser` and the arguments of a sampler: params, operator, data, start."""
    config = load(Path(__file__).parents[1] / f"configs/{name}.py")
    A = build(config.measure.operator)
    params = jax.jit(lambda key: initialise(config.prior, key))(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), config.prior.shape)
    return denoiser(config.prior), params, A, jax.jit(lambda A, x: A(x))(A, jnp.abs(x)), x


def bare_step(guide, denoise, A, y, x, sigma, measure=True):
    """The calls of a guided denoiser with one Krylov step; without A where only the network counts."""
    if not measure:
        A, y = Identity(), x
    if guide == "dds":
        denoised = denoise(x, sigma)
        return denoised + SMALL * A.adjoint(A(A.adjoint(y - A(denoised))))
    denoised, vjp = jax.vjp(lambda x: denoise(x, sigma), x)
    u = y - A(denoised)
    if guide == "pigdm":
        u = u + SMALL * A(A.adjoint(u))
    if guide == "mmps":
        u = u + SMALL * A(vjp(A.adjoint(u))[0])
    return denoised + SMALL * vjp(A.adjoint(u))[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Identity:
    """In the place of an operator."""

    def __call__(self, x):
        """x."""
        return x

    def adjoint(self, y):
        """y."""
        return y


def loop_rows():
    """The loop and its denoiser calls."""
    rows = []
    for name in NETWORKS:
        make, params, _, _, x = setting(name)
        sigmas = karras(NUM_STEPS, 0.01, 10.0)
        one = jax.jit(lambda params, x, sigma, make=make: make(params)(x, sigma))
        for kernel, calls in zip(KERNELS, (NUM_STEPS, NUM_STEPS, 2 * NUM_STEPS - 1), strict=True):

            def loop(params, sigmas, x, make=make, kernel=kernel):
                return sample(jax.random.key(0), KERNELS[kernel], make(params), sigmas, x)

            def bare(params, sigmas, x, make=make, calls=calls):
                return jax.lax.fori_loop(0, calls, lambda i, x: make(params)(x, sigmas[i % NUM_STEPS]), x)

            def each(params, sigmas, x, one=one, calls=calls):
                for i in range(calls):
                    x = one(params, x, sigmas[i % NUM_STEPS])
                return x

            levels = list(sigmas)
            compiled = {"sample": jax.jit(loop), "bare": jax.jit(bare)}
            contenders = {key: (lambda fn=fn, a=(params, sigmas, x): fn(*a)) for key, fn in compiled.items()}
            contenders["one by one"] = lambda each=each, a=(params, levels, x): each(*a)
            times, _ = race(contenders, turns=40, seconds=SECONDS)
            row = {"loop": f"{name}, {kernel}"} | {f"{key}, a call [ms]": milliseconds(t) / calls for key, t in times.items()}
            rows.append(row | {f"x {key}": faster(times[key], times["sample"]) for key in ("bare", "one by one")})
    return rows


def step_rows():
    """Guides and their calls."""
    rows = []
    for name in NETWORKS:
        make, *arguments = setting(name)
        sigmas = karras(NUM_STEPS, 0.01, 10.0)
        for guide in GUIDES:
            fns = programs(make, guide)
            contenders = {key: (lambda fn=fns[key], a=(sigmas, *arguments): fn(*a)) for key in ("sample", "bare")}
            times, _ = race(contenders, turns=40, seconds=SECONDS)
            row = {"step": f"{name}, {guide}"} | {f"{key} [ms]": milliseconds(t) / NUM_STEPS for key, t in times.items()}
            rows.append(row | {"x": faster(times["bare"], times["sample"])})
    return rows


def programs(make, guide):
    """`(sigmas, params, A, y, x) -> x` compiled: a sampler, its calls, and those of its network, each of one sample."""

    def run(sigmas, params, A, y, x):
        return sample(jax.random.key(0), ddim(1.0), GUIDES[guide](A, y)(make(params)), sigmas, x)

    def bare(sigmas, params, A, y, x, measure=True):
        steps = len(sigmas) - 1
        return jax.lax.fori_loop(0, steps, lambda i, x: bare_step(guide, make(params), A, y, x, sigmas[i], measure), x)

    def network(*arguments):
        return bare(*arguments, measure=False)

    return {"sample": jax.jit(run), "bare": jax.jit(bare), "network": jax.jit(network)}


def together(make, guide):
    """`(sigmas, params, A, y, keys, xs) -> xs` compiled: a guided sampler under `vmap`, as a user writes it."""

    def run(sigmas, params, A, y, keys, xs):
        denoise = GUIDES[guide](A, y)(make(params))
        return jax.vmap(lambda key, x: sample(key, ddim(1.0), denoise, sigmas, x))(keys, xs)

    return jax.jit(run)


def on_batch(fn):
    """One of `programs` on a batch of starts."""
    return jax.jit(jax.vmap(fn, (None, None, None, None, 0)))


def many_rows():
    """Samples by `vmap` in one program, the same calls on a batch, and one sample."""
    rows = []
    for name in NETWORKS:
        make, params, A, y, x = setting(name)
        sigmas, xs = karras(BATCH_STEPS, 0.01, 10.0), jax.random.normal(jax.random.key(2), (NUM_SAMPLES, *x.shape))
        for guide in ("dps", "mmps"):
            fns = programs(make, guide)

            keys, common = jax.random.split(jax.random.key(3), NUM_SAMPLES), (sigmas, params, A, y)
            compiled = {
                "vmap": (together(make, guide), (*common, keys, xs)),
                "bare": (on_batch(fns["bare"]), (*common, xs)),
                "network": (on_batch(fns["network"]), (*common, xs)),
                "alone": (fns["sample"], (*common, x)),
            }
            times, _ = race({key: (lambda fn=fn, a=a: fn(*a)) for key, (fn, a) in compiled.items()}, turns=40, seconds=SECONDS)
            times["alone"] = times["alone"] * NUM_SAMPLES
            row = {f"{NUM_SAMPLES} samples": f"{name}, {guide}"}
            row |= {f"{key}, a step of one [ms]": milliseconds(t) / NUM_SAMPLES / BATCH_STEPS for key, t in times.items()}
            rows.append(row | {f"x {key}": faster(times[key], times["vmap"]) for key in ("bare", "network", "alone")})
    return rows


def memory_rows():
    """Temporaries of the compiled loop."""
    rows = []
    for name in NETWORKS:
        make, *arguments = setting(name)
        for guide in ("dps", "mmps"):
            run = programs(make, guide)["sample"]
            row = {f"at {steps} steps [MB]": temporaries(run, karras(steps, 0.01, 10.0), *arguments) for steps in (10, 1000)}
            rows.append({"memory": f"{name}, {guide}"} | row)
    return rows


SIZES, NUM_VIEWS, DPS_STEPS = (64, 128), 30, 100
WEIGHT, MEAN, STD, NOISE = 1.0, 0.2, 0.3, 0.1
SIGMA_MAX, SIGMA_MIN = 80.0, 0.001  # deepinv's


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Matrix:
    """A `[m, n * n]` as an operator on `[n, n]`, for the projector of another package."""

    matrix: jax.Array

    def __call__(self, x):
        """`[m]`."""
        return self.matrix @ x.ravel()

    def adjoint(self, y):
        """`[n, n]`."""
        return (self.matrix.T @ y).reshape(2 * [round(self.matrix.shape[1] ** 0.5)])


def denoise(x, sigma):
    """That of white Gaussian images."""
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


def ours(kernel):
    """`(A, y, x) -> x` compiled: DPS with deepinv's weight, which is constant in the score."""

    def run(A, y, x):
        def guided(x, sigma):
            return dps(A, y, zeta=WEIGHT * linear_rate(sigma))(denoise)(x, sigma)

        return sample(jax.random.key(0), kernel, guided, jnp.geomspace(SIGMA_MAX, SIGMA_MIN, DPS_STEPS + 1), x)

    return jax.jit(run)


def theirs(n):
    """deepinv's projector as a function of NumPy images `[n, n]`, its matrix by columns, and `(solver, y, x) -> x`."""
    torch = torch_for_deepinv()
    physics, sampling = importlib.import_module("deepinv.physics"), importlib.import_module("deepinv.sampling")
    base = importlib.import_module("deepinv.models.base").Denoiser

    class Gaussian(base):
        """The same denoiser."""

        def forward(self, x, sigma, **_):
            """D(x, sigma)."""
            return denoise(x, sigma)

    angles = torch.arange(NUM_VIEWS) * (180 / NUM_VIEWS)
    A = physics.Tomography(angles, img_width=n, circle=False, normalize=False)

    def project(images):
        return A.A(torch.tensor(images)[:, None])[:, 0].numpy()

    def method(solver, num_threads):
        options = {"dtype": torch.float32, "minus_one_one": False}  # the images are not scaled, as ours are not
        model = sampling.DPS(Gaussian(), schedule="ve", solver=solver, num_steps=DPS_STEPS + 1, weight=WEIGHT, **options)
        model.data_fidelity.clip = None

        def run(y, x):
            torch.set_num_threads(num_threads)
            return model(torch.tensor(y)[None, None], A, x_init=torch.tensor(x)[None, None], denoise_output=False)[0, 0].numpy()

        return run

    return project, method


def deepinv_rows():
    """DPS by both, deterministic and ancestral."""
    rows, rng = [], np.random.default_rng(0)
    for n in SIZES:
        try:
            project, method = theirs(n)
        except ImportError:
            print("deepinv is not installed: left out, and with it all ratios")
            return [{"DPS": "-"}]
        image, x = np.asarray(shepp_logan(n).image, np.float32), SIGMA_MAX * rng.standard_normal((n, n), np.float32)
        left = project(image[None])[0]
        num_detectors = left.shape[0]
        A = parallel_beam(n, np.arange(NUM_VIEWS) * np.pi / NUM_VIEWS, num_detectors)
        noise = NOISE * rng.standard_normal(left.shape, np.float32)
        y, y_theirs = np.asarray(A(jnp.asarray(image))) + noise.T, left + noise
        for solver, kernel in (("ddim", ddim(0.0)), ("ddpm", ddim(1.0))):
            run, given = ours(kernel), (A, jnp.asarray(y), jnp.asarray(x))
            models = {f"deepinv, {threads} threads": method(solver, threads) for threads in sorted({1, os.cpu_count()})}
            contenders = {key: (lambda fn=fn, a=(y_theirs, x): fn(*a)) for key, fn in models.items()}
            contenders["medjax"] = lambda run=run, a=given: run(*a)
            times, results = race(contenders, turns=40, seconds=SECONDS)
            best = min(models, key=lambda key: np.median(times[key]))
            row = {"DPS": f"{n} px, {solver}"} | {f"{key} [ms]": milliseconds(t) / DPS_STEPS for key, t in times.items()}
            row |= {"x": faster(times["medjax"], times[best]), "same A": float("nan"), "own A": float("nan")}
            if solver == "ddim":
                row["own A"] = gap(results["medjax"], results[best])
                row["same A"] = same(project, n, run, y_theirs, x, results[best]) if n == SIZES[0] else row["same A"]
            rows.append(row)
    return rows


def same(project, n, run, y, x, answer):
    """How far ours is from their answer, with the matrix of their projector."""
    units = np.eye(n * n, dtype=np.float32).reshape(n, n, n, n)
    columns = np.concatenate([project(part) for part in units])
    matrix = jnp.asarray(columns.reshape(n * n, -1).T)
    error = gap(run(Matrix(matrix), jnp.asarray(y.ravel()), jnp.asarray(x)), answer)
    assert error <= 1e-3, f"DPS: {error:.2g} from deepinv's, 1e-3 is allowed"
    return error


if __name__ == "__main__":
    tables = {"loop": loop_rows, "step": step_rows, "many": many_rows, "memory": memory_rows, "deepinv": deepinv_rows}
    main(__doc__, tables)
