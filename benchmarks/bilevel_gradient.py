"""What the gradient of a bilevel loss costs, by every way: python benchmarks/bilevel_gradient.py [--only easy] [--json FILE].

The loss is ||x - truth||^2 / 2 of x = argmin ||A x - y||^2 / 2 + sum_j w_j sum sqrt((k_j * x)^2 + eps^2), 64 px, a blurred image of which half the
pixels are seen; theta are the weights w and the 24 filters k of 5 x 5, 624 numbers (Fields of Experts). float64, one program each, one run of
contenders that take turns. eps is 0.05 and w 0.01 in `easy`, 0.005 and 0.001 in `hard`. Tolerances are of ||grad E||, not relative.

error, cosine, length: of the gradient for theta beside that of a lower problem solved to 1e-11 of the first gradient.
x: how many times as long as `implicit` at 1e-5 it takes, the median of neighbours; temporaries are what XLA says [MiB].
unroll: gradient descent with steps 1 / L, plain `lax.scan` of the fewest steps (of those tried) that reach the error of `implicit`; `checkpointed` is
`implicit.minimise(backward="unroll")` of as many. 10,000 steps: `implicit` with that budget instead of 1000.
optimistix: its L-BFGS with `ImplicitAdjoint` and conjugate gradients, at the loosest of its tolerances that reaches the error of `implicit`, and 1e-4
for the linear solve, whose error is then like ours.
adjoint: both from the solution and in one step, so that the linear solve is what is left; by itself optimistix searched on for 21 steps there.

Measured by `python benchmarks/bilevel_gradient.py` at da2f1ff, AMD EPYC, 2 idle cores, jax 0.10.1, easy | hard: `implicit` 22 | 39 ms, 7.8 MiB for
1000 and for 10,000 steps, error 1.6e-5 | 3.3e-5. Unrolled 24 | 28 times as long, 78 | 155 times as large; checkpointed 23 | 30 and 6.5 | 8.9 times.
jfb with one step: cosine .66 | .85, length .18 | .15. optimistix takes 1.04 | 1.01 of our time, .95 | .95 for the adjoint alone.
"""

import functools
import importlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import idctn

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from race import faster, gap, main, milliseconds, race  # noqa: E402

from medjax import implicit  # noqa: E402

SIZE, FILTERS, WIDTH = 64, 24, 5
BLUR, NOISE = 0.7, 0.02
SETTINGS = {"easy": (0.05, 1e-2), "hard": (0.005, 1e-3)}
TOLERANCE = 1e-5
UNROLLED = (100, 150, 200, 300, 400, 500, 700)
SECONDS = 40.0


def ellipses(rng):
    """A random image of 20 ellipses in [0, 1]."""
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    image = np.zeros((SIZE, SIZE))
    for _ in range(20):
        height, axes, angle = rng.uniform(-0.2, 0.5), 0.05 + 0.2 * rng.exponential(size=2), rng.uniform(0, 2 * np.pi)
        x, y = rng.uniform(-0.8, 0.8, 2)
        along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        image += height * ((along / axes[0]) ** 2 + (across / axes[1]) ** 2 < 1)
    return (image - image.min()) / np.ptp(image)


def problem(name):
    """`(given, theta)`: transfer function, mask, data, truth and eps; filters and log weights."""
    smooth, strength = SETTINGS[name]
    rng = np.random.default_rng(0)
    truth = ellipses(rng)
    transfer = np.exp(-2 * np.pi**2 * BLUR**2 * (np.fft.fftfreq(SIZE)[:, None] ** 2 + np.fft.rfftfreq(SIZE) ** 2))
    mask = (rng.random((SIZE, SIZE)) < 0.5).astype(float)
    given = {"transfer": jnp.asarray(transfer), "mask": jnp.asarray(mask), "truth": jnp.asarray(truth), "smooth": jnp.asarray(smooth)}
    given["data"] = seen(given["truth"], given) + NOISE * mask * rng.standard_normal(truth.shape)
    units = np.eye(WIDTH**2).reshape(-1, WIDTH, WIDTH)
    filters = np.stack([np.asarray(idctn(unit, norm="ortho")).ravel() for unit in units])[1 : FILTERS + 1]
    return given, {"filters": jnp.asarray(filters), "log_weights": jnp.full(FILTERS, np.log(strength))}


def seen(x, given):
    """A x."""
    return given["mask"] * jnp.fft.irfft2(given["transfer"] * jnp.fft.rfft2(x), s=x.shape)


@jax.custom_jvp
def rounded(z, smooth):
    """sqrt(z^2 + eps^2), whose derivatives are written out: by autodiff all temporaries were 9.4 MiB, not 7.9."""
    return jnp.sqrt(z**2 + smooth**2)


@jax.custom_jvp
def sign(z, smooth):
    """The derivative of `rounded`."""
    return z / jnp.sqrt(z**2 + smooth**2)


rounded.defjvp(lambda primals, tangents: (rounded(*primals), sign(*primals) * tangents[0]))
sign.defjvp(lambda primals, tangents: (sign(*primals), primals[1] ** 2 / (primals[0] ** 2 + primals[1] ** 2) ** 1.5 * tangents[0]))


