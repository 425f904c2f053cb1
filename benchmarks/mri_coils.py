"""Coil maps, whitening and g-maps beside sigpy and pygrappa: the tables that `mri_operators.py` prints after its own.

A head of 256 px (Shepp-Logan with smooth phase), 8 birdcage coils, noise of .01, float32; g-maps at 96 px.
"""

import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from race import faster, milliseconds, race  # noqa: E402

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


def row(case, peer, ours, theirs, quality):
    """One line of a table: times, how many times faster, and `quality(ours, theirs)`, what is held against the target."""
    times, results = race({"medjax": ours, peer: theirs})
    line = {case[0]: case[1], "medjax [ms]": milliseconds(times["medjax"]), f"{peer} [ms]": milliseconds(times[peer])}
    return {**line, "x": faster(times["medjax"], times[peer]), **quality(results["medjax"], results[peer])}


def overlap(a, b):
    """|<a, b>| / (|a| |b|) over coils."""
    a, b = np.asarray(a), np.asarray(b)
    return np.abs((a.conj() * b).sum(0)) / np.maximum(np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0), 1e-20)


def espirit_rows():
    """ESPIRiT on fully sampled and on Poisson-disc k-space; p1 is the first percentile of the correlation inside the head."""
    import sigpy.mri

    maps, image, full = scan()
    inside = np.abs(image) > 0.1
    mask = poisson_disc(jax.random.key(0), image.shape, 4).astype(jnp.float32)
    ours = jax.jit(partial(espirit, crop=0.0))

    def quality(found, peer):
        pairs = {"p1 to sigpy": (found[0][0], peer), "p1 to truth": (found[0][0], maps), "sigpy's p1 to truth": (peer, maps)}
        return {name: float(np.percentile(overlap(*pair)[inside], 1)) for name, pair in pairs.items()}

    rows = []
    for name, kspace in (("full", full), ("Poisson disc R = 4", full * mask)):
        rows.append(row(("ESPIRiT", name), "sigpy", partial(ours, kspace), partial(_sigpy_espirit, sigpy.mri, np.array(kspace)), quality))
    return rows


def _sigpy_espirit(module, kspace):
    """sigpy's maps."""
    return module.app.EspiritCalib(kspace, calib_width=24, crop=0, show_pbar=False).run()


def whitening_rows():
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
        return {"from identity": errors[0], "sigpy from identity": errors[1]}

    # get_cov subtracts the mean in place
    return [row(("whitening", "16 channels"), "sigpy", partial(ours, noise), lambda: util.whiten(data, util.get_cov(data.copy())), quality)]


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


def g_map_rows(size=96, replicas=400, num_steps=100):
    """Analytic and Jacobian g-maps: median errors against pseudo-replicas through conjugate gradients, R = 2, 3, 4."""
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
        seconds = time.perf_counter() - clock
        jacobian = jax.jit(lambda y, f=reconstruct, r=r: g_factor_jacobian(jax.random.key(0), f, y, jnp.ones(image.shape), r, 1, (1, r)))
        times, found = race({"jacobian": partial(jacobian, full)})
        by_jacobian = found["jacobian"]

        def quality(exact, peer, carlo=carlo, by_jacobian=by_jacobian):
            errors = {"error": exact, "Jacobian's": by_jacobian, "pygrappa's": peer}
            return {name: float(np.median(np.abs(g / carlo - 1)[inside])) for name, g in errors.items()}

        coils_last = np.moveaxis(np.asarray(maps), 0, -1).astype(complex)
        exact = partial(jax.jit(g_factor, static_argnums=1), maps, r)
        line = row(("g-map", f"R = {r}"), "pygrappa", exact, partial(pygrappa.gfactor, coils_last, 1, r), quality)
        rows.append(line | {"Jacobian [ms]": milliseconds(times["jacobian"]), f"{replicas} replicas [ms]": 1e3 * seconds})
    return rows


def poisson_disc_rows(size=256):
    """Poisson discs of R = 4 with 24 x 24 calibration samples; ours runs in numpy, the peer's in numba."""
    import sigpy.mri

    def quality(found, peer):
        return {"R": size**2 / float(np.sum(found)), "sigpy's R": size**2 / float(np.sum(peer))}

    theirs = partial(sigpy.mri.poisson, (size, size), 4, calib=(24, 24), dtype=np.float32, crop_corner=False)
    return [row(("Poisson disc", "R = 4"), "sigpy", partial(poisson_disc, jax.random.key(0), (size, size), 4), theirs, quality)]


TABLES = {"espirit": espirit_rows, "whitening": whitening_rows, "g-map": g_map_rows, "poisson disc": poisson_disc_rows}
