"""Fan and cone projectors beside ASTRA's CPU line model and mbirjax, interleaved: python benchmarks/ct_divergent.py [--json FILE] [--rounds N].

Needs astra-toolbox and mbirjax in the environment; a peer that is missing is left out of the table. Case fan: 256 x 256, 180 views over a
turn, 363 detectors of 2 mm, source and detector at 512 mm. Case cone: 128^3, 90 views over a turn of 192 x 192 detectors of 1.44 mm,
source at 500 mm, detector 250 mm behind the axis; the detector just covers the volume.
"""

import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from medjax.operators.cone_beam import cone_beam  # noqa: E402
from medjax.operators.fan_beam import fan_beam  # noqa: E402
from medjax.operators.fan_fbp import fan_fbp  # noqa: E402
from medjax.operators.fdk import fdk  # noqa: E402
from medjax.phantoms.shepp_logan import shepp_logan, sinogram  # noqa: E402

apply = jax.jit(lambda A, x: A(x))
adjoint = jax.jit(lambda A, y: A.adjoint(y))


def interleaved(fns, rounds):
    """Median seconds of each function, all called in turn, after one call to compile."""
    times = {name: [] for name in fns}
    for i in range(rounds + 1):
        for name, fn in fns.items():
            clock = time.perf_counter()
            jax.block_until_ready(fn())
            times[name].append(time.perf_counter() - clock)
        if i == 0:
            times = {name: [] for name in fns}
    return {name: float(np.median(t)) for name, t in times.items()}


def temporaries(fn, *args):
    """Megabytes of temporaries, by XLA's own analysis."""
    return fn.lower(*args).compile().memory_analysis().temp_size_in_bytes / 1e6


def mismatch(A, x, y):
    """|<A x, y> - <x, A' y>| / (|A x| |y|), summed in double precision."""
    Ax, Aty = np.asarray(apply(A, x), float), np.asarray(adjoint(A, y), float)
    return abs(np.vdot(Ax, y) - np.vdot(x, Aty)) / np.linalg.norm(Ax) / np.linalg.norm(y)


def astra_fan(size, angles, source, behind, num_detectors, spacing):
    """ASTRA's (forward, adjoint) of the CPU line model, None where ASTRA is not installed."""
    try:
        import astra
    except ImportError:
        return None
    volume = astra.create_vol_geom(size, size)
    projector = astra.create_projector("line_fanflat", astra.create_proj_geom("fanflat", spacing, num_detectors, angles, source, behind), volume)
    image, sino = astra.data2d.create("-vol", volume), astra.data2d.create("-sino", astra.projector.projection_geometry(projector))
    runs = []
    for name, output in (("FP", "VolumeDataId"), ("BP", "ReconstructionDataId")):
        config = astra.astra_dict(name)
        config.update({"ProjectorId": projector, output: image, "ProjectionDataId": sino})
        runs.append(astra.algorithm.create(config))

    def forward(x):
        astra.data2d.store(image, x)
        astra.algorithm.run(runs[0])
        return astra.data2d.get(sino)

    def back(y):
        astra.data2d.store(sino, y)
        astra.data2d.store(image, 0)
        astra.algorithm.run(runs[1])
        return astra.data2d.get(image)

    return forward, back


