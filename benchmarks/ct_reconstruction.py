"""CT reconstruction against its peers: python benchmarks/ct_reconstruction.py [--only ellipses] [--json FILE].

`ellipses`: the ellipses of dival, 128 x 128 pixels on [-64, 64]^2, 30 parallel views at the midpoints of 30 steps over [0, pi), 183 detectors over
+-90.50967, projected from the image interpolated to 400 x 400, with white noise of .025 of the mean datum. FBP (hann) and total variation, the cutoff
and the strength tuned on 12 other images; means over 100 images, and the standard error of the PSNR. The PSNR has the range of each image as its
peak; our SSIM has Gaussian windows, the published one square ones.

`speed a` and `speed b`: solvers on the Shepp-Logan head, 256 x 256, 180 views, 363 detectors and 512 x 512, 720, 736, float32, from its analytic
sinogram with white noise of .01 of the mean datum. ASTRA runs its own SIRT, CGLS and SART (in our order of the views) on its CPU linear projector;
for FISTA-TV its projector is put into numpy's arithmetic, step for step that of medjax, with the same step size, strength and inner steps; ODL runs
its CGLS and MLEM on ASTRA. All start from 0 (MLEM from 1) and run as many steps; a step of SART is a pass over all views. `x` is how many times
faster than the first of the same algorithm; `fit` what the algorithm lowers (SIRT, SART: ||R^1/2 (A x - y)||^2; CGLS: ||A x - y||^2; FISTA-TV its
objective; MLEM minus the log-likelihood), with A the solver's own model, `by Joseph` with A Joseph's, which is ASTRA's linear model; `error` the
distance to the phantom, both over that of 0. The time to compile is told apart.

`memory`: FISTA-TV at 256 x 256, 180 views, of 20 and of 200 steps.
"""

import importlib
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from ct_projectors import CASES, Astra, exact  # noqa: E402
from race import faster, main, race  # noqa: E402

from medjax import lanczos, linalg  # noqa: E402
from medjax.functionals.total_variation import total_variation  # noqa: E402
from medjax.iterate import iterate  # noqa: E402
from medjax.metrics.psnr import psnr  # noqa: E402
from medjax.metrics.ssim import ssim  # noqa: E402
from medjax.operators.algebra import compose  # noqa: E402
from medjax.operators.fbp import fbp  # noqa: E402
from medjax.operators.parallel_beam import parallel_beam  # noqa: E402
from medjax.operators.upsample import upsample  # noqa: E402
from medjax.phantoms.ellipses import ellipses  # noqa: E402
from medjax.phantoms.shepp_logan import shepp_logan  # noqa: E402
from medjax.solvers.cgls import cgls  # noqa: E402
from medjax.solvers.fista_reconstruction import fista_reconstruction  # noqa: E402
from medjax.solvers.inverse_sums import inverse_sums  # noqa: E402
from medjax.solvers.mlem import mlem  # noqa: E402
from medjax.solvers.sart import sart  # noqa: E402
from medjax.solvers.sirt import sirt  # noqa: E402
from medjax.solvers.tv_reconstruction import tv_reconstruction  # noqa: E402
from medjax.solvers.view_subsets import view_subsets  # noqa: E402

PUBLISHED = {"FBP": (24.18, 0.594), "TV": (27.96, 0.862)}
"""Of dival's ellipses."""

STEPS = {
    "a": {"SIRT": 50, "CGLS": 20, "FISTA-TV": 50, "SART": 2, "MLEM": 20},
    "b": {"SIRT": 20, "CGLS": 10, "FISTA-TV": 10, "SART": 1, "MLEM": 10},
}
INNER, STRENGTH = 20, 10.0
"""Of FISTA-TV: steps of the prox, and the strength beside data of unit noise."""


def ellipses_geometry():
    """The operator of a 128 px image, and the finer one that makes the data."""
    angles, spacing = (np.arange(30) + 0.5) * np.pi / 30, 2 * 90.50967 / 183
    fine = parallel_beam(400, angles, 183, spacing, pixel_size=128 / 400, model="joseph")
    return parallel_beam(128, angles, 183, spacing), compose(fine, upsample((128, 128), (400, 400)))


