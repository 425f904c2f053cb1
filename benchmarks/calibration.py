"""Which posterior samplers tell the truth: python benchmarks/calibration.py [--json FILE] [--only gaussian|network|simulated|mixture]
[--methods A,B] [--sizes D,D] [--seeds N].

`gaussian`: a correlated Gaussian field at 32 px under six operators, whose posterior is known (tests/gaussian_suite.py). 1,000 samples of
every method (tests/rows_posterior.py) against the exact mean and standard deviation: the ratio of the standard deviations, the RMS error of the
mean in exact standard deviations (chance alone gives .032), and how many samples lie in the exact central 90 % interval.

`network`: how often one sample calls the denoiser, forward and backward (vector-Jacobian products).

`simulated`: 400 times a truth is drawn from the prior, data from the truth and 19 samples from the method (Talts et al. 2018): 12 pixels of a
Gaussian field, and of two Gaussians whose means are 1 and -1 and whose pixels have a standard deviation of 1/2, blurred, with noise of 1/2. The place
of a truth among the samples is uniform if they are right, so it lies in their central 50 and 90 % in 50 and 90 % of all cases, whatever the law; p is
the chance of what the least uniform pixel shows, by 12 pixels; z is the error of the mean in their standard deviations, 1 if they are right.

`mixture`: 25 Gaussians in 8, 80 and 800 dimensions, 1, 2 and 4 data (Cardoso et al. 2024), 1,000 samples, sliced Wasserstein distance by 10,000
projections to 1,000 exact samples; the floor is that of two exact sets. Problems are turned into the singular vectors of A: distances stay.

Results are added to `docs/calibration.json` as they come, so that a run can be cut and taken up;
`benchmarks/calibration_page.py` makes the page of them.
"""

import argparse
import dataclasses
import functools
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

import gaussian_suite  # noqa: E402
from posterior_methods import counted  # noqa: E402
from race import machine  # noqa: E402
from rows_posterior import COVARIANCE, MEAN, METHODS, NUM, PosteriorRow, alone, draw, guided, line, prepared  # noqa: E402

from medjax.diffusion.gaussian import gaussian  # noqa: E402
from medjax.diffusion.karras import karras  # noqa: E402
from medjax.diffusion.mixture import mixture  # noqa: E402
from medjax.guides.dps import dps  # noqa: E402
from medjax.guides.pigdm import pigdm  # noqa: E402
from medjax.metrics.calibration import bias, exact_coverage, rank, std_ratio, uniformity, z_scores  # noqa: E402
from medjax.metrics.sliced_wasserstein import sliced_wasserstein  # noqa: E402
from medjax.report.atomic import write_atomically  # noqa: E402
from medjax.samplers.ddim import ddim  # noqa: E402
from medjax.samplers.mcg_diff import mcg_diff  # noqa: E402
from medjax.samplers.twisted_smc import twisted_smc  # noqa: E402
from medjax.typing import SVD, Leaf  # noqa: E402

NUM_SAMPLES, STEPS, NUM_SIMULATIONS, NUM_RANKED, NUM_PARTICLES = 1000, 200, 400, 19, 64
SIZES = [(d, dy) for d in (8, 80, 800) for dy in (1, 2, 4)]


def gaussian_cells(methods):
    """`(method, problem) -> function that measures one cell`."""
    for name in gaussian_suite.OPERATORS:
        task = gaussian_suite.problem(name, jax.random.key(3))
        mean, std = gaussian_suite.exact(task)
        for method in methods:
            row = METHODS[method]
            yield f"gaussian/{name}/{method}", lambda row=row, task=task, mean=mean, std=std: _gaussian(row, task, mean, std)


def _gaussian(row, task, mean, std):
    """Scores of 1,000 samples."""
    A, y, sigma_y = prepared(task.A, task.y, task.sigma_y) if row.svd else (task.A, task.y, task.sigma_y)
    denoise, prior_mean = gaussian_suite.denoiser(task.shape), jnp.full(task.shape, gaussian_suite.MEAN)
    run = jax.jit(lambda key, A, y: draw(key, row, A, y, sigma_y, denoise, prior_mean, NUM_SAMPLES))
    compiled = run.lower(jax.random.key(5), A, y).compile()
    clock = time.perf_counter()
    samples = jax.block_until_ready(compiled(jax.random.key(5), A, y))
    seconds = time.perf_counter() - clock
    scores = {"std_ratio": std_ratio(samples, std), "bias": bias(samples, mean, std), "coverage": exact_coverage(samples, mean, std)}
    return {name: float(value) for name, value in scores.items()} | {"calls": row.num_steps * row.calls, "seconds": seconds}


