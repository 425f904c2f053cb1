"""The page of calibration from its figures: python benchmarks/calibration_page.py [--json FILE]. Writes docs/calibration.md and its heat maps."""

import argparse
import ast
import json
import math
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from medjax.metrics.confidence_interval import confidence_interval  # noqa: E402

SIMULATED = """## Data drawn anew each time

Simulation-based calibration: 400 times a truth is drawn from the prior, data from it, and 19 samples by the method, for 12 pixels of a Gaussian field
and of two Gaussians (means 1 and -1, standard deviation 1/2) behind a blur. Of right samples 50 and 90 of 100 truths lie in the central 50 and 90 %,
whatever the law. z is the error of the mean in the samples' own standard deviations, 1 if they are right; p the chance that right samples have ranks
as uneven as those of the worst pixel (times 12). Bold where p is above .01. With two Gaussians the law of x0 given x is no Gaussian, which all but
the particles take it for (`twisted_smc`, `fps` and `mcg_diff` have at most 64 here, and one of each run counts).

![share of truths in the central part of the samples](calibration/simulated.png)
"""
MIXTURE = """## A mixture of 25 Gaussians

Sliced Wasserstein distance, mean over problems and its 95 % interval, {seeds} problems a column (one where there is no interval); `floor` is that
of two exact sets of 1,000 samples. `twisted_smc` has 8,192 particles and 68 calls each, and levels that are made for the scale of these means;
`mcg_diff` 1,000 runs of 128 particles and 100 calls over levels as its authors publish them. Their paper prints smaller distances for problems of its
own draw (.28 at 80 / 4, published, not measured here); what makes the difference is not known.

![distance over the floor](calibration/mixture.png)
"""
PAIRED = """### Beside the methods of the same name

Ours less theirs on the same problems, mean of the seeds and its 95 % interval; bold where ours is better or not significantly worse, that is where
the interval does not lie above 0. azula and deepinv as `benchmarks/calibration_peers.py` runs them, with the exact denoiser, 200 calls and their own
default step sizes; TDS is azula's twisted SMC. Seeds on which something of ours was chosen are left out: 0 to 5 of `dps`, whose zeta is the best of
four there, and 0 of `tmpd` and `pigdm`.
"""
SETTINGS = """## Settings

As `tests/rows_posterior.py` has them; what is not told is the function's default. `zeta` of `dps` and `mcg` is far below their default of 1, so
these rows do not speak for the default: a step that is too small leaves the prior's spread (above 1), one too large takes it away (below 1). `mmps`
and `moment_matching` have as many Krylov steps as the exact posterior needs; their defaults, 5 and 10, are made for learned priors, whose derivative
is not that exact. `mcg_diff`: the authors' algorithm and levels; `kappa` is ours.

| method | made by |
|---|---|"""
PAIRS = [
    ("twisted_smc", "azula TDS"), ("mmps_ancestral", "azula MMPS"), ("mmps_ancestral", "deepinv MMPS"), ("tmpd", "azula TMPD"),
    ("pigdm", "azula PGDM"), ("pigdm", "deepinv PiGDM"), ("dps", "azula DPS"), ("dps", "deepinv DPS"), ("ddrm", "deepinv DDRM"),
    ("diffpir", "azula DiffPIR"), ("diffpir", "deepinv DiffPIR"),
]  # fmt: skip
CHOSEN = {"dps": 6, "tmpd": 1, "pigdm": 1}  # the first seed on which nothing was chosen
PROBLEMS = ["mask", "blur", "downsample", "masked_fourier", "sense", "parallel_beam"]
SIZES = [f"{d}/{dy}" for d in (8, 80, 800) for dy in (1, 2, 4)]
HEAD = """# Which posterior samplers tell the truth

A reconstruction with an error bar is of use only if the bar is true. Here every sampler draws from posteriors that are known exactly, with the exact
denoiser, so that all that is wrong is the sampler's. The page is made by `benchmarks/calibration_page.py` from what `benchmarks/calibration.py`
measured ({machine}; cells are kept from run to run, so that some are of earlier commits).

## A correlated Gaussian field, 32 px

1,000 samples; a cell says std · bias · cover: their standard deviation over the exact one (1 is right, less is too sure), the error of their mean in
exact standard deviations (chance alone gives .03), and how many of 100 lie in the exact central 90 % interval (more than 90 is too sure). Calls
are of the denoiser for one sample, forward + backward (vector-Jacobian products). Settings are at the end of the page.
**{honest}** keep within .98 to 1.02, .05 and 88 to 92 on all six problems; the others do not, and an error bar of theirs is not to be shown to anyone
who decides by it. `twisted_smc`, `fps` and `mcg_diff` show the particles of their runs; those of `mcg_diff` stem from few ancestors, which is why its
authors take one of each run, as the mixture below does.

![standard deviation over the exact one](calibration/gaussian.png)
"""


