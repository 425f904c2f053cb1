"""CT projectors against their peers, in one interleaved run: python benchmarks/ct_projectors.py [--only a] [--json FILE].

Case a: 256 x 256 pixels, 180 views, 363 detectors; b: 512 x 512, 720, 736; float32, unit pixels. Peers come from requirements-bench.txt; one that is
not installed is left out. `bins` is the relative error against the analytic Shepp-Logan sinogram, averaged over detector bins; `FBP [dB]` the PSNR of
ram-lak filtered backprojection of the analytic line integrals, inside the head; `adjoint` the gap <A x, y> - <x, A' y> over ||A x|| ||y||.
"""

import importlib
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from race import arguments, race, show, temporaries, write  # noqa: E402

from medjax.operators.fan_beam import fan_beam  # noqa: E402
from medjax.operators.fbp import fbp  # noqa: E402
from medjax.operators.parallel_beam import parallel_beam  # noqa: E402
from medjax.phantoms.shepp_logan import shepp_logan, sinogram  # noqa: E402

CASES = {"a": (256, 180, 363), "b": (512, 720, 736), "a, 60 views": (256, 60, 363), "a, 23 views": (256, 23, 363)}

HALF_A_PIXEL_OFF = ("scikit_image", "deepinv")  # these turn about pixel n // 2, which is not the middle of an even image; so does their truth here

