"""GRAPPA beside pygrappa, and the conventions of BART: the tables that `mri_reconstruction.py` prints after its own.

Simulated: 8 birdcage coils, noise of .01, every R-th line and 24 calibration lines, 256 px. Real: the k-space of 8 coils that MEDJAX_KSPACE names,
R = 8 with a full centre of 24 x 24, twice. Lines of the full centre are left out and predicted by weights learnt on its other half, so that the truth
was measured. And its image, found by sparsity, is seen by its own coils once more, at its own noise, with the measured samples where there are any.
Errors are of the root sum of squares over coils against that of the full data, of left-out lines their own; pygrappa's are the best of three kernels.
"""

import math
import os
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import bart_toolbox  # noqa: E402
import mri_coils  # noqa: E402
from race import faster, gap, milliseconds, race  # noqa: E402

from medjax.iterate import iterate  # noqa: E402
from medjax.metrics.psnr import psnr  # noqa: E402
from medjax.operators.centred_fft import centred_fft, centred_ifft  # noqa: E402
from medjax.operators.gradient import gradient  # noqa: E402
from medjax.operators.sense import sense  # noqa: E402
from medjax.phantoms.brain import brain  # noqa: E402
from medjax.physics.birdcage import birdcage  # noqa: E402
from medjax.physics.equispaced_lines import equispaced_lines  # noqa: E402
from medjax.physics.espirit import espirit  # noqa: E402
from medjax.physics.grappa import grappa  # noqa: E402
from medjax.physics.grappa_weights import grappa_weights  # noqa: E402
from medjax.physics.root_sum_of_squares import root_sum_of_squares  # noqa: E402
from medjax.solvers.analysis_reconstruction import analysis_reconstruction  # noqa: E402

CALIBRATION = 24

weights = jax.jit(grappa_weights, static_argnums=(1, 2))
fill = jax.jit(grappa)


def pygrappa_run(kspace, calibration, kernel):
    """Its answer, coils first."""
    import pygrappa

    data, lines = (np.moveaxis(np.asarray(a, np.complex128), 0, -1) for a in (kspace, calibration))
    with np.errstate(all="ignore"):
        return lambda: np.moveaxis(pygrappa.mdgrappa(data, lines, kernel_size=kernel), -1, 0)


def compare(label, full, acceleration, kernel, calibration, mask, kernels, quality):
    """One line: `quality(kspace)` of ours, of the best of pygrappa's and of the data with zeros, and the times."""
    data = full * mask[None]
    peers = {size: pygrappa_run(data, calibration, size) for size in kernels}
    best = max(kernels, key=lambda size: quality(peers[size]()))
    ours = lambda: fill(data, mask, weights(calibration, acceleration, kernel))  # noqa: E731
    times, found = race({"medjax": ours, "pygrappa": peers[best]}, seconds=5.0)
    line = {"GRAPPA": label, "medjax [ms]": milliseconds(times["medjax"]), "pygrappa [ms]": milliseconds(times["pygrappa"])}
    line |= {"x": faster(times["medjax"], times["pygrappa"]), "kernel [sources]": "x".join(map(str, kernel))}
    line |= {"pygrappa's [samples]": "x".join(map(str, best)), "zero-filled [dB]": quality(data)}
    return line | {"medjax [dB]": quality(found["medjax"]), "pygrappa [dB]": quality(found["pygrappa"])}


def equispaced(label, full, acceleration):
    """Every R-th line and the calibration lines of full k-space."""
    width = full.shape[-1]
    mask = equispaced_lines(full.shape[1:], acceleration, CALIBRATION / width).astype(jnp.float32)
    first = width // 2 - CALIBRATION // 2
    reference = root_sum_of_squares(centred_ifft(full))

    def quality(kspace):
        return float(psnr(root_sum_of_squares(centred_ifft(jnp.asarray(kspace))), reference))

    kernels = ((5, 5), (5, 7), (5, 9))
    return compare(f"{label}, R = {acceleration}", full, acceleration, (5, 4), full[:, :, first : first + CALIBRATION], mask, kernels, quality)


def head():
    """Noisy k-space of the generated head."""
    maps, _, _ = mri_coils.scan()
    image = brain(jax.random.key(3), size=256, contrast="t1").image
    noise = jax.random.normal(jax.random.key(0), maps.shape, jnp.complex64)
    return centred_fft(maps * (image / jnp.max(jnp.abs(image)))[None].astype(maps.dtype)) + 0.01 * noise


def real_kspace():
    """Measured k-space `[coils, h, w]`, its largest sample 1; None where none is named."""
    path = os.environ.get("MEDJAX_KSPACE")
    if not path:
        return None
    with np.load(path, allow_pickle=False) as file:
        kspace = file["kspace8"]
    return jnp.asarray(kspace / np.abs(kspace).max())


