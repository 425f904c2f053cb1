"""The page of unrolled, implicit and Jacobian-free derivatives: python benchmarks/unrolled_to_implicit.py. Writes docs/from_unrolled_to_implicit.md
and its figures, in about ten minutes.

The lower problem is the hard one of bilevel_gradient.py: 64 x 64 pixels, a blurred image of which half the pixels are seen, 24 filters of 5 x 5 and
their weights as Fields of Experts. float64. The error of a gradient is that to the one found at tolerances of 1e-12.
"""

import argparse
import functools
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.ticker
import optax

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from bilevel_gradient import energy, problem  # noqa: E402
from race import machine  # noqa: E402

from medjax import implicit, linalg  # noqa: E402

FOLDER = Path(__file__).parents[1] / "docs" / "from_unrolled_to_implicit"
STEPS, BACK, TOLERANCES = (10, 30, 100, 300), (1, 3, 10, 30, 100), (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
TRAINING, RATE, SHORT = 60, 3e-3, 30


def loss(theta, given, **how):
    """Half the squared error of the reconstruction, and how the lower problem ended."""
    solved = implicit.minimise(functools.partial(lower, given=given), jnp.zeros_like(given["truth"]), theta, **how)
    return 0.5 * jnp.sum((solved.x - given["truth"]) ** 2), implicit.told(solved)


def lower(x, theta, given):
    """E(x, theta)."""
    return energy(x, theta, given)


def measured(how, given):
    """Gradient, seconds and bytes of temporaries of one way to differentiate."""
    program = jax.jit(jax.grad(functools.partial(loss, **how), has_aux=True)).lower(*given).compile()
    (gradient, _), times = program(*given), []
    for _ in range(3):
        clock = time.perf_counter()
        jax.block_until_ready(program(*given))
        times.append(time.perf_counter() - clock)
    return linalg.flat(gradient), min(times), program.memory_analysis().temp_size_in_bytes


def ways():
    """Family -> list of (what is varied, arguments of `minimise`)."""
    return {
        "unroll": [(k, {"backward": "unroll", "solver": "accelerated", "max_steps": k}) for k in STEPS],
        "jfb": [(k, {"backward": "jfb", "tolerance": 1e-8, "num_backward": k, "max_steps": 10_000}) for k in BACK],
        "implicit": [(t, {"backward": "implicit", "tolerance": t, "max_steps": 10_000}) for t in TOLERANCES],
    }


def gradients(given):
    """Rows `(family, varied, error, cosine, seconds, bytes)`."""
    exact, _, _ = measured({"tolerance": 1e-12, "max_steps": 20_000, "num_krylov": 5000}, given)
    rows = []
    for family, cases in ways().items():
        for varied, how in cases:
            found, seconds, size = measured(how, given)
            error = float(linalg.norm(found - exact) / linalg.norm(exact))
            cosine = float(linalg.vdot(found, exact) / (linalg.norm(found) * linalg.norm(exact)))
            rows.append((family, varied, error, cosine, seconds, size))
            print(f"{family:9} {varied:<8g} error {error:.1e}  cosine {cosine:.4f}  {seconds:.2f} s  {size / 2**20:.0f} MiB", flush=True)
    return rows


def trainings(given):
    """Name -> upper loss, after each step of Adam, of reconstructions that are solved to the end."""
    found, theta = {}, given[0]
    for name, how in {
        f"unroll, {SHORT} steps": {"backward": "unroll", "solver": "accelerated", "max_steps": SHORT},
        "jfb, 1 step": {"backward": "jfb", "tolerance": 1e-4, "max_steps": 3000},
        "implicit": {"backward": "implicit", "tolerance": 1e-4, "max_steps": 3000},
    }.items():
        optimizer = optax.adam(RATE)
        step = jax.jit(jax.grad(functools.partial(loss, **how), has_aux=True))
        solved = jax.jit(functools.partial(loss, tolerance=1e-4, max_steps=3000))
        params, state, values = theta, optimizer.init(theta), []
        for _ in range(TRAINING):
            values.append(float(solved(params, *given[1:])[0]))
            updates, state = optimizer.update(step(params, *given[1:])[0], state, params)
            params = optax.apply_updates(params, updates)
        found[name] = [*values, float(solved(params, *given[1:])[0])]
        print(f"{name}: {found[name][0]:.3f} -> {found[name][-1]:.3f}", flush=True)
    return found


COLORS = {"unroll": "tab:blue", "jfb": "tab:orange", "implicit": "tab:green"}


def draw_gradients(rows):
    """Error over seconds, and over memory."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", sharey=True)
    for panel, column, scale, label in ((panels[0], 4, 1, "time of a gradient [s]"), (panels[1], 5, 2**20, "temporaries [MiB]")):
        for family, color in COLORS.items():
            own = [row for row in rows if row[0] == family]
            panel.loglog([row[column] / scale for row in own], [row[2] for row in own], "o-", color=color, label=family)
            for row in own:
                panel.annotate(f"{row[1]:g}", (row[column] / scale, row[2]), (4, 4), textcoords="offset points", fontsize=8, color=color)
        panel.set_xlabel(label)
        panel.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        panel.xaxis.set_major_locator(matplotlib.ticker.LogLocator(10, (1, 2, 5)))
        panel.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("relative error of the gradient")
    panels[0].legend()
    figure.savefig(FOLDER / "gradients.png", dpi=100)


def draw_trainings(found):
    """Upper loss over steps."""
    figure, panel = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for (name, values), color in zip(found.items(), COLORS.values(), strict=True):
        panel.plot(values, "-", color=color, label=name)
    panel.set_xlabel("steps of Adam")
    panel.set_ylabel("upper loss of the solved reconstruction")
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(FOLDER / "training.png", dpi=100)


PAGE = """# From unrolled to implicit, by one argument

A learned regulariser is trained through the reconstruction that it makes. The upper loss compares that with the truth; the lower problem is the
reconstruction:

```python
from medjax import implicit


def energy(x, theta):  # E: data term and regulariser, theta its weights
    return 0.5 * jnp.sum((A(x) - y) ** 2) + regulariser(theta, x)


def loss(theta):
    x = implicit.minimise(energy, x0, theta, solver="accelerated", backward="unroll", max_steps=100).x
    return 0.5 * jnp.sum((x - truth) ** 2)
```

`jax.grad(loss)` now goes back through all 100 steps. The implicit function theorem takes another word, and steps until it is there:

```python
    x = implicit.minimise(energy, x0, theta, solver="accelerated", backward="implicit", tolerance=1e-5).x
```

and Jacobian-free backpropagation, which goes back through `num_backward` steps from the solution on:

```python
    x = implicit.minimise(energy, x0, theta, solver="accelerated", backward="jfb", num_backward=1).x
```

Without the solver's name, L-BFGS finds the solution of the last two faster; it cannot be unrolled, for its iterates have no useful derivative. The
same word in a config: `--methods.NAME.reconstruction.backward jfb` with `learned/variational.py`. A step that is not the gradient of
anything, such as that of a deep equilibrium network, goes through `implicit.fixed_point(step, x0, theta, backward=...)`, a solver of `solvers/`
through `implicit.solution(make, theta, x0, backward=...)`.

## What each costs, and what it gets wrong

{machine}

One gradient for 624 weights at 64 x 64 pixels in float64 (`python benchmarks/unrolled_to_implicit.py`). The numbers at the points are the
steps that are unrolled, the steps that `jfb` goes back, and the tolerance of `implicit`.

![error of the gradient over time and memory](from_unrolled_to_implicit/gradients.png)

{table}

`cosine` is that of the angle to the exact gradient: a direction may be good where the length is not.

## What training makes of it

{steps} steps of Adam on one image. The loss is that of the reconstruction solved to the end, whatever the gradient came from.

![upper loss over the steps of training](from_unrolled_to_implicit/training.png)

## When not to trust it

* `implicit.told(solved)` goes into the metrics of a loss: the steps, the residual and whether it met the tolerance. `implicit.trouble(metrics)`
  says what is wrong, with the numbers; `train.py` prints that, and stops where `train.strict` is set.
* The implicit gradient divides by the Hessian of the energy. `num_ritz=50` looks for its extreme Ritz values; where the smallest is negative or a
  tiny share of the largest, `trouble` names it. Where the linear solve fails, the gradient is NaN, never a silent number.
* `x0` may be the solution of the last training step, carried along in `params["carried"]`: it saves lower steps and changes no gradient of
  `implicit`.
"""


def main():
    """Measure, draw, write."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    jax.config.update("jax_enable_x64", True)
    scan, theta = problem("hard")
    given = theta, scan
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows, found = gradients(given), trainings(given)
    draw_gradients(rows)
    draw_trainings(found)
    head = "| backward | varied | error | cosine | seconds | temporaries |\n|---|---:|---:|---:|---:|---:|\n"
    cells = [f"| {f} | {v:g} | {e:.1e} | {c:.4f} | {s:.2f} | {b / 2**20:.0f} MiB |" for f, v, e, c, s, b in rows]
    told = ", ".join(f"{key} {value}" for key, value in machine().items())
    page = PAGE.replace("{machine}", f"Measured on: {told}.").replace("{table}", head + "\n".join(cells)).replace("{steps}", str(TRAINING))
    FOLDER.with_suffix(".md").write_text(page)


if __name__ == "__main__":
    main()