forward = jax.jit(lambda A, x: A(x))
adjoint = jax.jit(lambda A, y: A.adjoint(y))
reconstruct = jax.jit(lambda A, y: fbp(A, y, window="ram-lak"))
forward_batch = jax.jit(lambda A, xs: jax.lax.map(A, xs))
adjoint_batch = jax.jit(lambda A, ys: jax.lax.map(A.adjoint, ys))


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
    """Its `radon` and `iradon`, as (forward, adjoint, fbp); it takes as many detectors as the image has columns."""
    transform = importlib.import_module("skimage.transform")
    size, degrees = num_detectors, np.rad2deg(angles)
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
    torch = importlib.import_module("torch")
    # deepinv imports torchvision, whose compiled operators fit one build of torch only; a projector needs none of them
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    physics = importlib.import_module("deepinv.physics")
    A = physics.Tomography(torch.tensor(np.rad2deg(angles), dtype=torch.float32), img_width=n, circle=False, normalize=False)
    shape = A.A(torch.zeros(1, 1, n, n)).shape
    y = torch.ones(shape)
    return (
        lambda x: A.A(torch.from_numpy(x)[None, None]).numpy()[0, 0].T,
        lambda _: A.A_adjoint(y).numpy()[0, 0],
        lambda _: A.A_dagger(y).numpy()[0, 0],
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
    """(forward, adjoint, fbp) of NumPy arrays by a compiled medjax operator."""
    return (lambda x: forward(A, x), lambda y: adjoint(A, y), lambda y: reconstruct(A, y))


def exact(n, angles, num_detectors, shift=0.0):
    """Line integrals of the phantom, moved right and down by `shift` pixels, along nine rays a detector: `[num_views, num_detectors, 9]`."""
    places = (np.arange(num_detectors * 9) + 0.5) / 9 - num_detectors / 2
    moved = jnp.asarray(places)[None, :] - jnp.asarray(shift * (np.cos(angles) - np.sin(angles)))[:, None]
    rays = jax.lax.map(lambda ray: sinogram(ray[0][None], ray[1], n)[0], (jnp.asarray(angles), moved))
    return np.asarray(rays).reshape(len(angles), num_detectors, 9)


def timed(contenders, data):
    """Median seconds of forward, adjoint and FBP: three dicts by contender."""
    return [race({c: (lambda fn=fns[i], a=data[i]: fn(a)) for c, fns in contenders.items() if fns[i]}) for i in range(3)]


def relative(a, b):
    return float(np.linalg.norm(np.asarray(a, float) - b) / np.linalg.norm(b))


def gap(run, back, x, y):
    """How far from adjoint the two are, with sums in double precision."""
    Ax, Aty = np.asarray(run(x), float), np.asarray(back(y), float)
    if Ax.shape != y.shape:
        return float("nan")
    return float(abs(np.vdot(Ax, y) - np.vdot(x, Aty)) / np.linalg.norm(Ax) / np.linalg.norm(y))


def psnr(estimate, image, mask):
    return float(10 * np.log10(image.max() ** 2 / np.mean((np.asarray(estimate) - image)[mask] ** 2)))


def parallel_case(name, n, num_views, num_detectors, everyone):
    """One table: times, ratios to ASTRA linear, errors."""
    angles = np.linspace(0, np.pi, num_views, endpoint=False)
    rng = np.random.default_rng(0)
    image = np.asarray(shepp_logan(n).image, np.float32)
    noise, noisy = (rng.standard_normal(shape).astype(np.float32) for shape in ((n, n), (num_views, num_detectors)))
    fine = exact(n, angles, num_detectors)
    lines = fine[:, :, 4].astype(np.float32)
    offsets = np.arange(n) - (n - 1) / 2
    mask = offsets[:, None] ** 2 + offsets[None, :] ** 2 < (0.95 * n / 2) ** 2

    clock = time.perf_counter()
    fourier = parallel_beam(n, angles, num_detectors)
    build = time.perf_counter() - clock
    contenders = peers(n, angles, num_detectors) if everyone else dict(list(peers(n, angles, num_detectors).items())[:1])
    joseph = parallel_beam(n, angles, num_detectors, model="joseph")
    contenders |= {"medjax fourier": ours(fourier), "medjax joseph": ours(joseph)}
    times = timed(contenders, (image, noisy, lines))
    rows = []
    for c, (run, back, invert) in contenders.items():
        row = {f"case {name}": c}
        for label, t in zip(("forward", "adjoint", "FBP"), times, strict=True):
            row[f"{label} [ms]"] = 1e3 * t[c] if c in t else float("nan")
            row["x " + label] = t["ASTRA linear"] / t[c] if c in t and "ASTRA linear" in t else float("nan")
        row["bins"] = relative(run(image), exact(n, angles, num_detectors, 0.5 * (c in HALF_A_PIXEL_OFF)).mean(2))
        row["FBP [dB]"] = psnr(invert(lines), image, mask) if invert and c not in HALF_A_PIXEL_OFF else float("nan")
        row["adjoint"] = gap(run, back, noise, noisy)
        A = {"medjax fourier": fourier, "medjax joseph": joseph}.get(c)
        row["temp [MB]"] = max(temporaries(forward, A, image), temporaries(adjoint, A, noisy)) if A else float("nan")
        row["tables [MB]"] = sum(leaf.nbytes for leaf in jax.tree.leaves(A)) / 1e6 if A else float("nan")
        rows.append(row)
    show(rows)
    print(
        f"tables built in {build:.2f} s; Joseph against ASTRA linear: {relative(forward(joseph, image), contenders['ASTRA linear'][0](image)):.1e}\n"
    )
    return rows


def batch_case(n, num_views, num_detectors, batch=8):
    """Time a slice, alone and in a batch."""
    A = parallel_beam(n, np.linspace(0, np.pi, num_views, endpoint=False), num_detectors)
    rng = np.random.default_rng(0)
    xs = jnp.asarray(rng.standard_normal((batch, n, n)), jnp.float32)
    ys = jnp.asarray(rng.standard_normal((batch, num_views, num_detectors)), jnp.float32)
    times = race(
        {
            "forward": lambda: forward(A, xs[0]),
            "forward of 8": lambda: forward_batch(A, xs),
            "adjoint": lambda: adjoint(A, ys[0]),
            "adjoint of 8": lambda: adjoint_batch(A, ys),
        },
        rounds=25,
    )
    rows = [
        {"batch": label, "alone [ms]": 1e3 * times[label], "a slice of 8 [ms]": 1e3 * times[f"{label} of 8"] / batch}
        for label in ("forward", "adjoint")
    ]
    show(rows)
    return rows


def fan_case(n=256, num_views=180, num_detectors=363, distances=(512.0, 512.0), spacing=2.0):
    """Flat fan, source and detector 512 from the centre, over a full turn."""
    angles = np.linspace(0, 2 * np.pi, num_views, endpoint=False)
    rng = np.random.default_rng(0)
    image = np.asarray(shepp_logan(n).image, np.float32)
    noise, noisy = (rng.standard_normal(shape).astype(np.float32) for shape in ((n, n), (num_views, num_detectors)))
    contenders = {}
    try:
        A = Astra(n, angles, num_detectors, "line_fanflat", fan=(*distances, spacing))
        contenders["ASTRA line"] = (A.forward, A.adjoint, None)
    except ImportError:
        print("astra-toolbox is not installed: left out")
    operators = {f"medjax {model}": fan_beam(n, angles, *distances, num_detectors, spacing, model=model) for model in ("fourier", "joseph")}
    contenders |= {name: ours(A) for name, A in operators.items()}
    s = (np.arange(num_detectors * 9) - (num_detectors * 9 - 1) / 2) * spacing / 9
    gamma = np.arctan(s / sum(distances))
    theta, t = jnp.asarray((angles[:, None] + gamma).ravel()), jnp.asarray(np.tile(distances[0] * np.sin(gamma), num_views))
    rays = jax.vmap(lambda theta, t: sinogram(theta[None], t[None], n)[0, 0])(theta, t)
    bins = np.asarray(rays).reshape(num_views, num_detectors, 9).mean(2)
    offsets = np.arange(n) - (n - 1) / 2
    mask = offsets[:, None] ** 2 + offsets[None, :] ** 2 < (0.95 * n / 2) ** 2
    data = (image, noisy, bins.astype(np.float32))
    times = timed(contenders, data)
    rows = []
    for c, (run, back, invert) in contenders.items():
        row = {"fan a": c}
        for label, t in zip(("forward", "adjoint", "FBP"), times, strict=True):
            row[f"{label} [ms]"] = 1e3 * t[c] if c in t else float("nan")
            row["x " + label] = t["ASTRA line"] / t[c] if c in t and "ASTRA line" in t else float("nan")
        turned = np.roll(run(image), num_views // 2, 0)[:, ::-1] if c.startswith("ASTRA") else run(image)
        row |= {"bins": relative(turned, bins), "adjoint": gap(run, back, noise, noisy)}
        row["FBP [dB]"] = psnr(invert(data[2]), image, mask) if invert else float("nan")
        rows.append(row)
    show(rows)
    return rows


if __name__ == "__main__":
    options = arguments(__doc__)
    tables = {}
    for name, sizes in CASES.items():
        if options.only in name:
            tables[name] = parallel_case(name, *sizes, everyone=name in "ab")
    if options.only in "batch":
        tables["batch a"] = batch_case(*CASES["a"])
    if options.only in "fan":
        tables["fan a"] = fan_case()
    write(options.json, tables)
