"""A measure over the values of a setting."""

import numpy as np

from medjax.report.atomic import write_atomically

_INK, _FAINT, _LINE, _BEST = "#f2f2f2", "#a8a8a8", "#6fb7ff", "#ffb000"


def curve(path, values, means, half_widths, label: str = "", measure: str = "PSNR [dB]", title: str = "") -> None:
    """Means with their intervals, on black; the largest mean is marked.

    Args:
      path: PNG file to write; appears whole or not at all.
      values: `[n]` numbers, on a logarithmic axis where they are positive and span a factor of 8; or texts, side by side.
      means: `[n]`.
      half_widths: `[n]`, of the intervals; infinite ones are left out.
      label: what the values are.
      measure: what the means are.
      title: what the picture is of.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values, means, half_widths = list(values), np.asarray(means, float), np.asarray(half_widths, float)
    if len(values) != len(means) or len(values) != len(half_widths) or not values:
        raise ValueError(f"got {len(values)} values, {len(means)} means and {len(half_widths)} half widths; as many of each are needed")
    named = any(isinstance(value, str) for value in values)
    places = np.arange(len(values)) if named else np.asarray(values, float)
    order, best, reach = np.argsort(places), int(np.argmax(means)), np.where(np.isfinite(half_widths), half_widths, 0)
    canvas = Figure(figsize=(7, 4.4), dpi=100, facecolor="black", layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot(facecolor="black")
    axes.set_title(title, color=_INK, loc="left", fontsize=14, parse_math=False)
    axes.errorbar(
        places[order],
        means[order],
        reach[order],
        color=_LINE,
        marker="o",
        markersize=5,
        capsize=4,
        linestyle="none" if named else "-",
    )
    axes.plot([places[best]], [means[best]], "o", color=_BEST, markersize=9, zorder=3)
    above = (places[best], means[best] + reach[best])
    axes.annotate(f"{values[best]}: {means[best]:.2f}", above, (0, 6), textcoords="offset points", color=_BEST, ha="center")
    axes.margins(0.08, 0.18)
    if named:
        axes.set_xticks(places, [str(value) for value in values])
    elif places.min() > 0 and places.max() >= 8 * places.min():
        axes.set_xscale("log")
    axes.set_xlabel(label, color=_INK, parse_math=False)
    axes.set_ylabel(measure, color=_INK)
    axes.tick_params(colors=_INK, which="both")
    axes.grid(color=_FAINT, alpha=0.25)
    for spine in axes.spines.values():
        spine.set_color(_FAINT)
    with write_atomically(path) as temporary:
        canvas.savefig(temporary, format="png", facecolor="black")
