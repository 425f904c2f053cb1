"""One regulariser by two ways of training, beside tuned total variation: python benchmarks/learned_regularisers.py [--json FILE].

The problem of `configs/dival_ellipses.py` at half its size: 64 px, 30 views, 91 detectors, noise of .025 of the mean datum, data of images
interpolated to 200 px. 32 phantoms for training, 8 for what is tuned, 32 for the test; of each kind its own. Fields of Experts of 24 filters of
5 x 5, 625 weights, learn once from unpaired images and filtered backprojections (`adversarial_regulariser`, its strength then tuned) and once by
the error of the reconstruction (`supervised`, bilevel); both start from the cosine filters, and both minimise the same functional.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import race  # noqa: E402

from medjax.iterate import iterate  # noqa: E402
from medjax.learned.adversarial_regulariser import adversarial_regulariser  # noqa: E402
from medjax.learned.supervised import supervised  # noqa: E402
from medjax.learned.variational import variational  # noqa: E402
from medjax.metrics.psnr import psnr  # noqa: E402
from medjax.networks.fields_of_experts import fields_of_experts  # noqa: E402
from medjax.operators.algebra import compose  # noqa: E402
from medjax.operators.fbp import fbp  # noqa: E402
from medjax.operators.parallel_beam import parallel_beam  # noqa: E402
from medjax.operators.uniform_views import uniform_views  # noqa: E402
from medjax.operators.upsample import upsample  # noqa: E402
from medjax.phantoms.ellipses import ellipses  # noqa: E402
from medjax.physics.relative_noise import relative_noise  # noqa: E402
from medjax.solvers.tv_reconstruction import tv_reconstruction  # noqa: E402
from medjax.training.state import initial_state, train_step  # noqa: E402
from medjax.typing import Examples  # noqa: E402

SIZE, NUM_VIEWS, NUM_DETECTORS = 64, 30, 91
NUM_TRAIN, NUM_TUNING, NUM_TEST = 32, 8, 32
TV_STRENGTHS = (4.0, 8.0, 12.0, 16.0, 24.0)
STRENGTHS = tuple(float(s) for s in 0.25 * 2.0 ** np.arange(8))
BUDGET = 20 * 60
"""Seconds that either training may take."""


def problem():
    """Examples for training, tuning and the test."""
    half = 90.0 / NUM_VIEWS
    beam = {"num_detectors": NUM_DETECTORS, "detector_spacing": np.sqrt(2) * SIZE / NUM_DETECTORS}
    angles = uniform_views(NUM_VIEWS, half, 180.0 + half)
    A = parallel_beam(SIZE, angles, **beam)
    finer = compose(parallel_beam(200, angles, pixel_size=SIZE / 200, model="joseph", **beam), upsample((SIZE, SIZE), (200, 200)))
    noise = relative_noise(0.025)

    def one(key):
        keys = jax.random.split(key)
        x = ellipses(keys[0], SIZE).image
        y = noise.sample(keys[1], finer(x))
        return x, y, jnp.asarray(noise.sigma(y))

    draw = jax.jit(lambda keys: jax.lax.map(one, keys))
    sets = zip((0, 1, 2), (NUM_TRAIN, NUM_TUNING, NUM_TEST), strict=True)
    return [Examples(A, *draw(jax.random.split(jax.random.key(seed), num))) for seed, num in sets]


def direct(A, y):
    """Filtered backprojection as the config has it."""
    return fbp(A, y, window="hann", cutoff=0.8)


def unregularised(A, y):
    """Filtered backprojection with the noise that a regulariser is to tell from images: the smooth one has less of every filter than the truth."""
    return fbp(A, y, window="ram-lak")


def expected_strength(examples):
    """The strength of a regulariser of slope 1 at which the truth can be a minimum: E |A^H n / sigma^2|, as Lunz et al. (2018), section 3.3."""

    def one(x, y, sigma_y):
        return jnp.linalg.norm(examples.A.adjoint(examples.A(x) - y)) / sigma_y**2

    return float(jnp.mean(jax.jit(jax.vmap(one))(*examples[1:])))


def made(tolerance, max_steps):
    """The reconstruction; training has a looser tolerance than the test."""
    return variational(fields_of_experts(), direct=direct, tolerance=tolerance, max_steps=max_steps)


def levels(apply, examples):
    """PSNR of each example, and what is told, by one program."""

    def one(A, x, y, sigma_y):
        estimate, told = apply(A, y, sigma_y)
        return psnr(estimate, x), told

    fn = jax.jit(lambda batch: jax.lax.map(lambda parts: one(batch.A, *parts), (batch.x, batch.y, batch.sigma_y), batch_size=4))
    found, told = fn(examples)
    return np.asarray(found), jax.tree.map(lambda a: float(np.mean(a)), told)


def tuned(params, tuning):
    """params with the strength, times one of STRENGTHS, of the highest mean PSNR over `tuning`; and that factor."""
    final = made(1e-5, 150)
    apply = jax.jit(lambda params, batch: jax.vmap(final.apply, (None, None, 0, 0))(params, batch.A, batch.y, batch.sigma_y)[0])
    score = {}
    for factor in STRENGTHS:
        moved = params | {"log_strength": params["log_strength"] + np.log(factor)}
        score[factor] = float(jnp.mean(jax.vmap(psnr)(apply(moved, tuning), tuning.x)))
    best = max(score, key=lambda factor: score[factor])
    print({f"{factor:g}": round(value, 2) for factor, value in score.items()}, flush=True)
    return params | {"log_strength": params["log_strength"] + np.log(best)}, best


def trained(loss_fn, params, train, batch_size, num_steps, learning_rate):
    """The averaged weights after at most `num_steps` steps of Adam or BUDGET seconds, and the seconds it took."""
    adam = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps, 0.05))
    # this functional is not convex: where a lower problem ends on a saddle its derivative is NaN, and that step is left out, one image at a time
    optimizer = optax.apply_if_finite(optax.chain(optax.clip_by_global_norm(1.0), adam), num_steps)
    step, state, key = jax.jit(train_step(loss_fn, optimizer, 0.98)), initial_state(params, optimizer), jax.random.key(5)
    begin = time.perf_counter()
    for i in range(num_steps):
        chosen = jax.random.choice(jax.random.fold_in(key, i), NUM_TRAIN, (batch_size,), replace=False)
        batch = Examples(train.A, *(a[chosen] for a in train[1:]))
        state, metrics = step(key, state, batch)
        if i % 50 == 0:
            shown = {name: round(float(value), 5) for name, value in metrics.items()}
            print(i, f"{time.perf_counter() - begin:.0f} s", shown, f"{int(state.opt_state.total_notfinite)} left out", flush=True)
        if time.perf_counter() - begin > BUDGET:
            break
    return state.ema, time.perf_counter() - begin


def table():
    """Mean PSNR over the test images with its standard error."""
    train, tuning, test = problem()
    rows = []

    def told(name, found, strength="-", converged=np.nan, seconds=np.nan):
        error = np.std(found, ddof=1) / len(found) ** 0.5
        level = f"{np.mean(found):.2f} ± {error:.2f}"
        rows.append({"method": name, "PSNR [dB]": level, "strength": strength, "converged": converged, "training [s]": seconds})
        print(rows[-1], flush=True)

    told("fbp", levels(lambda A, y, sigma_y: (direct(A, y), {}), test)[0])

    def tv(strength, nonnegative):
        def apply(A, y, sigma_y):
            return iterate(tv_reconstruction(A, y, sigma_y, strength, nonnegative), direct(A, y), 300).x, {}

        return apply

    for name, nonnegative in (("tv, tuned", False), ("tv, x >= 0, tuned", True)):
        scores = {strength: np.mean(levels(tv(strength, nonnegative), tuning)[0]) for strength in TV_STRENGTHS}
        best = max(scores, key=lambda strength: scores[strength])
        told(name, levels(tv(best, nonnegative), test)[0], f"{best:g}")

    final, loose = made(1e-6, 300), made(1e-5, 200)
    start, _ = tuned(final.init(jax.random.key(0), train.A, train.y[0]), tuning)
    told("cosine filters", levels(lambda A, y, s: final.apply(start, A, y, s), test)[0])

    sloped = start | {"log_strength": start["log_strength"] - np.log(500.0)}  # to slopes of about 1
    params, seconds = trained(adversarial_regulariser(loose, unregularised, 10.0), sloped, train, 8, 600, 2e-2)
    params, factor = tuned(params | {"log_strength": params["log_strength"] + np.log(expected_strength(tuning))}, tuning)
    found, how = levels(lambda A, y, s: final.apply(params, A, y, s), test)
    told("adversarial, tuned", found, f"{factor:g} of expected", how["lower_converged"], seconds)

    params, seconds = trained(supervised(loose), start, train, 1, 2000, 6e-2)
    found, how = levels(lambda A, y, s: final.apply(params, A, y, s), test)
    told("bilevel", found, "learned", how["lower_converged"], seconds)
    return rows


if __name__ == "__main__":
    race.main(__doc__, {"learned_regularisers": table})
