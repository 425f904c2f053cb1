"""Coil maps, whitening and g-maps beside sigpy and pygrappa: python benchmarks/mri_coils.py [--json FILE]; peers from requirements-bench.txt.

A head of 256 px (Shepp-Logan with smooth phase), 8 birdcage coils, noise of .01, float32; g-maps at 96 px. Times are medians of interleaved
runs; the first, which compiles, is told apart.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from medjax.linalg import conjugate_gradient  # noqa: E402
from medjax.phantoms.shepp_logan import shepp_logan  # noqa: E402
from medjax.physics.birdcage import birdcage  # noqa: E402
from medjax.physics.equispaced_lines import equispaced_lines  # noqa: E402
from medjax.physics.espirit import espirit  # noqa: E402
from medjax.physics.g_factor import g_factor  # noqa: E402
from medjax.physics.g_factor_jacobian import g_factor_jacobian  # noqa: E402
from medjax.physics.noise_covariance import noise_covariance  # noqa: E402
from medjax.physics.poisson_disc import poisson_disc  # noqa: E402
from medjax.physics.whiten import whiten  # noqa: E402

AXES = (-2, -1)


def fourier(x):
    """Centred orthonormal transform."""
    return jnp.fft.fftshift(jnp.fft.fft2(jnp.fft.ifftshift(x, axes=AXES), norm="ortho"), axes=AXES)


def scan(size=256, coils=8, sigma=0.01):
    """Coil maps, image and noisy k-space of all coils, complex64."""
    y, x = np.meshgrid(*2 * [np.linspace(-1, 1, size)], indexing="ij")
    image = np.asarray(shepp_logan(size).image) * np.exp(1j * (0.8 * y + 0.5 * y**2 + 0.6 * y * x))
    maps = birdcage((size, size), coils).astype(jnp.complex64)
    image = jnp.asarray(image, jnp.complex64)
    noise = sigma * jax.random.normal(jax.random.key(0), maps.shape, jnp.complex64)
    return maps, image, fourier(maps * image) + noise


def interleaved(functions, rounds):
    """Median seconds of each function, A B A B, after one run each; the seconds of that run, with its compilation, and its results."""
    first, results, times = [], [], [[] for _ in functions]
    for f in functions:
        clock = time.perf_counter()
        results.append(jax.block_until_ready(f()))
        first.append(time.perf_counter() - clock)
    for _ in range(rounds):
        for f, t in zip(functions, times, strict=True):
            clock = time.perf_counter()
            jax.block_until_ready(f())
            t.append(time.perf_counter() - clock)
    return [float(np.median(t)) for t in times], first, results


def row(case, peer, functions, rounds, quality):
    """One line of the table: ours and the peer's seconds, how many times faster, and `quality(ours, theirs)`, what is held against the target."""
    (ours, theirs), first, results = interleaved(functions, rounds)
    times = {"medjax_s": ours, "peer_s": theirs, "times_faster": theirs / ours, "medjax_first_s": first[0]}
    return {"case": case, "peer": peer, **times, **quality(*results)}


def overlap(a, b):
    """|<a, b>| / (|a| |b|) over coils."""
    a, b = np.asarray(a), np.asarray(b)
    return np.abs((a.conj() * b).sum(0)) / np.maximum(np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0), 1e-20)


def espirit_rows(rounds=5):
    """ESPIRiT on fully sampled and on Poisson-disc k-space."""
    import sigpy.mri

    maps, image, full = scan()
    inside = np.abs(image) > 0.1
    mask = poisson_disc(jax.random.key(0), image.shape, 4).astype(jnp.float32)
    ours = jax.jit(partial(espirit, crop=0.0))

    def quality(found, peer):
        pairs = {"correlation_to_peer": (found[0][0], peer), "correlation_to_truth": (found[0][0], maps), "peer_to_truth": (peer, maps)}
        return {f"p1_{name}": float(np.percentile(overlap(*pair)[inside], 1)) for name, pair in pairs.items()}

    rows = []
    for name, kspace in (("full", full), ("Poisson disc R = 4", full * mask)):
        functions = [partial(ours, kspace), partial(_sigpy_espirit, sigpy.mri, np.array(kspace))]
        rows.append(row(f"ESPIRiT, {name}", "sigpy", functions, rounds, quality))
    return rows


def _sigpy_espirit(module, kspace):
    """sigpy's maps."""
    return module.app.EspiritCalib(kspace, calib_width=24, crop=0, show_pbar=False).run()


