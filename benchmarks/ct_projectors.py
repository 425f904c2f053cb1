"""CT projectors against their peers, in one interleaved run: python benchmarks/ct_projectors.py [--only a] [--json FILE].

Case a: 256 x 256 pixels, 180 views, 363 detectors; b: 512 x 512, 720, 736; float32, unit pixels. Peers come from requirements-bench.txt; one that
is not installed is left out. Fan a: 256 x 256, 180 views over a turn, 363 detectors of 2, source and detector at 512. Cone: 128^3, 90 views over a
turn of 192 x 192 detectors of 1.44, source at 500, detector 250 behind the axis; the detector just covers the volume.

`x` is how many times faster than ASTRA's CPU linear (fan: line) model, or mbirjax; `bins` the relative error against the analytic Shepp-Logan
sinogram, averaged over detector bins; `FBP [dB]` the PSNR of ram-lak filtered backprojection of the analytic line integrals, inside the head;
`adjoint` the gap <A x, y> - <x, A' y> over ||A x|| ||y||; `to ASTRA` the relative distance from its sinogram; `to fan` that of a cone's middle row
from a fan's.
"""

import importlib
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from race import faster, gap, main, milliseconds, race, temporaries, torch_for_deepinv  # noqa: E402

from medjax.operators.cone_beam import cone_beam  # noqa: E402
from medjax.operators.fan_beam import fan_beam  # noqa: E402
from medjax.operators.fbp import fbp  # noqa: E402
from medjax.operators.fdk import fdk  # noqa: E402
from medjax.operators.parallel_beam import parallel_beam  # noqa: E402
from medjax.phantoms.shepp_logan import shepp_logan, sinogram  # noqa: E402

CASES = {"a": (256, 180, 363), "b": (512, 720, 736), "a, 60 views": (256, 60, 363), "a, 23 views": (256, 23, 363)}

SHIFT = {"scikit_image": 0.5, "deepinv": -0.5}
"""Pixels right and down that the image lies off the centre about which these turn it, at an odd number of detectors; so does their truth here."""

forward = jax.jit(lambda A, x: A(x))
adjoint = jax.jit(lambda A, y: A.adjoint(y))
reconstruct = jax.jit(lambda A, y: fbp(A, y, window="ram-lak"))
forward_batch = jax.jit(lambda A, xs: jax.lax.map(A, xs))
adjoint_batch = jax.jit(lambda A, ys: jax.lax.map(A.adjoint, ys))
reconstruct_volume = jax.jit(lambda A, y: fdk(A, y, window="ram-lak"))

COLUMNS = ("forward", "adjoint", "FBP")


class Astra:
    """ASTRA's CPU projector `model`; no FBP for fans."""

    def __init__(self, n, angles, num_detectors, model="linear", fan=None):
        astra = importlib.import_module("astra")
        volume = astra.create_vol_geom(n, n)
        if fan:
            geometry = astra.create_proj_geom("fanflat", fan[2], num_detectors, angles, fan[0], fan[1])
        else:
            geometry = astra.create_proj_geom("parallel", 1.0, num_detectors, angles)
        self.data, projector = astra.data2d, astra.create_projector(model, geometry, volume)
        self.image, self.sinogram = self.data.create("-vol", volume), self.data.create("-sino", geometry)
        self.run = astra.algorithm.run
        ends = {"FP": "VolumeDataId", "BP": "ReconstructionDataId"} | ({} if fan else {"FBP": "ReconstructionDataId"})
        self.algorithms = {}
        for name, image in ends.items():
            config = astra.astra_dict(name)
            config.update({"ProjectorId": projector, image: self.image, "ProjectionDataId": self.sinogram})
            self.algorithms[name] = astra.algorithm.create(config)

    def forward(self, x):
        self.data.store(self.image, x)
        self.run(self.algorithms["FP"])
        return self.data.get(self.sinogram)

    def adjoint(self, y, algorithm="BP"):
        self.data.store(self.sinogram, y)
        self.data.store(self.image, 0)
        self.run(self.algorithms[algorithm])
        return self.data.get(self.image)

    def fbp(self, y):
        return self.adjoint(y, "FBP")


