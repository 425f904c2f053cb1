"""Plug-and-play beside deepinv: python benchmarks/plug_and_play.py [--json FILE].

SENSE of 256 x 256 with 8 birdcage coils, every fourth line and 24 central ones, float32, noise .01. The denoiser is the same in both, that of a
Gaussian prior with a power law for its spectrum, one FFT forth and back: what is timed is the method and its data step, and the limits have a meaning
(the exact MAP). Same numbers of steps, data steps by conjugate gradient to the same tolerance, `DPIR` with deepinv's own schedule. `gap` is
||ours - theirs|| / ||theirs||, within 1e-5, or 1e-3 where systems are solved, for conjugate gradient begins elsewhere. `x` is how many times
faster we are, the median of neighbours in one interleaved run.
"""

import importlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from race import faster, gap, main, milliseconds, race, torch_for_deepinv  # noqa: E402

from medjax.iterate import iterate  # noqa: E402
from medjax.operators.sense import sense  # noqa: E402
from medjax.phantoms.shepp_logan import shepp_logan  # noqa: E402
from medjax.physics.birdcage import birdcage  # noqa: E402
from medjax.solvers.dpir import dpir  # noqa: E402
from medjax.solvers.pnp_admm import pnp_admm  # noqa: E402
from medjax.solvers.pnp_pgm import pnp_pgm  # noqa: E402
from medjax.solvers.red import red  # noqa: E402

SIZE, COILS, NOISE = 256, 8, 0.01
PGM, ADMM, DPIR, RED = 50, 10, 8, 50  # steps
SIGMA, TOLERANCE, KRYLOV = 0.03, 1e-4, 50
BOUNDS = {"PnP-PGM": 1e-5, "PnP-ADMM": 1e-3, "DPIR": 1e-3, "RED": 1e-5}


def scan():
    """Maps, mask, data and the power spectrum of the prior, frequency 0 first."""
    rng = np.random.default_rng(0)
    lines = np.arange(SIZE)
    mask = np.broadcast_to(((lines % 4 == 0) | (np.abs(lines - SIZE // 2) < 12))[:, None], (SIZE, SIZE)).astype(np.float32)
    A = sense(birdcage((SIZE, SIZE), COILS).astype(jnp.complex64), jnp.asarray(mask))
    y, x = np.meshgrid(*2 * [np.linspace(-1, 1, SIZE)], indexing="ij")
    image = np.asarray(shepp_logan(SIZE).image) * np.exp(1j * (0.8 * y + 0.5 * y**2))
    noise = NOISE * (rng.standard_normal((COILS, SIZE, SIZE)) + 1j * rng.standard_normal((COILS, SIZE, SIZE)))
    data = np.asarray(A(jnp.asarray(image, jnp.complex64))) + (mask * noise).astype(np.complex64)
    frequency = np.fft.fftfreq(SIZE, 1 / SIZE)
    power = 30 / (1 + frequency[:, None] ** 2 + frequency[None, :] ** 2) ** 1.3  # of both components of the phantom, roughly
    return A, data, power.astype(np.float32)


def ours(A, y, power, start):
    """name -> function without arguments that gives the image."""

    def denoise(power):
        return lambda x, sigma: jnp.fft.ifft2(power / (power + sigma**2) * jnp.fft.fft2(x))

    cg = {"tolerance": TOLERANCE, "num_krylov": KRYLOV}
    methods = {
        "PnP-PGM": (lambda A, y, D: pnp_pgm(A, y, NOISE, D, step_size=NOISE**2), PGM),
        "PnP-ADMM": (lambda A, y, D: pnp_admm(A, y, NOISE, D, SIGMA, **cg), ADMM),
        "DPIR": (lambda A, y, D: dpir(A, y, NOISE, D, 49 / 255, NOISE, DPIR, **cg), DPIR),
        "RED": (lambda A, y, D: red(A, y, NOISE, D, SIGMA, method="gradient", step_size=1 / (NOISE**-2 + SIGMA**-2)), RED),
    }

    def run(make, num_steps):
        fn = jax.jit(lambda A, y, power, x0: iterate(make(A, y, denoise(power)), x0, num_steps).x)
        return lambda: fn(A, y, power, start)

    return {name: run(*method) for name, method in methods.items()}


def theirs(maps, mask, y, power, start):
    """The same by deepinv, whose images are `[1, 2, h, w]`."""
    torch = torch_for_deepinv()
    optim, physics = importlib.import_module("deepinv.optim"), importlib.import_module("deepinv.physics")
    denoiser = importlib.import_module("deepinv.models.base").Denoiser
    spectrum = torch.from_numpy(power)

    class Gaussian(denoiser):
        """The same denoiser."""

        def forward(self, x, sigma, **_):
            """D(x, sigma)."""
            gain = spectrum / (spectrum + torch.as_tensor(sigma).reshape(-1)[0] ** 2)
            z = torch.fft.ifft2(gain * torch.fft.fft2(torch.complex(x[:, 0], x[:, 1])))
            return torch.stack([z.real, z.imag], 1)

    def parts(z):
        return torch.from_numpy(np.stack([z.real, z.imag])[None])

    A = physics.MultiCoilMRI(mask=torch.tensor(mask), coil_maps=torch.tensor(maps)[None], tol=TOLERANCE, max_iter=KRYLOV)
    data, x0, prior = parts(y), parts(start), optim.PnP(Gaussian())
    fidelity = optim.L2(sigma=NOISE)
    methods = {
        "PnP-PGM": optim.PGD(fidelity, prior, stepsize=NOISE**2, sigma_denoiser=NOISE, max_iter=PGM),
        "PnP-ADMM": optim.ADMM(fidelity, prior, stepsize=SIGMA**2, sigma_denoiser=SIGMA, max_iter=ADMM),
        "DPIR": optim.DPIR(sigma=NOISE, denoiser=Gaussian()),
        "RED": optim.GD(
            fidelity, optim.RED(Gaussian()), lambda_reg=SIGMA**-2, stepsize=1 / (NOISE**-2 + SIGMA**-2), sigma_denoiser=SIGMA, max_iter=RED
        ),
    }

    def run(method):
        def call():
            x = method(data, A, init=(x0, torch.zeros_like(x0))).numpy()[0]
            return x[0] + 1j * x[1]

        return call

    return {name: run(method) for name, method in methods.items()}


def rows():
    """One line a method."""
    A, y, power = scan()
    start = np.asarray(A.adjoint(jnp.asarray(y)))
    left = ours(A, jnp.asarray(y), jnp.asarray(power), jnp.asarray(start))
    try:
        right = theirs(np.asarray(A.maps), np.asarray(A.mask), y, power, start)
    except ImportError:
        print("deepinv is not installed: left out, and with it all ratios")
        return [{"method": name, "medjax [ms]": milliseconds(race({"medjax": fn})[0]["medjax"])} for name, fn in left.items()]
    table = []
    for name, fn in left.items():
        times, results = race({"medjax": fn, "deepinv": right[name]}, seconds=20)
        error = gap(results["medjax"], results["deepinv"])
        assert error <= BOUNDS[name], f"{name}: {error:.2g} from deepinv's, {BOUNDS[name]} is allowed"
        line = {"method": name, "medjax [ms]": milliseconds(times["medjax"]), "deepinv [ms]": milliseconds(times["deepinv"])}
        table.append(line | {"x": faster(times["medjax"], times["deepinv"]), "gap": error})
    return table


if __name__ == "__main__":
    main(__doc__, {"plug_and_play": rows})
