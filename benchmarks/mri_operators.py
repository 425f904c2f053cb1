"""SENSE and NUFFT beside sigpy and jax-finufft: python benchmarks/mri_operators.py [--json FILE]; peers from requirements-bench.txt.

256 x 256, 8 birdcage coils, float32. SENSE: Poisson disc, R = 4, 24 x 24 calibration samples, conjugate gradient of 30 steps, lambda = .01.
NUFFT: 128 spokes of 512 samples, errors against the exact sum at 300 samples or pixels. Times are medians of one interleaved run A B A B after
a run that compiles; the ratio is the median of the ratios of neighbours. BART is no peer here: there is no Python wheel of it.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from medjax.linalg import conjugate_gradient  # noqa: E402
from medjax.operators.coil_sensitivities import coil_sensitivities  # noqa: E402
from medjax.operators.density_compensation import radial_density  # noqa: E402
from medjax.operators.nufft import nufft  # noqa: E402
from medjax.operators.sense import sense  # noqa: E402
from medjax.operators.toeplitz import toeplitz  # noqa: E402

SIZE, COILS, SIGMA, LAMBDA, STEPS = 256, 8, 0.01, 1e-2, 30

forward = jax.jit(lambda A, x: A(x))
adjoint = jax.jit(lambda A, y: A.adjoint(y))
solve = jax.jit(lambda normal, b: conjugate_gradient(lambda x: normal(x) + LAMBDA * x, b, num_steps=STEPS))
sense_solve = jax.jit(lambda A, y: conjugate_gradient(lambda x: A.normal(x) + LAMBDA * x, A.adjoint(y), num_steps=STEPS))


def interleaved(functions, rounds):
    """Seconds `[functions, rounds]` of an interleaved run and the results, after one run each."""
    results = [np.asarray(f()) for f in functions]
    times = np.zeros((len(functions), rounds))
    for i in range(rounds):
        for j, f in enumerate(functions):
            clock = time.perf_counter()
            jax.block_until_ready(f())
            times[j, i] = time.perf_counter() - clock
    return times, results


def row(case, peer, times, **quality):
    """One line of the table: the seconds of ours and of the peer, how many times faster, and what was held against the truth."""
    ours, theirs = times
    seconds = {"medjax_s": float(np.median(ours)), "peer_s": float(np.median(theirs)), "times_faster": float(np.median(theirs / ours))}
    return {"case": case, "peer": peer, **seconds, **{name: float(value) for name, value in quality.items()}}


def gap(a, b):
    """||a - b|| / ||b||."""
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def scan():
    """Maps whose squares sum to one and an image with a smooth phase, complex64, made by sigpy so that both see the same."""
    import sigpy
    import sigpy.mri

    maps = sigpy.mri.birdcage_maps((COILS, SIZE, SIZE), r=1.5)
    maps = (maps / np.linalg.norm(maps, axis=0)).astype(np.complex64)
    y, x = np.meshgrid(*2 * [np.linspace(-1, 1, SIZE)], indexing="ij")
    image = sigpy.shepp_logan((SIZE, SIZE)).real * np.exp(1j * (0.8 * y + 0.5 * y**2 + 0.6 * y * x))
    return maps, image.astype(np.complex64)


def noise(shape):
    """Complex Gaussian noise."""
    rng = np.random.default_rng(0)
    return (SIGMA / np.sqrt(2) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))).astype(np.complex64)


def sense_rows(rounds):
    """Forward plus adjoint, and the whole reconstruction, against sigpy."""
    import sigpy.mri

    maps, image = scan()
    mask = sigpy.mri.poisson((SIZE, SIZE), 4, calib=(24, 24), seed=0, dtype=np.float32, crop_corner=False).astype(np.float32)
    theirs = sigpy.mri.linop.Sense(maps, weights=mask)  # weights enter as their square root, which a mask of 0 and 1 does not see
    A, x = sense(maps, mask), jnp.asarray(image)
    data = mask * (theirs * image + noise(maps.shape))
    y = jnp.asarray(data)

    def reconstruct():
        return sigpy.mri.app.SenseRecon(data, maps, lamda=LAMBDA, max_iter=STEPS, show_pbar=False).run()

    calls = [lambda: forward(A, x), lambda: theirs * image, lambda: adjoint(A, y), lambda: theirs.H * data, lambda: sense_solve(A, y), reconstruct]
    times, results = interleaved(calls, rounds)
    both = gap(results[0], results[1]) + gap(results[2], results[3])
    return [
        row("SENSE forward + adjoint", "sigpy", (times[0] + times[2], times[1] + times[3]), error_to_peer=both),
        row("SENSE CG 30", "sigpy", times[4:], error_to_peer=gap(results[4], results[5]), nrmse=gap(results[4], image)),
    ]


def spokes(count=128, samples=512):
    """Radial trajectory `[count, samples, 2]`, (ky, kx) in cycles a field of view."""
    angles, radius = np.pi * np.arange(count) / count, (np.arange(samples) - samples // 2) * SIZE / samples
    return np.stack([np.outer(np.sin(angles), radius), np.outer(np.cos(angles), radius)], -1).astype(np.float32)


def exact(k, images):
    """The sum over pixels for each sample, float64: `[coils, samples]`."""
    n = (np.arange(SIZE) - SIZE // 2) / SIZE
    down, right = (np.exp(-2j * np.pi * np.outer(k[:, axis].astype(float), n)) for axis in (0, 1))
    return np.einsum("chw,sh,sw->cs", images.astype(complex), down, right, optimize=True) / SIZE


def exact_adjoint(k, data, pixels):
    """The sum over samples for some pixels, float64: `[coils, pixels]`."""
    phase = np.exp(2j * np.pi * (pixels - SIZE // 2) @ k.astype(float).T / SIZE)
    return data.astype(complex) @ phase.T / SIZE


def finufft_calls(k, images, data, accuracy, oversampling):
    """jax-finufft's two transforms in our scaling; oversampling 0 leaves the choice to it."""
    from jax_finufft import nufft1, nufft2, options

    points, opts = jnp.asarray(2 * np.pi / SIZE * k.reshape(-1, 2), jnp.float32), options.Opts(upsampfac=oversampling)
    there = jax.jit(lambda x, p: nufft2(x, p[:, 0], p[:, 1], eps=accuracy, iflag=-1, opts=opts) / SIZE)
    back = jax.jit(lambda y, p: nufft1((SIZE, SIZE), y, p[:, 0], p[:, 1], eps=accuracy, iflag=1, opts=opts) / SIZE)
    flat = data.reshape(COILS, -1)
    return lambda: there(images, points), lambda: back(flat, points)


