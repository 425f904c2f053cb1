"""MRI reconstruction beside sigpy, BART and pygrappa: python benchmarks/mri_reconstruction.py [--only tv] [--json FILE].

A generated T1 head of 256 px, 8 birdcage coils known, noise of .01 of the brightest pixel, Poisson disc of R = 4, float32. Peers take their usual 100
iterations, 30 of conjugate gradient; ours as many as its objective needs to pass the peer's. Both objectives are evaluated here, by one function,
which is the peer's own: sigpy's total variation is anisotropic, BART's isotropic with differences backwards (so it is given mirrored data), both
across the border; wavelets see zeros beyond it. With random shifts it is a mean over shifts, ours after 20 steps. BART returns the point before its
last threshold: its objective is that of the point after it, where that is lower; PSNR and SSIM, of the magnitude, are of what it returns. Its time
is that of its process and of reading its file, with 2 threads, its inputs written before. `x` is how many times faster than the peer, the median of
neighbours in one interleaved run. GRAPPA: `mri_grappa.py`, on real data where MEDJAX_KSPACE names an .npz with `kspace8` [8, h, w].
"""

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import bart_toolbox  # noqa: E402
import mri_grappa  # noqa: E402
from race import faster, main, milliseconds, race  # noqa: E402

from medjax.functionals.wavelet_l1 import wavelet_l1  # noqa: E402
from medjax.iterate import iterate, iterate_until  # noqa: E402
from medjax.metrics.psnr import psnr  # noqa: E402
from medjax.metrics.ssim import ssim  # noqa: E402
from medjax.operators.sense import sense  # noqa: E402
from medjax.operators.wavelet import wavelet  # noqa: E402
from medjax.phantoms.brain import brain  # noqa: E402
from medjax.physics.birdcage import birdcage  # noqa: E402
from medjax.physics.poisson_disc import poisson_disc  # noqa: E402
from medjax.solvers.analysis_reconstruction import analysis_reconstruction  # noqa: E402
from medjax.solvers.cg_reconstruction import cg_reconstruction  # noqa: E402
from medjax.solvers.cycle_spinning_reconstruction import cycle_spinning_reconstruction  # noqa: E402
from medjax.typing import Operator  # noqa: E402

SIZE, COILS, SIGMA, RIDGE, SPARSE, STEPS, LEVELS = 256, 8, 0.01, 1e-2, 5e-3, 100, 5
# unit maps and a mask of ones and zeros: the norm of the operator is at most 1, as BART takes it, too
KNOWN = {"step_size": 1.0}


@functools.cache
def scan():
    """Operator, k-space and image, complex64."""
    image = brain(jax.random.key(3), size=SIZE, contrast="t1").image
    image = (image / jnp.max(jnp.abs(image))).astype(jnp.complex64)
    A = sense(birdcage((SIZE, SIZE), COILS).astype(jnp.complex64), poisson_disc(jax.random.key(0), (SIZE, SIZE), 4).astype(jnp.float32))
    noise = SIGMA * jax.random.normal(jax.random.key(1), A.maps.shape, jnp.complex64)  # of variance 1 in all
    return A, A(image) + A.mask[None] * noise, image


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ZeroBeyond:
    """Wavelets of an image with zeros around it, as `pywt`'s mode "zero" has them: more coefficients than pixels, W^H W = I."""

    inner: Operator

    def __call__(self, x):
        """W x."""
        (h, w), moments = x.shape, self.inner.vanishing_moments
        shift = (moments - 1) * (2**self.inner.levels - 1)  # from our places of the filters to pywt's
        height, width = self.inner.shape
        return self.inner(jnp.roll(jnp.pad(x, ((0, height - h), (0, width - w))), (shift, shift), (0, 1)))

    def adjoint(self, c):
        """W^H c."""
        shift = (self.inner.vanishing_moments - 1) * (2**self.inner.levels - 1)
        return jnp.roll(self.inner.adjoint(c), (-shift, -shift), (0, 1))[:SIZE, :SIZE]


