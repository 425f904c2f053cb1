"""MRI operators beside sigpy, jax-finufft and pygrappa: python benchmarks/mri_operators.py [--only nufft] [--json FILE].

256 x 256, 8 birdcage coils, float32; peers from requirements-bench.txt. SENSE: Poisson disc, R = 4, 24 x 24 calibration samples, conjugate gradient
of 30 steps, lambda = .01. NUFFT: 128 spokes of 512 samples, errors against the exact sum at 300 samples or pixels, beside jax-finufft at its most
accurate (1e-6) and at its fastest (3e-5). Coil maps, whitening and g-maps: `mri_coils.py`. `x` is how many times faster than the peer, the median of
neighbours in one interleaved run. BART is no peer here: there is no Python wheel of it.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import mri_coils  # noqa: E402
from race import faster, gap, main, milliseconds, race  # noqa: E402

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


def row(case, peer, ours, theirs, **quality):
    """One line of a table from the times of ours and of the peer, and what was held against the truth."""
    line = {case[0]: case[1], "peer": peer, "medjax [ms]": milliseconds(ours), "peer [ms]": milliseconds(theirs), "x": faster(ours, theirs)}
    return line | quality


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


def sense_rows():
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

    both, found = race(
        {
            "forward": lambda: forward(A, x),
            "theirs forward": lambda: theirs * image,
            "adjoint": lambda: adjoint(A, y),
            "theirs adjoint": lambda: theirs.H * data,
        }
    )
    error = max(gap(found[name], found[f"theirs {name}"]) for name in ("forward", "adjoint"))
    solved, images = race({"medjax": lambda: sense_solve(A, y), "sigpy": reconstruct})
    return [
        row(
            ("SENSE", "forward + adjoint"),
            "sigpy",
            both["forward"] + both["adjoint"],
            both["theirs forward"] + both["theirs adjoint"],
            **{"to sigpy": error, "NRMSE": float("nan")},
        ),
        row(
            ("SENSE", "CG, 30 steps"),
            "sigpy",
            *solved.values(),
            **{"to sigpy": gap(images["medjax"], images["sigpy"]), "NRMSE": gap(images["medjax"], image)},
        ),
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


def nufft_rows():
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
        times, results = race({"medjax": ours} | {peer: pair[side] for peer, pair in peers.items()})
        errors = {name: gap(places[side](np.asarray(z)), truths[side]) for name, z in results.items()}
        case = ("NUFFT", ("forward", "adjoint")[side])
        for peer in peers:
            rows.append(row(case, peer, times["medjax"], times[peer], **{"error": errors["medjax"], "peer's error": errors[peer]}))
    return rows


def radial_rows():
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

    times, found = race({"medjax": lambda: solve(normal, start(A, S, y, weights[None])), "sigpy": reconstruct})
    quality = {"to sigpy": gap(found["medjax"], found["sigpy"]), "NRMSE": gap(found["medjax"], image), "sigpy's": gap(found["sigpy"], image)}
    return [row(("radial SENSE", "64 spokes, CG, 30 steps"), "sigpy", *times.values(), **quality)]


if __name__ == "__main__":
    main(__doc__, {"sense": sense_rows, "nufft": nufft_rows, "radial": radial_rows} | mri_coils.TABLES)