def ellipses_scan(fine, key):
    """`(image, data, sigma)` of one key."""
    key_image, key_noise = jax.random.split(key)
    image = ellipses(key_image, 128).image
    clean = fine(image)
    sigma = 0.025 * jnp.mean(jnp.abs(clean))
    return image, clean + sigma * jax.random.normal(key_noise, clean.shape, clean.dtype), sigma


def total_variations(A, y, sigma, strength, num_steps):
    """Of all images."""
    start = jnp.zeros((128, 128), y.dtype)
    return jax.lax.map(lambda scan: iterate(tv_reconstruction(A, *scan, strength, nonnegative=True), start, num_steps).x, (y, sigma))


def ellipses_case(num_images=100, num_tuning=12, num_steps=300, strengths=(4.0, 6.0, 7.0, 8.0, 10.0)):
    """Mean scores over images that had no part in the tuning."""
    A, fine = ellipses_geometry()
    keys = jax.random.split(jax.random.key(1), num_tuning + num_images)
    images, y, sigma = jax.jit(lambda fine, keys: jax.lax.map(partial(ellipses_scan, fine), keys))(fine, keys)
    tuning, test = slice(None, num_tuning), slice(num_tuning, None)
    filtered = {c: jax.jit(lambda A, y, c=c: jax.lax.map(lambda y: fbp(A, y, "hann", c), y)) for c in (1.0, 0.8, 0.65, 0.5)}
    tv = jax.jit(total_variations, static_argnums=4)
    methods = {
        "FBP": {c: (lambda part, fn=fn: fn(A, y[part])) for c, fn in filtered.items()},
        "TV": {s: (lambda part, s=s: tv(A, y[part], sigma[part], s, num_steps)) for s in strengths},
    }
    rows = []
    for name, settings in methods.items():
        best = max(settings, key=lambda s: float(jnp.mean(jax.vmap(psnr)(settings[s](tuning), images[tuning]))))
        found = settings[best](test)
        level, similarity = (np.asarray(jax.vmap(score)(found, images[test])) for score in (psnr, ssim))
        row = {"ellipses": name, "PSNR [dB]": float(level.mean()), "+-": float(level.std() / num_images**0.5), "SSIM": float(similarity.mean())}
        row |= {"published [dB]": PUBLISHED[name][0], "published SSIM": PUBLISHED[name][1], "cutoff or strength": best}
        rows.append(row | {"images": num_images, "tuned on": num_tuning})
    return rows


def astra_algorithm(name, n, angles, num_detectors, y, num_steps, **options):
    """ASTRA's own iteration on its CPU, from 0."""
    astra = importlib.import_module("astra")
    volume = astra.create_vol_geom(n, n)
    projector = astra.create_projector("linear", astra.create_proj_geom("parallel", 1.0, num_detectors, angles), volume)
    data = astra.data2d.create("-sino", astra.create_proj_geom("parallel", 1.0, num_detectors, angles), np.asarray(y))

    def run():
        image = astra.data2d.create("-vol", volume, 0)
        config = astra.astra_dict(name) | {"ProjectorId": projector, "ProjectionDataId": data, "ReconstructionDataId": image, "option": options}
        algorithm = astra.algorithm.create(config)
        astra.algorithm.run(algorithm, num_steps)
        found = astra.data2d.get(image)
        astra.algorithm.delete(algorithm)
        astra.data2d.delete(image)
        return found

    return run