def zero_beyond(name):
    """So large that nothing wraps around."""
    reach, block = (2 * int(name[2:]) - 1) * (2**LEVELS - 1), 2**LEVELS
    size = -(-(SIZE + reach) // block) * block
    return ZeroBeyond(wavelet((size, size), name, LEVELS))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Differences:
    """Forward differences, across the border too, as both peers have it."""

    def __call__(self, x):
        """`[h, w]` -> `[2, h, w]`."""
        return jnp.stack([jnp.roll(x, -1, axis) - x for axis in (0, 1)])

    def adjoint(self, p):
        """`[2, h, w]` -> `[h, w]`."""
        return sum(jnp.roll(p[axis], 1, axis) - p[axis] for axis in (0, 1))


def misfit(A, y, x):
    """||A x - y||^2 / 2."""
    return jnp.sum(jnp.abs(A(x) - y) ** 2) / 2


def fewest(make, A, y, objective, goal):
    """The fewest steps after which the objective is at most the goal; STEPS if it never is."""

    @jax.jit
    def values(A, y):
        x0 = jnp.zeros((SIZE, SIZE), y.dtype)
        return iterate_until(make(A, y), x0, -1.0, STEPS, lambda state, _: objective(A, y, state.x))[1].history

    below = np.flatnonzero(np.asarray(values(A, y)) <= goal)
    return int(below[0]) + 1 if below.size else STEPS


def contest(label, make, num_steps, peer, theirs, objective, finish=lambda x: x):
    """One line: times, the common objective, and what the images are worth. `finish` is a last step that the peer leaves out."""
    A, y, image = scan()
    value = jax.jit(objective)
    found = theirs()
    goal = min(float(value(A, y, x)) for x in (found, finish(jnp.asarray(found))))
    num_steps = num_steps or fewest(make, A, y, objective, goal)
    ours = jax.jit(lambda A, y: iterate(make(A, y), jnp.zeros((SIZE, SIZE), y.dtype), num_steps).x)
    times, results = race({"medjax": lambda: ours(A, y), peer: theirs})
    truth, line = jnp.abs(image), {label[0]: label[1], "peer": peer, "steps": num_steps}
    line |= {"medjax [ms]": milliseconds(times["medjax"]), "peer [ms]": milliseconds(times[peer]), "x": faster(times["medjax"], times[peer])}
    reached = float(value(A, y, results["medjax"]))
    line |= {"objective": reached, "peer's objective": goal, "lower by [%]": 100 * (1 - reached / goal)}
    for name, metric in (("PSNR", psnr), ("SSIM", ssim)):
        score = {who: float(metric(jnp.abs(jnp.asarray(x)), truth)) for who, x in results.items()}
        line |= {name: score["medjax"], f"peer's {name}": score[peer]}
    return line


def sigpy_app(name, *arguments, num_steps=STEPS):
    """A run of one of its reconstructions; None where it is not installed."""
    try:
        import sigpy.mri
    except ImportError:
        return None
    A, y, _ = scan()
    data, maps = np.array(y), np.array(A.maps)
    return lambda: getattr(sigpy.mri.app, name)(data, maps, *arguments, max_iter=num_steps, show_pbar=False).run()


def bart_pics(*words, mirrored=False):
    """A run of `bart pics`, lambda in the unit of the data; None where it is not installed."""
    if not bart_toolbox.available():
        return None
    A, y, _ = scan()
    turn = mirror if mirrored else np.asarray
    toolbox = bart_toolbox.Toolbox(kspace=turn(y), maps=turn(A.maps))
    return lambda: turn(toolbox.run("pics", "-w", "1", *words, "kspace", "maps", "image"))


def mirror(a):
    """n -> -n along the last two axes, of an image or of k-space; its own inverse."""
    return np.roll(np.asarray(a)[..., ::-1, ::-1], 1, (-2, -1))


def contests(*rows):
    """Those whose peer is here."""
    return [contest(*row) for row in rows if row[4] is not None]


def cg_rows():
    """Tikhonov-regularised SENSE: the same steps on both sides."""
    label = ("SENSE", "CG, 30 steps, lambda .01")

    def make(A, y):
        return cg_reconstruction(A, y, 1.0, RIDGE)

    def objective(A, y, x):
        return misfit(A, y, x) + RIDGE / 2 * jnp.sum(jnp.abs(x) ** 2)

    peers = {"sigpy": sigpy_app("SenseRecon", RIDGE, num_steps=30), "BART": bart_pics("-l2", "-r", RIDGE, "-i", 30)}
    return contests(*((label, make, 30, peer, run, objective) for peer, run in peers.items()))


def tv_rows():
    """Anisotropic against sigpy, isotropic against BART."""
    make = {
        group: lambda A, y, group=group: analysis_reconstruction(A, y, 1.0, Differences(), SPARSE, group, K_norm=8**0.5, **KNOWN)
        for group in (None, 0)
    }

    def anisotropic(A, y, x):
        return misfit(A, y, x) + SPARSE * jnp.sum(jnp.abs(Differences()(x)))

    def isotropic(A, y, x):
        return misfit(A, y, x) + SPARSE * jnp.sum(jnp.sqrt(jnp.sum(jnp.abs(Differences()(x)) ** 2, 0)))

    bart = bart_pics("-R", f"T:3:0:{SPARSE}", "-i", STEPS, mirrored=True)
    tuned = bart_pics("-R", f"T:3:0:{SPARSE}", "-u", 0.1, "-i", STEPS, mirrored=True)
    return contests(
        (("total variation", "anisotropic"), make[None], None, "sigpy", sigpy_app("TotalVariationRecon", SPARSE), anisotropic),
        (("total variation", "isotropic"), make[0], None, "BART", bart, isotropic),
        (("total variation", "isotropic"), make[0], None, "BART -u .1", tuned, isotropic),
    )


def wavelet_rows():
    """Daubechies' wavelets of 8 taps against sigpy, of 4 against BART, still and with random shifts."""
    long, short = zero_beyond("db4"), zero_beyond("db2")
    turning = wavelet((SIZE, SIZE), "db2", LEVELS)
    places = np.random.default_rng(0).integers(0, 2**LEVELS, (8, 2))

    def still(W):
        return lambda A, y: analysis_reconstruction(A, y, 1.0, W, SPARSE, K_norm=1.0, num_inner=1, **KNOWN)

    def spinning(A, y):
        return cycle_spinning_reconstruction(A, y, 1.0, wavelet_l1(turning, SPARSE), 2**LEVELS, **KNOWN)

    def objective(W):
        return lambda A, y, x: misfit(A, y, x) + SPARSE * jnp.sum(jnp.abs(W(x)))

    def mean_objective(A, y, x):
        return misfit(A, y, x) + SPARSE * jnp.mean(jnp.stack([jnp.sum(jnp.abs(turning(jnp.roll(x, s, (0, 1))))) for s in places]))

    def threshold(x):
        c = short(x)
        return short.adjoint(c * jnp.maximum(0, 1 - 0.95 * SPARSE / jnp.maximum(jnp.abs(c), 1e-20)))

    def mean_threshold(x):
        moved = [jnp.roll(x, s, (0, 1)) for s in places]
        proxes = [wavelet_l1(turning, SPARSE).prox(v, 0.95) for v in moved]
        return sum(jnp.roll(p, -s, (0, 1)) for p, s in zip(proxes, places, strict=True)) / len(places)

    bart, spun = bart_pics("-n", "-R", f"W:3:0:{SPARSE}", "-i", STEPS), bart_pics("-R", f"W:3:0:{SPARSE}", "-i", STEPS)
    return contests(
        (("L1-wavelet", "8 taps, zeros beyond"), still(long), None, "sigpy", sigpy_app("L1WaveletRecon", SPARSE), objective(long)),
        (("L1-wavelet", "4 taps, zeros beyond"), still(short), None, "BART -n", bart, objective(short), threshold),
        (("L1-wavelet", "4 taps, random shifts"), spinning, 20, "BART", spun, mean_objective, mean_threshold),
    )


if __name__ == "__main__":
    tables = {"cg": cg_rows, "tv": tv_rows, "wavelet": wavelet_rows}
    main(__doc__, tables | mri_grappa.TABLES)
