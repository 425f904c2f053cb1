"""The mixture of benchmarks/calibration.py by azula and deepinv: python benchmarks/calibration_peers.py [--json FILE] [--seeds N].

The same problems by the same seeds, the same 1,000 exact samples and directions, and the exact denoiser. azula's samplers run 200 steps of its
variance-preserving schedule with end points of 1e-3, as many calls as ours; its guides have as many iterations of their solver as there are data.
deepinv's guides run 200 ancestral steps of its variance-exploding schedule from 1000 to .01, its DDRM our levels, its DiffPIR its own, on the
mixture scaled to [0, 1]. Distances go beside ours into the same file, as `azula DPS`, `deepinv DPS` and so on.
"""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import jax.numpy as jnp  # noqa: E402
from calibration import NUM_SAMPLES, ROOT, SIZES, STEPS, _distance, exact_mixture, mixture_problem  # noqa: E402
from race import torch_for_deepinv  # noqa: E402

from medjax.diffusion.karras import karras  # noqa: E402
from medjax.report.atomic import write_atomically  # noqa: E402


def exact_denoiser(torch, weights, means, x, sigma):
    """E[x0 | x] of the mixture, for x `[n, d]`."""
    total = 1 + sigma**2
    share = torch.softmax(torch.log(weights) + (x @ means.T - means.square().sum(-1) / 2) / total, -1)
    mean = share @ means
    return mean + (x - mean) / total


def azula_samplers(problem):
    """`name -> function that gives [1000, d]`."""
    torch = importlib.import_module("torch")
    torch.set_default_dtype(torch.float32)
    denoise, noise, sampling = (importlib.import_module(f"azula.{name}") for name in ("denoise", "noise", "sample"))
    guidance = {name: importlib.import_module(f"azula.guidance.{name}") for name in ("dps", "pgdm", "tmpd", "mmps", "diffpir", "tds")}
    covariance = importlib.import_module("azula.linalg.covariance")
    weights, means, values, sigma_y, y = problem
    weights, means, values, y = (torch.tensor(np.asarray(v).tolist()) for v in (weights, means, values, y))
    size, num = means.shape[1], len(y)

    class Mixture(denoise.Denoiser):
        def __init__(self):
            super().__init__()
            self.schedule = noise.VPSchedule(alpha_min=1e-3, sigma_min=1e-3)

        def forward(self, x, t, **kwargs):
            alpha, sigma = self.schedule(t)
            return denoise.DiracPosterior(mean=exact_denoiser(torch, weights, means, x / alpha, sigma / alpha))

    def A(x):
        return x[..., :num] * values

    def inverse(z):
        return torch.nn.functional.pad(z / values, (0, size - num))

    prior, data, options = Mixture(), y.expand(NUM_SAMPLES, num), {"steps": STEPS, "silent": True}
    variance = torch.tensor(sigma_y**2)
    noise_covariance = covariance.IsotropicCovariance(variance)
    mmps = guidance["mmps"].MMPSDenoiser(prior, data, A, noise_covariance, solver="cg", iterations=num)
    diffpir = guidance["diffpir"].DiffPIRDenoiser(prior, data, A, variance, solver="cg", iterations=num)

    def twist(x, level):
        spread = (level**2 / (1 + level**2)) * values**2 + sigma_y**2
        return -((y - A(x)) ** 2 / spread).sum(-1) / 2

    samplers = {
        "azula DPS": lambda: guidance["dps"].DPSSampler(prior, data, A, zeta=1.0, **options),
        "azula PGDM": lambda: guidance["pgdm"].PGDMSampler(prior, data, A, inverse, eta=1.0, **options),
        "azula TMPD": lambda: sampling.DDPMSampler(guidance["tmpd"].TMPDenoiser(prior, data, A, variance), **options),
        "azula MMPS": lambda: sampling.DDPMSampler(mmps, **options),
        "azula DiffPIR": lambda: sampling.DDPMSampler(diffpir, **options),
        "azula TDS": lambda: guidance["tds"].TDSSampler(prior, twist, **options),
    }

    def run(make, seed):
        torch.manual_seed(seed)
        sampler = make()
        return sampler(sampler.init((NUM_SAMPLES, size))).detach().numpy()

    return {name: lambda seed, make=make: run(make, seed) for name, make in samplers.items()}