def scikit_image(n, angles, num_detectors):
    """Its `radon` and `iradon`, as (forward, adjoint, fbp), of an odd number of detectors; it takes as many as the padded image has columns."""
    transform = importlib.import_module("skimage.transform")
    size, degrees = num_detectors | 1, np.rad2deg(angles)
    before = (size - n + 1) // 2
    padding = ((before, size - n - before),) * 2

    def back(y, name):
        return transform.iradon(y.T, degrees, filter_name=name, circle=True, output_size=size)[before : before + n, before : before + n]

    return (
        lambda x: transform.radon(np.pad(x, padding), degrees, circle=True).T,
        lambda y: back(y, None),
        lambda y: back(y, "ramp"),
    )


def scico(n, angles, num_detectors):
    """Its JAX projector."""
    xray = importlib.import_module("scico.linop.xray")
    A = xray.XRayTransform2D((n, n), angles + np.pi / 2, det_count=num_detectors, dx=(1.0, 1.0))
    run, back = jax.jit(A), jax.jit(A.T)
    filtered = jax.jit(A.fbp) if hasattr(A, "fbp") else None
    return run, back, filtered


def deepinv(n, angles, num_detectors):
    """Its `Tomography`, whose detector is the image's diagonal."""
    torch = torch_for_deepinv()
    physics = importlib.import_module("deepinv.physics")
    A = physics.Tomography(torch.tensor(np.rad2deg(angles), dtype=torch.float32), img_width=n, circle=False, normalize=False)
    shape = A.A(torch.zeros(1, 1, n, n)).shape
    y = torch.ones(shape)
    return (
        lambda x: A.A(torch.from_numpy(x)[None, None]).numpy()[0, 0].T,
        lambda _: A.A_adjoint(y).numpy()[0, 0],
        lambda _: A.fbp(y).numpy()[0, 0],
    )


def peers(n, angles, num_detectors):
    """name -> (forward, adjoint, fbp) of NumPy arrays, of those that are installed."""
    found = {}
    for name, model in (("ASTRA linear", "linear"), ("ASTRA strip", "strip")):
        try:
            A = Astra(n, angles, num_detectors, model)
            found[name] = (A.forward, A.adjoint, A.fbp)
        except ImportError:
            print("astra-toolbox is not installed: left out, and with it all ratios")
            return found
    for make in (scikit_image, scico, deepinv):
        try:
            found[make.__name__] = make(n, angles, num_detectors)
        except (ImportError, RuntimeError, AttributeError, TypeError) as error:
            print(f"{make.__name__} is left out: {error}")
    return found


def ours(A):
    """(forward, adjoint, fbp) by a compiled medjax operator."""
    return (lambda x: forward(A, x), lambda y: adjoint(A, y), lambda y: reconstruct(A, y))


def exact(n, angles, num_detectors, shift=0.0):
    """Line integrals of the phantom, moved right and down by `shift` pixels, along nine rays a detector: `[num_views, num_detectors, 9]`."""
    places = (np.arange(num_detectors * 9) + 0.5) / 9 - num_detectors / 2
    moved = jnp.asarray(places)[None, :] - jnp.asarray(shift * (np.cos(angles) - np.sin(angles)))[:, None]
    rays = jax.lax.map(lambda ray: sinogram(ray[0][None], ray[1], n)[0], (jnp.asarray(angles), moved))
    return np.asarray(rays).reshape(len(angles), num_detectors, 9)


def times_of(contenders, data, reference):
    """name -> the columns of times and ratios to `reference` that every table has, and the results of forward, adjoint and FBP.

    Contenders get the data as arrays of their own kind, on the device where they work.
    """
    columns, results = {c: {} for c in contenders}, {c: [None] * 3 for c in contenders}
    for i, column in enumerate(COLUMNS):
        own = {c: jnp.asarray(data[i]) if c.startswith(("medjax", "scico", "mbirjax")) else data[i] for c in contenders}
        times, found = race({c: (lambda fn=fns[i], a=own[c]: fn(a)) for c, fns in contenders.items() if fns[i]})
        for c in contenders:
            columns[c][f"{column} [ms]"] = milliseconds(times[c]) if c in times else float("nan")
            columns[c][f"x {column}"] = faster(times[c], times[reference]) if {c, reference} <= set(times) else float("nan")
            results[c][i] = found.get(c)
    return columns, results


def mismatch(Ax, Aty, x, y):
    """How far from adjoint the two are, with sums in double precision."""
    Ax, Aty = np.asarray(Ax, float), np.asarray(Aty, float)
    return float(abs(np.vdot(Ax, y) - np.vdot(x, Aty)) / np.linalg.norm(Ax) / np.linalg.norm(y)) if Ax.shape == y.shape else float("nan")