def odl_algorithm(name, n, angles, num_detectors, y, num_steps):
    """ODL's iteration on ASTRA's CPU projector; its images have the axes in another order."""
    odl = importlib.import_module("odl")
    space = odl.uniform_discr([-n / 2] * 2, [n / 2] * 2, [n, n], dtype="float32")
    half = (angles[1] - angles[0]) / 2
    views = odl.uniform_partition(-half, angles[-1] + half, len(angles))
    detector = odl.uniform_partition(-num_detectors / 2, num_detectors / 2, num_detectors)
    A = odl.applications.tomo.RayTransform(space, odl.applications.tomo.Parallel2dGeometry(views, detector), impl="astra_cpu")
    data = A.range.element(np.asarray(y))
    solve, start = {"CGLS": (odl.solvers.conjugate_gradient_normal, space.zero), "MLEM": (odl.solvers.mlem, space.one)}[name]

    def run():
        x = start()
        solve(A, x, data, niter=num_steps)
        return np.rot90(np.asarray(x.asarray()))

    return run


def numpy_fista_tv(A, y, weight, step, num_steps):
    """FISTA with total variation and x >= 0, as `fista_reconstruction` and `total_variation` have it, around a projector of numpy arrays."""

    def difference(x):
        p = np.zeros((2, *x.shape), x.dtype)
        np.subtract(x[1:], x[:-1], out=p[0, :-1])
        np.subtract(x[:, 1:], x[:, :-1], out=p[1, :, :-1])
        return p

    def adjoint(p):
        x = -p[0] - p[1]
        x[1:] += p[0, :-1]
        x[:, 1:] += p[1, :, :-1]
        return x

    def prox(v, radius):
        p = r = np.zeros((2, *v.shape), v.dtype)
        t = 1.0
        for _ in range(INNER):
            q = r + difference(np.maximum(v - adjoint(r), 0)) / 8
            q *= radius / np.maximum(np.sqrt(q[0] ** 2 + q[1] ** 2), radius)
            t_next = (1 + (1 + 4 * t**2) ** 0.5) / 2
            p, r, t = q, q + np.float32((t - 1) / t_next) * (q - p), t_next
        return np.maximum(v - adjoint(p), 0)

    def run():
        back = weight * A.adjoint(y)
        x = z = np.zeros_like(back)
        t = 1.0
        for _ in range(num_steps):
            new = prox(z - step * (weight * A.adjoint(A.forward(z)) - back), np.float32(STRENGTH * step))
            t_next = (1 + (1 + 4 * t**2) ** 0.5) / 2
            x, z, t = new, new + np.float32((t - 1) / t_next) * (new - x), t_next
        return x

    return run


def peers(name, geometry, y, sigma, step, num_steps):
    """Contender -> function, of those that are installed."""
    n, angles, num_detectors = geometry
    makers = {}
    if name in ("SIRT", "CGLS"):
        makers["ASTRA"] = partial(astra_algorithm, name, *geometry, y, num_steps)
    if name == "SART":
        order = view_subsets(len(angles), len(angles))[0].ravel().tolist()
        makers["ASTRA"] = partial(astra_algorithm, name, *geometry, y, num_steps * len(angles), ProjectionOrder="custom", ProjectionOrderList=order)
    if name == "FISTA-TV":
        makers["ASTRA in numpy"] = lambda: numpy_fista_tv(Astra(*geometry), y, np.float32(sigma**-2), np.float32(step), num_steps)
    if name in ("CGLS", "MLEM"):
        makers["ODL"] = partial(odl_algorithm, name, *geometry, y, num_steps)
    found = {}
    for peer, make in makers.items():
        try:
            found[peer] = make()
        except (ImportError, AttributeError) as error:
            print(f"{peer} is left out: {error}")
    return found


def ours(name, A, y, sigma, num_steps):
    """`(function, seconds to compile, step size of FISTA-TV)`."""
    step = float(1 / (1.02 * lanczos.operator_norm(linalg.Weighted(A, 1 / sigma), A.adjoint(y))) ** 2) if name == "FISTA-TV" else 0.0
    make = {
        "SIRT": sirt,
        "CGLS": cgls,
        "SART": sart,
        "MLEM": mlem,
        "FISTA-TV": lambda A, y: fista_reconstruction(A, y, sigma, total_variation(STRENGTH, INNER, nonnegative=True), step, restart=False),
    }[name]
    start = jnp.full((A.image_size,) * 2, 1.0 if name == "MLEM" else 0.0)
    clock = time.perf_counter()
    run = jax.jit(lambda A, y, x0: iterate(make(A, y), x0, num_steps).x).lower(A, y, start).compile()
    return (lambda: run(A, y, start)), time.perf_counter() - clock, step


