"""What the sampling loop costs beside the network and the operator: python benchmarks/sampling_loop.py.

One interleaved run of (a) `sample` with DDS and DDIM over N steps and (b) the same N denoiser and operator calls in a bare `fori_loop`, with the
untrained network of configs/ct_torso.py. Then compilations counted over three calls, and the memory of the compiled loop at 10 and 1000 steps.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from medjax.config import build, load  # noqa: E402
from medjax.diffusion.karras import karras  # noqa: E402
from medjax.experiment.prior import denoiser, initialise  # noqa: E402
from medjax.guides.dds import dds  # noqa: E402
from medjax.samplers.ddim import ddim  # noqa: E402
from medjax.samplers.sample import sample  # noqa: E402

NUM_STEPS, NUM_KRYLOV, ROUNDS = 20, 5, 9


def main():
    """Print the three tables."""
    config = load(Path(__file__).parents[1] / "configs/ct_torso.py")
    A = build(config.measure.operator)
    params = jax.jit(lambda key: initialise(config.prior, key))(jax.random.key(0))
    make, x = denoiser(config.prior), jax.random.normal(jax.random.key(1), config.prior.shape)
    y = A(jnp.abs(x))
    traces = []

    def loop(params, key, sigmas, A, y, x):
        traces.append(1)
        return sample(key, ddim(0.85), dds(A, y, 1.0, num_krylov=NUM_KRYLOV)(make(params)), sigmas, x)

    def bare(params, key, sigmas, A, y, x):
        def body(i, x):
            x = make(params)(x, sigmas[i])
            x = jax.lax.fori_loop(0, NUM_KRYLOV + 1, lambda _, v: 1e-3 * A.adjoint(A(v)), x)
            return x

        return jax.lax.fori_loop(0, NUM_STEPS, body, x)

    sigmas = karras(NUM_STEPS, 0.01, 10.0)
    functions = {"sample": jax.jit(loop), "bare calls": jax.jit(bare)}
    times = {name: [] for name in functions}
    for i in range(ROUNDS + 1):
        for name, fn in functions.items():
            clock = time.perf_counter()
            jax.block_until_ready(fn(params, jax.random.key(i), sigmas, A, y, x))
            times[name].append(time.perf_counter() - clock)
    medians = {name: np.median(t[1:]) for name, t in times.items()}
    ratio = np.median(np.array(times["sample"][1:]) / np.array(times["bare calls"][1:]))
    for name, seconds in medians.items():
        print(f"{name:12s} {1e3 * seconds / NUM_STEPS:8.2f} ms a step")
    print(f"overhead of the loop {100 * (ratio - 1):+.1f} % (median of {ROUNDS} interleaved pairs)")
    print(f"traced {len(traces)} time(s) in {ROUNDS + 1} calls")
    for num_steps in (10, 1000):
        levels = karras(num_steps, 0.01, 10.0)
        memory = jax.jit(loop).lower(params, jax.random.key(0), levels, A, y, x).compile().memory_analysis()
        print(f"{num_steps:5d} steps: {memory.temp_size_in_bytes / 2**20:.2f} MiB of temporary memory")


if __name__ == "__main__":
    main()