def tables_of(A):
    """Leaves of an operator [MB]."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(A)) / 1e6


def psnr(estimate, image, mask):
    return float(10 * np.log10(image.max() ** 2 / np.mean((np.asarray(estimate) - image)[mask] ** 2)))


def inside(n):
    """Where a head of n x n pixels is compared."""
    offsets = np.arange(n) - (n - 1) / 2
    return offsets[:, None] ** 2 + offsets[None, :] ** 2 < (0.95 * n / 2) ** 2


def normal_arrays(*shapes):
    """Float32 noise."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def parallel_case(name):
    """Times, ratios to ASTRA linear, errors; all peers in the cases a and b, ASTRA in those of few views."""
    n, num_views, num_detectors = CASES[name]
    angles = np.linspace(0, np.pi, num_views, endpoint=False)
    image = np.asarray(shepp_logan(n).image, np.float32)
    noise, noisy = normal_arrays((n, n), (num_views, num_detectors))
    fine = exact(n, angles, num_detectors)
    lines = fine[:, :, 4].astype(np.float32)
    contenders = peers(n, angles, num_detectors)
    if len(name) > 1:
        contenders = {c: fns for c, fns in contenders.items() if c == "ASTRA linear"}
    clock = time.perf_counter()
    fourier = parallel_beam(n, angles, num_detectors)
    build = time.perf_counter() - clock
    operators = {"medjax fourier": fourier, "medjax joseph": parallel_beam(n, angles, num_detectors, model="joseph")}
    contenders |= {c: ours(A) for c, A in operators.items()}
    columns, results = times_of(contenders, (noise, noisy, lines), "ASTRA linear")
    rows, projections = [], {c: np.asarray(fns[0](image)) for c, fns in contenders.items()}
    for c, (Ax, Aty, inverse) in results.items():
        row = {f"case {name}": c} | columns[c]
        row["bins"] = gap(projections[c], exact(n, angles, projections[c].shape[1], SHIFT.get(c, 0.0)).mean(2))
        row["FBP [dB]"] = psnr(inverse, image, inside(n)) if inverse is not None and c not in SHIFT else float("nan")
        row["adjoint"] = mismatch(Ax, Aty, noise, noisy) if c != "deepinv" else float("nan")  # its adjoint is timed on other data
        row["to ASTRA"] = gap(projections[c], projections["ASTRA linear"]) if "medjax" in c and "ASTRA linear" in projections else float("nan")
        A = operators.get(c)
        row["temp [MB]"] = max(temporaries(forward, A, image), temporaries(adjoint, A, noisy)) if A else float("nan")
        row["tables [MB]"] = tables_of(A) if A else float("nan")
        row["built [s]"] = build if A is fourier else float("nan")
        rows.append(row)
    return rows


def batch_case(batch=8):
    """Time a slice of case a, alone and in a batch."""
    n, num_views, num_detectors = CASES["a"]
    A = parallel_beam(n, np.linspace(0, np.pi, num_views, endpoint=False), num_detectors)
    xs, ys = (jnp.asarray(a) for a in normal_arrays((batch, n, n), (batch, num_views, num_detectors)))
    single, many = (forward, adjoint), (forward_batch, adjoint_batch)
    rows = []
    for label, one, all_, data in zip(COLUMNS, single, many, (xs, ys), strict=False):
        first = data[0]
        times, _ = race({"alone": lambda one=one, a=first: one(A, a), "batch": lambda all_=all_, a=data: all_(A, a)}, turns=40)
        rows.append({"batch of 8": label, "alone [ms]": milliseconds(times["alone"]), "a slice [ms]": milliseconds(times["batch"]) / batch})
    return rows