def energy(x, theta, given):
    """The lower objective; filters by one product with all shifts, whose derivatives are products again."""
    half = WIDTH // 2
    shifts = jnp.stack([jnp.roll(x, (half - i, half - j), (0, 1)).ravel() for i in range(WIDTH) for j in range(WIDTH)])
    response = theta["filters"] @ shifts
    potential = jnp.sum(rounded(response, given["smooth"]), 1)
    return jnp.sum((seen(x, given) - given["data"]) ** 2) / 2 + jnp.exp(theta["log_weights"]) @ potential


def gradient_of(answer):
    """`(theta, given, x0) -> (gradient for theta, steps)` of the upper loss, compiled; x0 None is zeros; `answer(theta, given, x0) -> (x, steps)`."""

    def loss(theta, given, x0):
        x, steps = answer(theta, given, jnp.zeros((SIZE, SIZE)) if x0 is None else x0)
        return jnp.sum((x - given["truth"]) ** 2) / 2, steps

    return jax.jit(jax.grad(loss, has_aux=True))


def ours(**options):
    """By `implicit.minimise`; a tolerance is of ||grad E|| itself."""

    def answer(theta, given, x0):
        first = jnp.linalg.norm(jax.grad(energy)(jnp.zeros_like(x0), jax.lax.stop_gradient(theta), given))
        settings = options | {"tolerance": options.get("tolerance", TOLERANCE) / first}
        solved = implicit.minimise(lambda x, theta: energy(x, theta, given), x0, theta, **settings)
        return solved.x, solved.num_steps

    return gradient_of(answer)


def unrolled(num_steps, tau):
    """Gradient descent by a plain scan."""

    def answer(theta, given, x0):
        step = lambda x, _: (x - tau * jax.grad(energy)(x, theta, given), None)  # noqa: E731
        return jax.lax.scan(step, x0, length=num_steps)[0], num_steps

    return gradient_of(answer)


def theirs(tolerance, max_steps=5000, linear=1e-4):
    """By optimistix."""
    optimistix, lineax = importlib.import_module("optimistix"), importlib.import_module("lineax")
    adjoint = optimistix.ImplicitAdjoint(lineax.CG(rtol=linear, atol=linear * 1e-2))
    solver = optimistix.LBFGS(rtol=tolerance, atol=tolerance)

    def answer(theta, given, x0):
        lower = lambda x, args: energy(x, *args)  # noqa: E731
        tags = frozenset({lineax.positive_semidefinite_tag})
        found = optimistix.minimise(
            lower, solver, x0, (theta, jax.lax.stop_gradient(given)), adjoint=adjoint, max_steps=max_steps, throw=False, tags=tags
        )
        return found.value, found.stats["num_steps"]

    return gradient_of(answer)


def flat(grads):
    """All numbers of a gradient."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(grads)])


def first_within(make, choices, args, exact, most):
    """The first of `choices` whose gradient is within `most` of the exact one, the last one if none is."""
    for choice in choices:
        if gap(flat(make(choice)(*args)[0]), exact) <= most:
            break
    return choice


def rows_of(name):
    """All ways on one problem."""
    given, theta = problem(name)
    args = (theta, given, None)
    solve = jax.jit(lambda theta, given: implicit.minimise(lambda x, t: energy(x, t, given), given["data"], theta, tolerance=1e-11, num_ritz=60))
    best = solve(theta, given)
    assert best.converged, f"{name}: the reference is not solved: {float(best.residual):.2g}"
    exact = flat(ours(tolerance=1e-10)(*args)[0])
    most, tau = gap(flat(ours()(*args)[0]), exact), 1 / float(best.largest)
    steps = first_within(lambda k: unrolled(k, tau), UNROLLED, args, exact, most)
    ways = {
        "implicit": (ours(), args),
        "implicit, 10,000 steps": (ours(max_steps=10_000), args),
        "implicit, accelerated": (ours(solver="accelerated"), args),
        "implicit, anderson": (ours(solver="anderson"), args),
        f"unroll {steps}": (unrolled(steps, tau), args),
        f"unroll {steps}, checkpointed": (ours(backward="unroll", solver="gradient", max_steps=steps, step_size=tau), args),
        **{f"jfb {k}": (ours(backward="jfb", num_backward=k), args) for k in (1, 10, 50)},
        "implicit, adjoint": (ours(max_steps=1), (theta, given, best.x)),
    }
    try:
        loosest = first_within(theirs, (1e-4, 1e-5, 1e-6, 1e-7, 1e-8), args, exact, most)
        ways |= {f"optimistix {loosest:.0e}": (theirs(loosest), args), "optimistix, adjoint": (theirs(loosest, 1), (theta, given, best.x))}
    except ImportError:
        print("optimistix is not installed: left out")
    times, results = race({key: functools.partial(fn, *given) for key, (fn, given) in ways.items()}, seconds=SECONDS)
    return [row(name, key, ways[key], times, results[key], exact) for key in ways]


def row(name, key, way, times, result, exact):
    """One line of the table."""
    fn, args = way
    found, own = flat(result[0]), "implicit, adjoint" if key.endswith("adjoint") else "implicit"
    size = np.linalg.norm(found)
    told = {"steps": int(result[1]), "[ms]": milliseconds(times[key]), "x": faster(times[own], times[key])}
    told["MiB"] = fn.lower(*args).compile().memory_analysis().temp_size_in_bytes / 2**20
    whole = np.linalg.norm(exact)
    return {name: key, **told, "error": gap(found, exact), "cosine": float(found @ exact / size / whole), "length": float(size / whole)}


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(__doc__, {name: functools.partial(rows_of, name) for name in SETTINGS})