def _of_kind(cells, kind):
    """`(the other parts of its name, cell)` of each cell of one kind."""
    parts = ((name.split("/"), cell) for name, cell in cells.items())
    return [(rest, cell) for (first, *rest), cell in parts if first == kind]


def gaussian_table(cells):
    """`method -> {problem: cell}`, the honest ones, and the lines of the table."""
    found = {}
    for (problem, method), cell in _of_kind(cells, "gaussian"):
        found.setdefault(method, {})[problem] = cell
    found = {method: row for method, row in found.items() if set(row) == set(PROBLEMS)}
    order = sorted(found, key=lambda m: max(_error(c) for c in found[m].values()))
    honest = [m for m in order if all(_honest(c) for c in found[m].values())]
    calls = {name: f"{c['forward']:.0f} + {c['backward']:.0f}" for (name,), c in _of_kind(cells, "network")}
    lines = ["| method | calls | " + " | ".join(p.replace("_", " ") for p in PROBLEMS) + " |", "|---|---|" + "---|" * len(PROBLEMS)]
    for method in order:
        row = found[method]
        texts = [f"{row[p]['std_ratio']:.3f} · {row[p]['bias']:.3f} · {100 * row[p]['coverage']:.1f}" for p in PROBLEMS]
        texts = [f"**{text}**" if _honest(row[p]) else text for text, p in zip(texts, PROBLEMS, strict=True)]
        lines.append(f"| {method} | {calls.get(method, row['mask']['calls'])} | " + " | ".join(texts) + " |")
    return {m: found[m] for m in order}, honest, lines


def settings():
    """`method -> how it is made`, as tests/rows_posterior.py writes it."""
    tree, found = ast.parse((ROOT / "tests/rows_posterior.py").read_text()), {}
    (table,) = (node.value for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "METHODS")
    for key, row in zip(table.keys, table.values, strict=True):
        parts = [ast.unparse(part.body if isinstance(part, ast.Lambda) else part) for part in row.args[0].args]
        found[key.value] = " with ".join(parts).replace("A, y, s", "A, y, sigma_y")
    return found


def _error(cell):
    """How far a cell is from the truth, in units of what is allowed."""
    values = (abs(cell["std_ratio"] - 1) / 0.02, cell["bias"] / 0.05, abs(cell["coverage"] - 0.9) / 0.02)
    return max(values) if all(math.isfinite(v) for v in values) else math.inf


def _honest(cell):
    return _error(cell) <= 1


def simulated_table(cells):
    """`prior -> method -> cell`, and the lines of the table, the most uniform first."""
    found = {}
    for (prior, method), cell in _of_kind(cells, "simulated"):
        found.setdefault(prior, {})[method] = cell
    if not found:
        return {}, []
    order = sorted(found["gaussian"], key=lambda m: sum(abs(_inside(row[m], k) - k / 20) for row in found.values() for k in (10, 18)))
    lines = ["| method | field: in 50 % | in 90 % | z | p | two: in 50 % | in 90 % | z | p |", "|---|" + "---|" * 8]
    for method in order:
        texts = []
        for prior in ("gaussian", "two"):
            cell = found[prior][method]
            numbers = f"{100 * _inside(cell, 10):.0f} | {100 * _inside(cell, 18):.0f} | {min(cell['z'], 99):.2f}"
            texts.append(f"{numbers} | {'**' if cell['p'] > 0.01 else ''}{cell['p']:.2g}{'**' if cell['p'] > 0.01 else ''}")
        lines.append(f"| {method} | " + " | ".join(texts) + " |")
    return found, lines