def fan_case(n=256, num_views=180, num_detectors=363, distance=512.0, spacing=2.0):
    """A flat fan beside ASTRA's line model, and a curved one of the same angle."""
    angles = np.linspace(0, 2 * np.pi, num_views, endpoint=False)
    image = np.asarray(shepp_logan(n).image, np.float32)
    noise, noisy = normal_arrays((n, n), (num_views, num_detectors))
    size = (n, angles, distance, distance, num_detectors, spacing)
    operators = {f"medjax {model}": fan_beam(*size, model=model) for model in ("fourier", "joseph")}
    operators |= {f"medjax {model}, curved": fan_beam(*size, detector="curved", model=model) for model in ("fourier", "joseph")}
    contenders = {}
    try:
        A = Astra(n, angles, num_detectors, "line_fanflat", fan=(distance, distance, spacing))
        contenders["ASTRA line"] = (A.forward, A.adjoint, None)
    except ImportError:
        print("astra-toolbox is not installed: left out")
    contenders |= {name: ours(A) for name, A in operators.items()}
    s = (np.arange(num_detectors * 9) - (num_detectors * 9 - 1) / 2) * spacing / 9
    truths = {}
    for detector, gamma in (("flat", np.arctan(s / (2 * distance))), ("curved", s / (2 * distance))):
        theta, t = jnp.asarray((angles[:, None] + gamma).ravel()), jnp.asarray(np.tile(distance * np.sin(gamma), num_views))
        rays = jax.vmap(lambda theta, t: sinogram(theta[None], t[None], n)[0, 0])(theta, t)
        truths[detector] = np.asarray(rays).reshape(num_views, num_detectors, 9).mean(2)
    columns, results = times_of(contenders, (noise, noisy, noisy), "ASTRA line")
    rows = []
    for c, (run, _, invert) in contenders.items():
        truth = truths["curved" if "curved" in c else "flat"]
        # ASTRA's source stands where ours is half a turn later, and its detector runs the other way
        found = np.roll(run(image), num_views // 2, 0)[:, ::-1] if c.startswith("ASTRA") else run(image)
        row = {"fan a": c} | columns[c] | {"bins": gap(found, truth), "adjoint": mismatch(*results[c][:2], noise, noisy)}
        row["FBP [dB]"] = psnr(invert(truth.astype(np.float32)), image, inside(n)) if invert else float("nan")
        A = operators.get(c)
        row["temp [MB]"] = max(temporaries(forward, A, image), temporaries(adjoint, A, noisy)) if A else float("nan")
        row["tables [MB]"] = tables_of(A) if A else float("nan")
        rows.append(row)
    return rows


def mbirjax(A):
    """Its (forward, adjoint, None) in the geometry of a cone A."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = importlib.import_module("mbirjax")
    jax.config.update("jax_enable_compilation_cache", False)  # it turns on a cache on disk, whose programs warn of other processors
    model = package.ConeBeamModel((A.angles.size, A.num_rows, A.num_columns), np.asarray(A.angles), A.source_to_detector, A.source_distance)
    model.set_params(recon_shape=(A.image_size, A.image_size, A.num_slices), delta_voxel=A.pixel_size)
    model.set_params(delta_det_channel=A.column_spacing, delta_det_row=A.row_spacing)
    return model.forward_project, model.back_project, None


def cone_case(n=128, num_views=90, size=192, spacing=1.44, distances=(500.0, 250.0)):
    """A circular cone beside mbirjax."""
    angles = np.linspace(0, 2 * np.pi, num_views, endpoint=False)
    A = cone_beam(n, n, angles, *distances, size, size, spacing, spacing)
    x, y = (jnp.asarray(a) for a in normal_arrays((n, n, n), (num_views, size, size)))
    contenders = {}
    try:
        contenders["mbirjax"] = mbirjax(A)
    except ImportError:
        print("mbirjax is not installed: left out")
    contenders["medjax"] = (lambda x: forward(A, x), lambda y: adjoint(A, y), lambda y: reconstruct_volume(A, y))
    columns, results = times_of(contenders, (x, y, y), "mbirjax")
    # an even number of rows and slices has none in the middle: a volume that does not change along z has fan views there, but for the tilt
    image = shepp_logan(n).image
    flat = forward(fan_beam(n, angles, *distances, size, spacing, model="joseph"), image)
    rows = []
    for c, (Ax, Aty, _) in results.items():
        row = {"cone": c} | columns[c] | {"adjoint": mismatch(Ax, Aty, x, y)}
        row["to fan"] = gap(forward(A, jnp.broadcast_to(image, (n,) * 3))[:, size // 2], flat) if c == "medjax" else float("nan")
        row["temp [MB]"] = max(temporaries(forward, A, x), temporaries(adjoint, A, y)) if c == "medjax" else float("nan")
        rows.append(row)
    return rows


if __name__ == "__main__":
    parallel = {name: (lambda name=name: parallel_case(name)) for name in CASES}
    main(__doc__, parallel | {"batch": batch_case, "fan a": fan_case, "cone": cone_case})
