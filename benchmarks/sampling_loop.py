"""What the sampling loop costs beside the network and the operator: python benchmarks/sampling_loop.py [--json FILE].

One interleaved run of (a) `sample` with DDS and DDIM over N steps and (b) the same N denoiser and operator calls in a bare `fori_loop`, with the
untrained network of configs/ct_torso.py. Then how often it was traced, and the memory of the compiled loop at 10 and 1000 steps.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from race import faster, main, milliseconds, race, temporaries  # noqa: E402

from medjax.config import build, load  # noqa: E402
from medjax.diffusion.karras import karras  # noqa: E402
from medjax.experiment.prior import denoiser, initialise  # noqa: E402
from medjax.guides.dds import dds  # noqa: E402
from medjax.samplers.ddim import ddim  # noqa: E402
from medjax.samplers.sample import sample  # noqa: E402

NUM_STEPS, NUM_KRYLOV = 20, 5


def loop_rows():
    """The loop and its bare calls."""
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
    calls = {name: (lambda fn=fn: fn(params, jax.random.key(0), sigmas, A, y, x)) for name, fn in functions.items()}
    times, _ = race(calls, seconds=60)
    num_traces = len(traces)
    memory = [temporaries(loop, params, jax.random.key(0), karras(steps, 0.01, 10.0), A, y, x) for steps in (10, 1000)]
    rows = []
    for name, seconds in times.items():
        row = {"loop": name, "a step [ms]": milliseconds(seconds) / NUM_STEPS, "over bare [%]": 100 * (faster(times["bare calls"], seconds) - 1)}
        inside = {"traced": num_traces, "temp at 10 steps [MB]": memory[0], "at 1000 [MB]": memory[1]}
        rows.append(row | (inside if name == "sample" else dict.fromkeys(inside, float("nan"))))
    return rows


if __name__ == "__main__":
    main(__doc__, {"loop": loop_rows})