def fit(name, A, y, sigma, x):
    """What the algorithm lowers."""
    Ax = A(x)
    square = (Ax - y) ** 2
    if name in ("SIRT", "SART"):
        return jnp.sum(inverse_sums(A(jnp.ones_like(x))) * square)
    if name == "CGLS":
        return jnp.sum(square)
    if name == "FISTA-TV":
        return jnp.sum(square) / (2 * sigma**2) + total_variation(STRENGTH).value(x)
    mean = jnp.maximum(Ax, 1e-3 * jnp.mean(y))  # where the Fourier model rings
    return jnp.sum(mean - y * jnp.log(mean))


def head(n, angles, num_detectors):
    """`(image, data, sigma)`; data are never negative, as MLEM wants."""
    image = shepp_logan(n).image
    clean = exact(n, angles, num_detectors).mean(2)
    sigma = 0.01 * float(clean.mean())
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    return image, jnp.asarray(np.maximum(clean + sigma * noise, 0), jnp.float32), sigma


def speed_case(case, only=""):
    """One row a contender, for each algorithm."""
    n, num_views, num_detectors = CASES[case]
    geometry = (n, np.linspace(0, np.pi, num_views, endpoint=False), num_detectors)
    image, y, sigma = head(*geometry)
    models = {model: parallel_beam(*geometry, model=model) for model in ("joseph", "fourier")}
    fits = jax.jit(fit, static_argnums=0)
    rows = []
    for name, num_steps in STEPS[case].items():
        if only not in name:
            continue
        contenders, compiled, step = {}, {}, 0.0
        for model, A in models.items():
            if name == "SART" and model == "fourier":
                continue  # it has no views for a loop
            contenders[f"medjax {model}"], compiled[f"medjax {model}"], bound = ours(name, A, y, sigma, num_steps)
            step = step or bound
        contenders = peers(name, geometry, np.asarray(y), sigma, step, num_steps) | contenders
        times, found = race(contenders)
        first = next(iter(contenders))
        for c in contenders:
            x = jnp.asarray(found[c], jnp.float32)
            own, joseph = (float(fits(name, A, y, sigma, x)) for A in (models[c.split()[-1] if "medjax" in c else "joseph"], models["joseph"]))
            row = {f"speed {case}": f"{name} {num_steps}", "by": c, "time [s]": float(np.median(times[c])), "x": faster(times[c], times[first])}
            row |= {"fit": own, "by Joseph": joseph, "error": float(linalg.norm(x - image) / linalg.norm(image))}
            rows.append(row | {"compiled [s]": compiled.get(c, float("nan"))})
    return rows


def memory_case(n=256, num_views=180, num_detectors=363):
    """What a run of FISTA-TV allocates beside its arguments, and how many programs both lengths take."""
    A = parallel_beam(n, np.linspace(0, np.pi, num_views, endpoint=False), num_detectors)
    y, programs = jnp.zeros((num_views, num_detectors)), []

    def run(A, y, num_steps):
        programs.append(num_steps)
        solver = fista_reconstruction(A, y, 1.0, total_variation(STRENGTH, INNER, nonnegative=True))
        return iterate(solver, jnp.zeros((n, n)), num_steps).x

    any_number = jax.jit(run)
    for num_steps in (20, 200):
        any_number(A, y, num_steps)
    count, rows = len(programs), []
    for num_steps in (20, 200):
        memory = jax.jit(run, static_argnums=2).lower(A, y, num_steps).compile().memory_analysis()
        rows.append({"memory": f"FISTA-TV {num_steps}", "temp [MB]": memory.temp_size_in_bytes / 1e6, "programs for both": count})
    return rows


if __name__ == "__main__":
    main(__doc__, {"ellipses": ellipses_case, "speed a": partial(speed_case, "a"), "speed b": partial(speed_case, "b"), "memory": memory_case})