def nufft_rows(rounds):
    """Eight coils there and back against jax-finufft, at its most accurate and at its fastest, and against sigpy."""
    import sigpy

    rng = np.random.default_rng(1)
    maps, image = scan()
    k, images = spokes(), jnp.asarray(maps * image)
    A = nufft(k, (SIZE, SIZE))
    y = forward(A, images) + noise((COILS, *k.shape[:-1]))
    data, pictures = np.array(y), np.array(images)
    peers = {
        "jax-finufft 1e-6": finufft_calls(k, images, y, 1e-6, 2.0),
        "jax-finufft 3e-5": finufft_calls(k, images, y, 3e-5, 1.25),
        "sigpy": (lambda: sigpy.nufft(pictures, k), lambda: sigpy.nufft_adjoint(data, k, oshape=images.shape)),
    }
    samples, pixels = rng.choice(k.size // 2, 300, replace=False), rng.choice(SIZE, (300, 2))
    truths = exact(k.reshape(-1, 2)[samples], np.asarray(images)), exact_adjoint(k.reshape(-1, 2), np.asarray(y).reshape(COILS, -1), pixels)
    places = (lambda z: z.reshape(COILS, -1)[:, samples]), (lambda z: z[:, pixels[:, 0], pixels[:, 1]])
    rows = []
    for side, ours in enumerate((lambda: forward(A, images), lambda: adjoint(A, y))):
        times, results = interleaved([ours, *(pair[side] for pair in peers.values())], rounds)
        errors = [gap(places[side](z), truths[side]) for z in results]
        for i, peer in enumerate(peers, 1):
            rows.append(row(f"NUFFT {('forward', 'adjoint')[side]}", peer, times[[0, i]], error=errors[0], peer_error=errors[i]))
    return rows


def radial_rows(rounds):
    """Non-Cartesian SENSE, 30 steps of conjugate gradient: the Toeplitz form beside sigpy's gridding in every step."""
    import sigpy.mri

    maps, image = scan()
    k = spokes(64)
    A, S = nufft(k, (SIZE, SIZE)), coil_sensitivities(maps)
    weights = np.asarray(radial_density(k), np.float32)
    y = np.array(forward(A, jnp.asarray(maps * image)))
    T = jax.jit(toeplitz)(A, weights)
    normal = jax.tree_util.Partial(lambda S, T, x: S.adjoint(T(S(x))), S, T)
    start = jax.jit(lambda A, S, y, w: S.adjoint(A.adjoint(w * y)))

    def reconstruct():
        app = sigpy.mri.app.SenseRecon(y, maps, lamda=LAMBDA, weights=weights, coord=k, max_iter=STEPS, show_pbar=False)
        return app.run()

    times, results = interleaved([lambda: solve(normal, start(A, S, y, weights[None])), reconstruct], rounds)
    return [row("radial SENSE CG 30, 64 spokes", "sigpy", times, error_to_peer=gap(*results), nrmse=gap(results[0], image))]


TABLES = (sense_rows, nufft_rows, radial_rows)  # each `rounds -> rows`; those of other files join here


def show(rows):
    """One line a row."""
    shown = {"case", "peer", "medjax_s", "peer_s", "times_faster"}
    for line in rows:
        rest = "  ".join(f"{key} {value:.2e}" for key, value in line.items() if key not in shown)
        times = f"{line['medjax_s'] * 1e3:8.2f} ms  {line['peer']:16s} {line['peer_s'] * 1e3:8.2f} ms  x{line['times_faster']:<5.2f}"
        print(f"{line['case']:30s} {times}  {rest}")


def main():
    """Print the table, and write it where --json says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    rows = [line for table in TABLES for line in table(arguments.rounds)]
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