def network_cells(methods):
    """`network/method -> function that counts its denoiser calls`, forward and backward, for one sample or particle of the mask problem."""
    task = gaussian_suite.problem("mask", jax.random.key(3))
    for method in methods:
        yield f"network/{method}", functools.partial(_network, METHODS[method], task)


def _network(row, task):
    few, counts = row._replace(particles=min(row.particles, 4)), {"forward": 0, "backward": 0}
    A, y, sigma_y = prepared(task.A, task.y, task.sigma_y) if row.svd else (task.A, task.y, task.sigma_y)
    denoise, mean = counted(lambda _: gaussian_suite.denoiser(task.shape), counts)(None), jnp.full(task.shape, gaussian_suite.MEAN)
    jax.block_until_ready(jax.jit(lambda key: draw(key, few, A, y, sigma_y, denoise, mean, 1, at_once=None))(jax.random.key(5)))
    jax.effects_barrier()
    return {kind: count / max(1, few.particles) for kind, count in counts.items()}


def line_priors():
    """`name -> (denoiser, mean, key -> draw)` of 12 pixels: the field of the tests, and two Gaussians."""
    root, centres, variance, shares = jnp.linalg.cholesky(COVARIANCE), jnp.stack([jnp.ones(NUM), -jnp.ones(NUM)]), 0.25, jnp.array([0.7, 0.3])

    def of_two(key):
        first = jax.random.bernoulli(key, shares[0])
        return jnp.where(first, centres[0], centres[1]) + variance**0.5 * jax.random.normal(jax.random.fold_in(key, 1), MEAN.shape, MEAN.dtype)

    return {
        "gaussian": (gaussian(MEAN, COVARIANCE), MEAN, lambda key: MEAN + root @ jax.random.normal(key, MEAN.shape, MEAN.dtype)),
        "two": (mixture(shares, centres, variance), shares @ centres, of_two),
    }


def simulated_cells(methods):
    """`(method, prior) -> function that measures one cell`."""
    for name, prior in line_priors().items():
        for method in methods:
            yield f"simulated/{name}/{method}", lambda row=METHODS[method], prior=prior: _simulated(row, *prior)


def _simulated(row, denoise, mean, draw_truth, sigma_y=0.5):
    """How the places of 400 truths among 19 samples are spread; of at most 64 particles one of each run is taken."""
    A = line(jnp.array([0.2, 0.6, 0.2]))
    if row.svd:  # U and V do not depend on y
        A, _, _ = prepared(A, mean, sigma_y)
    noise, row = 1.0 if row.svd else sigma_y, row._replace(particles=min(row.particles, NUM_PARTICLES))

    def one(key):
        keys = jax.random.split(key, 4)
        truth = draw_truth(keys[0])
        y = A(truth) + noise * jax.random.normal(keys[1], mean.shape, mean.dtype)
        each = max(1, row.particles)
        samples = draw(keys[2], row, A, y, noise, denoise, mean, NUM_RANKED * each, at_once=NUM_RANKED)[::each]
        return rank(keys[3], samples, truth), z_scores(samples, truth)

    run = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=50))
    ranks, z = (np.asarray(a) for a in run(jax.random.split(jax.random.key(11), NUM_SIMULATIONS)))
    counts = np.bincount(ranks.ravel(), minlength=NUM_RANKED + 1)
    p = min(1.0, float(np.min(uniformity(ranks, NUM_RANKED)[1])) * ranks.shape[1])
    expected = ((NUM_RANKED - 1) / (NUM_RANKED - 3)) ** 0.5  # of Student's law
    return {"p": p, "z": float(np.sqrt(np.mean(np.minimum(z**2, 1e6)))) / expected, "ranks": (counts / counts.sum()).tolist()}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Diagonal:
    """The first entries of x, times singular values."""

    values: Leaf
    size: int = dataclasses.field(metadata={"static": True})

    def __call__(self, x):
        """`[n]` -> `[m]`."""
        return self.values * x[: self.values.shape[0]]

    def adjoint(self, y):
        """`[m]` -> `[n]`."""
        return jnp.pad(self.values * y, (0, self.size - y.shape[0]))

    def svd(self):
        """The identity on both sides."""

        def padded(y):
            return jnp.pad(y, (0, self.size - y.shape[0]))

        return SVD(padded(self.values), lambda x: x, lambda c: c, padded, diagonal=True)