def mbirjax_cone(A):
    """mbirjax's (forward, adjoint) of the geometry of A, None where mbirjax is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mbirjax
    except ImportError:
        return None
    shape = (A.angles.size, A.num_rows, A.num_columns)
    model = mbirjax.ConeBeamModel(shape, np.asarray(A.angles), A.source_to_detector, A.source_distance)
    model.set_params(recon_shape=(A.image_size, A.image_size, A.num_slices), delta_voxel=A.pixel_size)
    model.set_params(delta_det_channel=A.column_spacing, delta_det_row=A.row_spacing)
    return model.forward_project, model.back_project


def fan(rounds):
    """The table of the fan case."""
    size, source, num_detectors, spacing = 256, 512.0, 363, 2.0
    angles = np.arange(180) * np.pi / 90
    A, C = (fan_beam(size, angles, source, source, num_detectors, spacing, detector=detector, model="joseph") for detector in ("flat", "curved"))
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(shape).astype(np.float32) for shape in ((size, size), (angles.size, num_detectors)))
    fbp = jax.jit(fan_fbp)
    fns = {"medjax forward": lambda: apply(A, x), "medjax adjoint": lambda: adjoint(A, y), "medjax FBP": lambda: fbp(A, y)}
    fns |= {"medjax forward, curved": lambda: apply(C, x), "medjax adjoint, curved": lambda: adjoint(C, y)}
    image = np.asarray(shepp_logan(size).image, np.float32)
    exact = _bins(A)
    table = {"adjointness": mismatch(A, x, y), "error": _relative(apply(A, image), exact)}
    table |= {"temporaries, MB": {"forward": temporaries(apply, A, x), "adjoint": temporaries(adjoint, A, y), "FBP": temporaries(fbp, A, y)}}
    peer = astra_fan(size, angles, source, source, num_detectors, spacing)
    if peer is not None:
        fns = {"ASTRA line forward": lambda: peer[0](x), "ASTRA line adjoint": lambda: peer[1](y), **fns}
        turned = fan_beam(size, angles + np.pi, source, source, num_detectors, spacing, model="joseph")  # the same rays, detectors in reverse order
        table["error of ASTRA line"] = _relative(peer[0](image)[:, ::-1], _bins(turned))
    return table | {"seconds": interleaved(fns, rounds)}


def _bins(A, samples=9):
    """The Shepp-Logan phantom's line integrals, averaged over each detector of a flat fan."""
    fine = (np.arange(samples) + 0.5) / samples - 0.5
    gamma = np.arctan((np.asarray(A.positions(jnp.float32))[:, None] + fine[None] * A.detector_spacing) / A.source_to_detector)
    rays = jax.vmap(lambda theta, t: sinogram(theta[None], t[None], A.image_size)[0, 0])
    theta = np.asarray(A.angles)[:, None, None] + gamma[None]
    t = np.broadcast_to(A.source_distance * np.sin(gamma)[None], theta.shape)
    return np.asarray(rays(theta.reshape(-1), t.reshape(-1))).reshape(theta.shape).mean(2)


def _relative(a, b):
    return float(np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(np.asarray(b)))


def cone(rounds):
    """The table of the cone case."""
    size, rows, spacing = 128, 192, 1.44
    angles = np.arange(90) * np.pi / 45
    A = cone_beam(size, size, angles, 500.0, 250.0, rows, rows, spacing, spacing)
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((size,) * 3, (angles.size, rows, rows)))
    invert = jax.jit(fdk)
    fns = {"medjax forward": lambda: apply(A, x), "medjax adjoint": lambda: adjoint(A, y), "medjax FDK": lambda: invert(A, y)}
    # an even number of rows and slices has none in the middle: a volume that does not change along z has fan views there, but for the tilt
    image = shepp_logan(size).image
    middle = np.asarray(apply(A, jnp.broadcast_to(image, (size,) * 3)))[:, rows // 2]
    flat = apply(fan_beam(size, angles, 500.0, 250.0, rows, spacing, model="joseph"), image)
    table = {"adjointness": mismatch(A, x, y), "central slice against fan": _relative(middle, flat)}
    table |= {"temporaries, MB": {"forward": temporaries(apply, A, x), "adjoint": temporaries(adjoint, A, y), "FDK": temporaries(fdk, A, y)}}
    peer = mbirjax_cone(A)
    if peer is not None:
        fns = {"mbirjax forward": lambda: peer[0](x), "mbirjax adjoint": lambda: peer[1](y), **fns}
    return table | {"seconds": interleaved(fns, rounds)}


def show(name, table):
    """One case as lines of text."""
    seconds = table["seconds"]
    print(f"{name}: " + ", ".join(f"{key} {value:.2g}" for key, value in table.items() if isinstance(value, float)))
    print("  temporaries " + ", ".join(f"{key} {value:.1f} MB" for key, value in table["temporaries, MB"].items()))
    for key, value in seconds.items():
        kind = key.split()[-1] if "," not in key else key.split()[1].rstrip(",")
        peer = next((other for other in seconds if not other.startswith("medjax") and other.endswith(kind)), None)
        ratio = f"  {seconds[peer] / value:6.1f} x {peer.rsplit(' ', 1)[0]}" if peer and key.startswith("medjax") else ""
        print(f"  {key:24s} {1e3 * value:8.1f} ms{ratio}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds, the median of which is told")
    options = parser.parse_args()
    tables = {"fan": fan(options.rounds), "cone": cone(options.rounds)}
    for name, table in tables.items():
        show(name, table)
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    if options.json:
        options.json.write_text(json.dumps(tables, indent=1))