def left_out(kspace, acceleration):
    """Lines of the full centre that were measured, left out, and predicted from its other half."""
    top, left = (n // 2 - CALIBRATION // 2 for n in kspace.shape[1:])
    centre = kspace[:, top : top + CALIBRATION, left : left + CALIBRATION]
    learnt, tested = centre[:, : CALIBRATION // 2], centre[:, CALIBRATION // 2 :]
    mask = equispaced_lines(tested.shape[1:], acceleration, 0.0).astype(jnp.float32)
    inner = jnp.pad((1 - mask)[2:-2, 2 * acceleration : -2 * acceleration], ((2, 2), (2 * acceleration,) * 2))  # where all sources are inside

    def quality(filled):
        return -20 * math.log10(gap(np.asarray(filled) * inner[None], np.asarray(tested) * inner[None]))

    return compare(f"real, lines left out, R = {acceleration}", tested, acceleration, (3, 2), learnt, mask, ((3, 3), (3, 5), (5, 5)), quality)


def seen_again(kspace):
    """Full k-space of the real coils: measured where it was, elsewhere the sparse image seen by its own coils, with noise."""
    mask = (jnp.sum(jnp.abs(kspace), 0) > 0).astype(jnp.float32)
    maps = jax.jit(partial(espirit, crop=0.0))(kspace)[0][0]
    edge = jnp.abs(jnp.arange(kspace.shape[1]) - kspace.shape[1] // 2) > 0.45 * kspace.shape[1]
    sigma = jnp.sqrt(jnp.sum(jnp.abs(kspace[:, edge]) ** 2) / (kspace.shape[0] * jnp.sum(mask[edge])))  # where hardly any signal is left
    A = sense(maps, mask)
    make = partial(analysis_reconstruction, sigma_y=1.0, K=gradient(), strength=sigma, group=0, step_size=1.0, K_norm=8**0.5)
    x = jax.jit(lambda A, y: iterate(make(A, y), jnp.zeros(mask.shape, y.dtype), 40).x)(A, kspace)
    noise = sigma * jax.random.normal(jax.random.key(0), kspace.shape, jnp.complex64)
    return jnp.where(mask[None] > 0, kspace, centred_fft(maps * x[None]) + noise)


def grappa_rows():
    """Simulated heads, then real coils."""
    try:
        import pygrappa  # noqa: F401
    except ImportError:
        return []
    phantom, measured = mri_coils.scan()[2], real_kspace()
    rows = [equispaced("Shepp-Logan", phantom, 4)] + [equispaced("brain", head(), r) for r in (2, 3, 4)]
    if measured is None:
        return rows
    full = seen_again(measured)
    return rows + [left_out(measured, r) for r in (2, 3)] + [equispaced("real coils", full, r) for r in (2, 3, 4)]


def bart_rows():
    """Our centred transform and SENSE in sizes of every remainder by 4 against `bart fft -u` and `bart pics`, and maps against `bart ecalib`."""
    if not bart_toolbox.available():
        return []
    rows = []
    for shape in ((256, 256), (254, 256), (254, 250), (255, 253)):
        x = jax.random.normal(jax.random.key(0), shape, jnp.complex64)
        A = sense(birdcage(shape, 4).astype(jnp.complex64), jnp.ones(shape, jnp.float32))
        with bart_toolbox.Toolbox(x=x, maps=A.maps, kspace=A(x)) as toolbox:
            pairs = {"fft": (centred_fft(x), toolbox.run("fft", "-u", 3, "x", "y"))}
            if not shape[0] % 2:  # of odd sizes `pics` of 0.8 moves the image by a pixel against its maps
                pairs["pics of SENSE data"] = (x, toolbox.run("pics", "-w", 1, "-l2", "-r", 0, "-i", 5, "kspace", "maps", "image"))
        for name, pair in pairs.items():
            ours, theirs = (np.asarray(a) for a in pair)
            factor = np.vdot(ours, theirs) / np.vdot(ours, ours)
            phase = float(np.degrees(np.angle(factor)))
            rows.append({"BART": f"{name}, {shape[0]} x {shape[1]}", "phase to ours [degrees]": round(phase, 2), "rest": gap(theirs, factor * ours)})
    maps, image, full = mri_coils.scan()
    with bart_toolbox.Toolbox(kspace=full) as toolbox:
        theirs = toolbox.run("ecalib", "-m", 1, "-c", 0, "-r", CALIBRATION, "kspace", "maps")
    overlap = mri_coils.overlap(jax.jit(partial(espirit, crop=0.0))(full)[0][0], theirs)[np.abs(np.asarray(image)) > 0.1]
    label = "ecalib, 1 - correlation of maps, worst 1 %"
    return rows + [{"BART": label, "phase to ours [degrees]": float("nan"), "rest": float(1 - np.percentile(overlap, 1))}]


TABLES = {"grappa": grappa_rows, "bart": bart_rows}