def mixture_problem(size, num_data, seed):
    """Weights, means in the singular vectors of A, singular values, sigma_y and y, drawn as by the authors."""
    rng = np.random.default_rng([size, num_data, seed])
    means = np.stack([np.array([8.0 * i, 8.0 * j] * (size // 2)) for i in range(-2, 3) for j in range(-2, 3)])
    weights = rng.normal(size=25) ** 2
    right = np.linalg.svd(rng.normal(size=(num_data, size)))[2]
    values = np.sort(rng.random(num_data))[::-1]
    sigma_y = float(rng.random() * values.max())
    means = means @ right.T
    x = means[rng.choice(25, p=weights / weights.sum())] + rng.normal(size=size)
    y = values * x[:num_data] + sigma_y * rng.normal(size=num_data)
    return weights / weights.sum(), means, values, sigma_y, y


def exact_mixture(rng, weights, means, values, sigma_y, y):
    """1,000 exact samples of the posterior."""
    gain, num = np.zeros(means.shape[1]), len(y)
    gain[:num] = values
    evidence = np.log(weights) - np.sum((y - values * means[:, :num]) ** 2 / (values**2 + sigma_y**2), axis=1) / 2
    share = np.exp(evidence - evidence.max())
    variance = 1 / (1 + gain**2 / sigma_y**2)
    centres = variance * (means + np.pad(values * y, (0, means.shape[1] - num)) / sigma_y**2)
    chosen = rng.choice(25, NUM_SAMPLES, p=share / share.sum())
    return centres[chosen] + np.sqrt(variance) * rng.normal(size=(NUM_SAMPLES, means.shape[1]))


def split_levels(size):
    """Noise levels for `twisted_smc`: 30 where the modes part, few where the prior is one Gaussian."""
    root = size**0.5
    return jnp.concatenate([jnp.array([400 * root]), jnp.geomspace(30 * root, 1.2 * root, 30), jnp.geomspace(0.6 * root, 0.3, 3), jnp.zeros(1)])


def published_levels(values, sigma_y, num_steps=100):
    """Those of the authors of MCGDiff: 1,000 steps of a linear table thinned evenly in sqrt(alpha bar), the levels of the data kept."""
    alpha_bar = np.cumprod(np.append(1.0, 1 - np.linspace(0.02, 1e-4, 999)))
    distance = np.abs(sigma_y**2 * alpha_bar[None] - (1 - alpha_bar)[None] * values[:, None] ** 2)
    kept = {int(i) for i in distance.argmin(1)} - {0}
    end = int(np.argmax(np.sqrt(alpha_bar) < 1e-2))
    least, last, steps = (1 - np.sqrt(alpha_bar[end])) / (num_steps - 1 - len(kept)), 1.0, [0]
    for i in range(1, end):
        if last - np.sqrt(alpha_bar[i]) >= least or i in kept:
            steps.append(i)
            last = np.sqrt(alpha_bar[i])
    steps += [int(i) for i in np.ceil(np.linspace(steps[-1], len(alpha_bar) - 1, num_steps - len(steps) + 1))[1:]]
    return jnp.asarray(np.sqrt((1 - alpha_bar) / alpha_bar)[sorted(set(steps), reverse=True)])


def mixture_rows():
    """Methods of the mixture: all of METHODS over levels that reach its means, and two by their own protocol."""
    chosen = {name: row for name, row in METHODS.items() if not row.particles and not name.startswith("pnp_dm")}
    rows = {name: row._replace(num_steps=STEPS // row.calls, levels=_wide) for name, row in chosen.items()}
    rows["pigdm"] = rows["pigdm"]._replace(make=guided(pigdm, lambda: ddim(1.0)))  # the components' own variance, 1
    step = functools.partial(dps, zeta=0.05)  # the best of .05, .1, .2 and .4 on seeds 0 to 5; the peers have their defaults
    rows["dps"] = rows["dps"]._replace(make=guided(step, lambda: ddim(1.0)))
    smc = PosteriorRow(alone(lambda A, y, s: twisted_smc(A, y, s, num_krylov=4, dense=True, at_once=256)), 34, 2, (0, 1), 1, particles=8192)
    rows["twisted_smc"] = smc._replace(levels=lambda A, y, sigma_y, num_steps: split_levels(A.size))
    rows["mcg_diff"] = PosteriorRow(alone(mcg_diff), 100, 1, (0, 1), 1, particles=128)
    return rows


def _wide(A, y, sigma_y, num_steps):
    """Levels that begin above the means."""
    return karras(num_steps, 0.01, 1000.0)


def mixture_cells(methods, sizes, num_seeds):
    """`floor` and every method of the sizes named and every seed."""
    rows = mixture_rows()
    runs = {}
    for seed in range(num_seeds):
        for size, num_data in (pair for pair in SIZES if pair[0] in sizes):
            problem = mixture_problem(size, num_data, seed)
            for method in ["floor", *(name for name in methods if name in rows)]:
                cell = f"mixture/{size}/{num_data}/{seed}/{method}"
                yield cell, lambda p=problem, m=method, s=seed: _mixture(runs, rows, p, m, s)


def _mixture(runs, rows, problem, method, seed):
    """Sliced Wasserstein distance of one run."""
    weights, means, values, sigma_y, y = problem
    rng = np.random.default_rng(seed)
    exact, other = (exact_mixture(rng, *problem) for _ in range(2))
    clock = time.perf_counter()
    if method != "floor":
        other = _mixture_samples(runs, rows[method], method, problem, seed)
    distance = _distance(jnp.asarray(exact, jnp.float32), jnp.asarray(other, jnp.float32))
    return {"distance": float(distance), "seconds": time.perf_counter() - clock}


@jax.jit
def _distance(a, b):
    return sliced_wasserstein(jax.random.key(0), a, b)


def _mixture_samples(runs, row, method, problem, seed):
    """1,000 samples; of a run of particles as many as there are, or one of each."""
    weights, means, values, sigma_y, y = problem
    levels = published_levels(values, sigma_y) if method == "mcg_diff" else row.levels(Diagonal(values, means.shape[1]), y, sigma_y, row.num_steps)
    shape = (method, means.shape[1], len(y), len(levels))
    if shape not in runs:

        def run(key, weights, means, A, y, sigma_y, levels):
            fixed = row._replace(levels=lambda *_: levels)
            prior, centre = mixture(weights, means, 1.0), jnp.zeros(means.shape[1], means.dtype)
            if method != "mcg_diff":
                samples = draw(key, fixed, A, y, sigma_y, prior, centre, NUM_SAMPLES, at_once=200 if means.shape[1] > 80 else NUM_SAMPLES)
                return samples[:: max(1, len(samples) // NUM_SAMPLES)][:NUM_SAMPLES]
            keys = jax.random.split(key, NUM_SAMPLES)
            return jax.lax.map(lambda key: draw(key, fixed, A, y, sigma_y, prior, centre, 128)[0], keys, batch_size=10)

        runs[shape] = jax.jit(run)
    single = [jnp.asarray(v, jnp.float32) for v in (weights, means, values, y, sigma_y, levels)]
    return runs[shape](jax.random.key(seed), *single[:2], Diagonal(single[2], means.shape[1]), *single[3:])


def main():
    """Measure every cell that the file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, default=ROOT / "docs/calibration.json")
    parser.add_argument("--only", default="")
    parser.add_argument("--methods", default="", help="comma-separated; all by default")
    parser.add_argument("--sizes", default="8,80,800", help="of the mixture")
    parser.add_argument("--seeds", type=int, default=20, help="of the mixture")
    options = parser.parse_args()
    results = json.loads(options.json.read_text()) if options.json.exists() else {"cells": {}}
    results["machine"] = machine()
    known = {*METHODS, *mixture_rows()}
    methods = options.methods.split(",") if options.methods else sorted(known)
    if unknown := set(methods) - known:
        sys.exit(f"no method {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    parts = {
        "gaussian": lambda: gaussian_cells([name for name in methods if name in METHODS]),
        "network": lambda: network_cells([name for name in methods if name in METHODS]),
        "simulated": lambda: simulated_cells([name for name in methods if name in METHODS]),
        "mixture": lambda: mixture_cells(methods, [int(d) for d in options.sizes.split(",")], options.seeds),
    }
    if options.only not in {"", *parts}:
        sys.exit(f"no part {options.only!r}; there are {', '.join(parts)}")
    cells = [cell for name, make in parts.items() if options.only in ("", name) for cell in make()]
    for name, measure in cells:
        if name in results["cells"]:
            continue
        results["cells"][name] = measure()
        print(name, *(f"{k} {v:.3f}" for k, v in results["cells"][name].items() if isinstance(v, float)), flush=True)
        with write_atomically(options.json) as path:
            Path(path).write_text(json.dumps(results, indent=0) + "\n")


if __name__ == "__main__":
    main()