def deepinv_samplers(problem):
    """The same of deepinv, for which the singular vectors are images of one row."""
    torch = torch_for_deepinv()
    base, physics = importlib.import_module("deepinv.models.base").Denoiser, importlib.import_module("deepinv.physics")
    sampling, noisy = importlib.import_module("deepinv.sampling"), importlib.import_module("deepinv.sampling.noisy_datafidelity")
    fidelity = importlib.import_module("deepinv.optim.data_fidelity").L2
    weights, means, values, sigma_y, y = problem
    size, num, reach = means.shape[1], len(y), float(np.abs(means).max() + 6)
    weights, means, values, y = (torch.tensor(np.asarray(v).tolist()) for v in (weights, means, values, y))
    padded = torch.nn.functional.pad(values, (0, size - num)).reshape(1, 1, 1, size)
    data = torch.nn.functional.pad(y, (0, size - num)).expand(NUM_SAMPLES, 1, 1, size)

    class Mixture(base):
        def __init__(self, scale, shift):
            super().__init__()
            self.scale, self.shift = scale, shift

        def forward(self, x, sigma, **_):
            level = self.scale * torch.as_tensor(sigma).reshape(-1, 1)  # one for all, or one each
            found = exact_denoiser(torch, weights, means, self.scale * x.reshape(-1, size) - self.shift, level)
            return ((found + self.shift) / self.scale).reshape(x.shape)

    def operator(noise):
        return physics.DecomposablePhysics(mask=padded, img_size=(1, 1, size), noise_model=physics.GaussianNoise(noise))

    def guided(term):
        levels = torch.linspace(1, 0, STEPS + 1, dtype=torch.float64)
        sde, solver = sampling.VarianceExplodingDiffusion(sigma_min=0.01, sigma_max=1000.0), sampling.DDPMSolver(timesteps=levels)
        model = sampling.PosteriorDiffusion(term, Mixture(1.0, 0.0), sde, solver, minus_one_one=False)
        return model(data, operator(sigma_y), x_init=(NUM_SAMPLES, 1, 1, size))

    def diffpir():
        model = sampling.DiffPIR(Mixture(2 * reach, reach), fidelity(), max_iter=STEPS)
        return model(data / (2 * reach) + padded / 2, operator(sigma_y / (2 * reach)))

    plain = Mixture(1.0, 0.0)
    samplers = {
        "deepinv DPS": lambda: guided(noisy.DPSDataFidelity(plain, weight=1.0)),
        "deepinv PiGDM": lambda: guided(noisy.PiGDMDataFidelity(plain, cg_max_iter=num)),
        "deepinv MMPS": lambda: guided(noisy.MomentMatchingDataFidelity(plain, cg_max_iter=num)),
        "deepinv DDRM": lambda: sampling.DDRM(plain, np.asarray(karras(STEPS, 0.01, 1000.0)))(data, operator(sigma_y)),
        "deepinv DiffPIR": lambda: (2 * diffpir() - 1) * reach,
    }

    def run(make, seed):
        torch.manual_seed(seed)
        return make().detach().reshape(NUM_SAMPLES, size).to(torch.float32).numpy()

    return {name: lambda seed, make=make: run(make, seed) for name, make in samplers.items()}


def main():
    """Every sampler on every problem that the file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, default=ROOT / "docs/calibration.json")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    results = json.loads(options.json.read_text()) if options.json.exists() else {"cells": {}}
    for seed in range(options.seeds):
        for size, num_data in SIZES:
            problem = mixture_problem(size, num_data, seed)
            exact = exact_mixture(np.random.default_rng(seed), *problem)
            for name, run in (azula_samplers(problem) | deepinv_samplers(problem)).items():
                cell = f"mixture/{size}/{num_data}/{seed}/{name}"
                if cell in results["cells"]:
                    continue
                clock = time.perf_counter()
                found = run(seed)
                finite = bool(np.isfinite(found).all())
                distance = float(_distance(jnp.asarray(exact, jnp.float32), jnp.asarray(found))) if finite else float("inf")
                results["cells"][cell] = {"distance": distance, "seconds": time.perf_counter() - clock}
                print(cell, f"{distance:.3f}", flush=True)
                with write_atomically(options.json) as path:
                    Path(path).write_text(json.dumps(results, indent=0) + "\n")


if __name__ == "__main__":
    main()