def whitening_rows(rounds=5):
    """A noise scan of 16 coupled channels, 65536 samples; identity of the whitened covariance."""
    import sigpy.mri

    mix = jax.random.normal(jax.random.key(1), (16, 16), jnp.complex64)
    noise = mix @ jax.random.normal(jax.random.key(2), (16, 1 << 16), jnp.complex64)
    ours = jax.jit(lambda n: whiten(n, noise_covariance(n)))
    data, util = np.asarray(noise), sigpy.mri.util

    def quality(found, peer):
        # sigpy's covariance is a sum, not a mean, over samples
        covariances = noise_covariance(found), noise_covariance(jnp.asarray(peer)) * data.shape[1]
        errors = [float(np.abs(np.asarray(c) - np.eye(16)).max()) for c in covariances]
        return {"identity_error": errors[0], "peer_identity_error": errors[1]}

    # get_cov subtracts the mean in place
    return [row("whitening, 16 channels", "sigpy", [lambda: ours(noise), lambda: util.whiten(data, util.get_cov(data.copy()))], rounds, quality)]


def cg_sense(maps, mask, num_steps):
    """Least squares by conjugate gradients; its derivative is that of the solution."""

    def adjoint(y):
        image = jnp.fft.fftshift(jnp.fft.ifft2(jnp.fft.ifftshift(mask * y, axes=AXES), norm="ortho"), axes=AXES)
        return jnp.sum(maps.conj() * image, axis=0)

    def normal(x):
        return adjoint(mask * fourier(maps * x))

    def solve(matvec, b):
        return conjugate_gradient(matvec, b, num_steps=num_steps, tolerance=1e-6)

    return lambda y: jax.lax.custom_linear_solve(normal, adjoint(y), solve, lambda _, b: solve(normal, b.conj()).conj())


def g_map_rows(rounds=5, size=96, replicas=400, num_steps=100):
    """Analytic and Jacobian g-maps against pseudo-replicas through conjugate gradients, R = 2, 3, 4."""
    import pygrappa

    maps, image, full = scan(size)
    inside = np.abs(image) > 0.05
    rows = []
    for r in (2, 3, 4):
        mask = equispaced_lines((size, size), r, center_fraction=0.0).astype(jnp.float32)
        reconstruct = cg_sense(maps, mask, num_steps)

        def square(key, reconstruct=reconstruct):
            return jnp.abs(reconstruct(jax.random.normal(key, maps.shape, maps.dtype))) ** 2

        clock = time.perf_counter()
        total = jax.jit(lambda keys, f=square: jnp.mean(jax.lax.map(f, keys), axis=0))(jax.random.split(jax.random.key(r), replicas))
        carlo = np.sqrt(np.asarray(total) / r)  # unit maps: a full scan has noise 1
        carlo_s = time.perf_counter() - clock
        jacobian = jax.jit(lambda y, f=reconstruct, r=r: g_factor_jacobian(jax.random.key(0), f, y, jnp.ones(image.shape), r, 1, (1, r)))
        (jacobian_s,), _, (by_jacobian,) = interleaved([partial(jacobian, full)], rounds)

        def quality(exact, peer, carlo=carlo, by_jacobian=by_jacobian):
            errors = {"median_error": exact, "median_error_jacobian": by_jacobian, "median_error_peer": peer}
            errors = {name: float(np.median(np.abs(g / carlo - 1)[inside])) for name, g in errors.items()}
            return {**errors, "max_jacobian_to_analytic": float(np.abs(by_jacobian / exact - 1)[inside].max()), "g_max": float(exact[inside].max())}

        coils_last = np.moveaxis(np.asarray(maps), 0, -1).astype(complex)
        functions = [partial(jax.jit(g_factor, static_argnums=1), maps, r), partial(pygrappa.gfactor, coils_last, 1, r)]
        rows.append(row(f"g-map, R = {r}", "pygrappa", functions, rounds, quality) | {"replicas_s": carlo_s, "jacobian_s": jacobian_s})
    return rows


def poisson_disc_rows(rounds=5, size=256):
    """Poisson discs of R = 4 with 24 x 24 calibration samples; ours runs in numpy, the peer's in numba."""
    import sigpy.mri

    def quality(found, peer):
        return {"acceleration": size**2 / float(np.sum(found)), "peer_acceleration": size**2 / float(np.sum(peer))}

    theirs = partial(sigpy.mri.poisson, (size, size), 4, calib=(24, 24), dtype=np.float32, crop_corner=False)
    return [row("Poisson disc, R = 4", "sigpy", [partial(poisson_disc, jax.random.key(0), (size, size), 4), theirs], rounds, quality)]


def rows(rounds=5):
    """All rows."""
    return espirit_rows(rounds) + whitening_rows(rounds) + g_map_rows(rounds) + poisson_disc_rows(rounds)


def show(table):
    """One line a row."""
    for line in table:
        rest = "  ".join(f"{key} {value:.5g}" for key, value in line.items() if key not in {"case", "peer", "medjax_s", "peer_s", "times_faster"})
        times = f"{line['medjax_s'] * 1e3:8.1f} ms  {line['peer']} {line['peer_s'] * 1e3:8.1f} ms  x{line['times_faster']:.1f}"
        print(f"{line['case']:28s} {times}  {rest}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    table = rows(arguments.rounds)
    show(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1))