def _inside(cell, width):
    """Share of the truths whose rank is one of the `width` middle ones of 20."""
    return sum(cell["ranks"][10 - width // 2 : 10 + width // 2])


def coverage_plot(path, found):
    """Share of the truths in the central part of the samples, for each part: one panel a prior, those of uniform ranks in colour, others by name."""
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.6), dpi=110, sharey=True)
    widths, good = range(0, 21, 2), sorted({m for row in found.values() for m, cell in row.items() if cell["p"] > 0.01})
    for ax, (prior, title) in zip(axes, [("gaussian", "a Gaussian field"), ("two", "two Gaussians")], strict=True):
        labels = []  # of grey curves far from the rest, those that touch on one line
        for method, cell in sorted(found[prior].items(), key=lambda item: _inside(item[1], 16)):
            shares, colour = [100 * _inside(cell, w) for w in widths], plt.get_cmap("tab20")
            style = {"lw": 0.8, "color": "0.6"}
            if cell["p"] > 0.01:
                style = {"lw": 1.6, "color": colour(good.index(method)), "label": method, "zorder": 3}
            elif shares[8] < 65:
                labels = labels if labels and shares[8] - labels[-1][0] < 4 else [*labels, (shares[8], [])]
                labels[-1][1].append(method)
            ax.plot([5 * w for w in widths], shares, **style)
        for height, names in labels:
            ax.text(79, height + 1, ", ".join(names), fontsize=7, color="0.3", ha="right", va="bottom")
        ax.plot([0, 100], [0, 100], "k:", lw=1, label="right")
        ax.set(title=title, xlabel="central part of the samples [%]", xlim=(0, 100), ylim=(0, 100))
    axes[0].set_ylabel("truths in it [%]; below the line: too sure")
    known = {text: line for ax in axes for line, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.tight_layout(rect=(0, 0, 0.84, 1))
    fig.legend(known.values(), known.keys(), fontsize=7, loc="center right", title="uniform ranks\n(others grey)", title_fontsize=7)
    fig.savefig(path)
    plt.close(fig)


def mixture_table(cells):
    """Mean distances over seeds by method and size, and the lines of the table."""
    found = {}
    for (size, num_data, seed, method), cell in _of_kind(cells, "mixture"):
        found.setdefault(method, {}).setdefault(f"{size}/{num_data}", {})[seed] = cell["distance"]
    if "floor" not in found:
        return {}, []
    order = sorted(found, key=lambda m: np.mean([r for s in SIZES if np.isfinite(r := over_floor(found, m, s))]))
    lines = ["| d / dy | " + " | ".join(s.replace("/", " / ") for s in SIZES) + " |", "|---|" + "---|" * len(SIZES)]
    for method in order:
        texts = []
        for size in SIZES:
            values = list(found[method].get(size, {}).values())
            texts.append(f"{np.mean(values):.2f}{_half(values)}" if values else "")
        lines.append(f"| {method} | " + " | ".join(texts) + " |")
    return {m: found[m] for m in order}, lines


def over_floor(found, method, size):
    """Mean distance over that of the floor, of the seeds that both have; NaN without any."""
    mine, floor = (found[name].get(size, {}) for name in (method, "floor"))
    seeds = sorted(mine.keys() & floor.keys())
    return np.mean([mine[s] for s in seeds]) / np.mean([floor[s] for s in seeds]) if seeds else np.nan


def paired_table(cells):
    """Lines of the table of ours less theirs, seed by seed."""
    sizes = [s.replace("/", " / ") for s in SIZES]
    lines = ["| ours | theirs | all | " + " | ".join(sizes) + " |", "|---|---|---|" + "---|" * len(sizes)]
    for ours, theirs in PAIRS:
        gaps = {size: _gaps(cells, size, ours, theirs) for size in SIZES}
        if any(gaps.values()):
            texts = [_gap([g for found in gaps.values() for g in found]), *(_gap(gaps[size]) for size in SIZES)]
            lines.append(f"| {ours} | {theirs} | " + " | ".join(texts) + " |")
    return lines if len(lines) > 2 else []


def _gaps(cells, size, ours, theirs):
    """Ours less theirs of every seed that both have run."""
    pairs = ((cells.get(f"mixture/{size}/{seed}/{ours}"), cells.get(f"mixture/{size}/{seed}/{theirs}")) for seed in range(CHOSEN.get(ours, 0), 100))
    return [mine["distance"] - other["distance"] for mine, other in pairs if mine and other]


def _gap(values):
    """Mean and interval; bold where ours is not worse."""
    if not values:
        return ""
    mean, half = np.mean(values), confidence_interval(values)[1]
    text = f"{mean:+.2f}{_half(values)}"
    return f"**{text}**" if mean <= 0 or mean - half <= 0 < half < np.inf else text


def _half(values):
    """Of two seeds or more."""
    return f" ± {confidence_interval(values)[1]:.2f}" if len(values) > 1 else ""


def heat_map(path, table, columns, value, title, label, most):
    """Methods by problems; the colour is the logarithm of the ratio to the truth, up to 2^most."""
    methods = list(table)
    numbers = np.array([[value(m, c) for c in columns] for m in methods])
    fig, ax = plt.subplots(figsize=(1.6 + 1.05 * len(columns), 1.2 + 0.3 * len(methods)), dpi=110)
    image = ax.imshow(np.log2(np.clip(numbers, 2.0**-most, 2.0**most)), cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    for i, j in np.ndindex(*numbers.shape):
        bold = abs(math.log2(max(numbers[i, j], 1e-9))) > 0.6 * most if np.isfinite(numbers[i, j]) else False
        ax.text(j, i, f"{numbers[i, j]:.2f}" if np.isfinite(numbers[i, j]) else "–", ha="center", va="center", fontsize=8, color="w" if bold else "k")
    ax.set_xticks(range(len(columns)), [c.replace("_", " ").replace("/", " / ") for c in columns], fontsize=8)
    ax.set_yticks(range(len(methods)), methods, fontsize=8)
    ax.set_title(title, fontsize=9)
    bar = fig.colorbar(image, ax=ax, ticks=[-most, -most / 2, 0, most / 2, most])
    bar.ax.set_yticklabels([f"≤ 1/{2**most}", f"1/{2 ** (most // 2)}", "1", str(2 ** (most // 2)), f"≥ {2**most}"], fontsize=8)
    bar.set_label(label, fontsize=8)
    fig.tight_layout()
    fig.savefig(path)
    plt.close(fig)


def main():
    """Read the figures, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, default=ROOT / "docs/calibration.json")
    options = parser.parse_args()
    results = json.loads(options.json.read_text())
    cells, folder = results["cells"], ROOT / "docs/calibration"
    folder.mkdir(exist_ok=True)
    machine = results["machine"]
    told = f"commit {machine['commit']}, {machine['cores']} cores of {machine['cpu']}, jax {machine['jax']}"
    table, honest, lines = gaussian_table(cells)
    heat_map(
        folder / "gaussian.png", table, PROBLEMS, lambda m, p: table[m][p]["std_ratio"],
        "standard deviation of the samples over the exact one", "below 1: too sure", 2,
    )  # fmt: skip
    page = [HEAD.format(machine=told, honest=", ".join(honest) or "none"), *lines]
    found, rows = simulated_table(cells)
    if found:
        coverage_plot(folder / "simulated.png", found)
        page += ["", SIMULATED, *rows]
    distances, rows = mixture_table(cells)
    if distances:
        sizes = [s for s in SIZES if s in distances["floor"]]
        heat_map(
            folder / "mixture.png", distances, sizes, lambda m, s: over_floor(distances, m, s),
            "sliced Wasserstein distance over that of two exact sets, dimensions / data", "1 is as good as exact samples", 6,
        )  # fmt: skip
        seeds = " to ".join(str(f([len(v) for v in distances["floor"].values()])) for f in (min, max))
        page += ["", MIXTURE.format(seeds=seeds), *rows]
        page += ["", PAIRED, *paired] if (paired := paired_table(cells)) else []
    page += ["", SETTINGS, *(f"| {name} | `{text}` |" for name, text in settings().items() if name in table)]
    (ROOT / "docs/calibration.md").write_text("\n".join(page) + "\n")
    print(f"{len(table)} methods, honest: {', '.join(honest) or 'none'}; docs/calibration.md")


if __name__ == "__main__":
    main()
