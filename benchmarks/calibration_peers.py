"""The mixture of benchmarks/calibration.py by azula and deepinv: python benchmarks/calibration_peers.py [--json FILE] [--seeds N].

The same problems by the same seeds, the same 1,000 exact samples and directions, and the exact denoiser. azula's samplers run 200 steps of its
variance-preserving schedule with end points of 1e-3, as many calls as ours; its guides have as many iterations of their solver as there are data.
Distances go beside ours into the same file, as `azula DPS` and so on.
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

from medjax.report.atomic import write_atomically  # noqa: E402


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
            self.means, self.log_weights, self.schedule = means, torch.log(weights), noise.VPSchedule(alpha_min=1e-3, sigma_min=1e-3)

        def forward(self, x, t, **kwargs):
            alpha, sigma = self.schedule(t)
            total = alpha**2 + sigma**2
            squares = (alpha * self.means).square().sum(-1)
            share = torch.softmax(self.log_weights + (alpha * x @ self.means.T - squares / 2) / total, -1)
            mean = share @ self.means
            return denoise.DiracPosterior(mean=mean + alpha / total * (x - alpha * mean))

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
            for name, run in azula_samplers(problem).items():
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
