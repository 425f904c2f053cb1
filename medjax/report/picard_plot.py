"""The Picard plot: do the data fall off faster than the singular values?"""

import numpy as np

from medjax.report.atomic import write_atomically

_INK, _FAINT = "#f2f2f2", "#a8a8a8"
_VALUES, _DATA, _RATIO = "#ffd166", "#5ec8f8", "#ff6f91"


def picard_plot(path, values, coefficients, rank=None, noise=None, data_unit: str = "", image_unit: str = "", title: str = "") -> None:
    r"""Singular values :math:`s_i`, coefficients :math:`|\langle u_i, y \rangle|` of the data and their quotients, on a logarithmic scale.

    Where the quotients rise there is noise: no x of bounded norm explains those coefficients. The number of terms to their left is what the data
    can tell.

    Args:
      path: PNG file to write; appears whole or not at all.
      values: `[k]` s_i, descending, of `hadamard` or a `SingularSystem`.
      coefficients: `[k]` |<u_i, y>|.
      rank: how many values count as not zero: the quotients of these are drawn; all if None.
      noise: standard deviation of y, drawn as the level under which coefficients tell nothing.
      data_unit: of y; values then have the data's unit per the image's.
      image_unit: of x, which is that of the quotients.
      title: what the plot is of.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values, coefficients = np.asarray(values), np.asarray(coefficients)
    if values.ndim != 1 or values.shape != coefficients.shape:
        raise ValueError(f"got values {list(values.shape)} and coefficients {list(coefficients.shape)}, two vectors of one length are needed")
    rank = len(values) if rank is None else int(rank)
    index = np.arange(1, len(values) + 1)
    per = f"({image_unit})" if "/" in image_unit else image_unit
    of_values = data_unit if per in ("", "1") else f"{data_unit or 1} / {per}"
    canvas = Figure(figsize=(7.6, 5.0), dpi=100, facecolor="black", layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot(facecolor="black")
    axes.set_yscale("log")
    axes.plot(index, _positive(values), color=_VALUES, linewidth=2, label=_label("singular value $s_i$", of_values))
    axes.plot(index, _positive(coefficients), "x", color=_DATA, markersize=5, label=_label(r"data $|\langle u_i, y\rangle|$", data_unit))
    quotients = _positive(coefficients[:rank]) / _positive(values[:rank])
    axes.plot(
        index[:rank],
        quotients,
        "o",
        color=_RATIO,
        markersize=4,
        fillstyle="none",
        label=_label(r"quotient $|\langle u_i, y\rangle| / s_i$", image_unit),
    )
    if noise is not None:
        axes.axhline(float(noise), color=_DATA, linewidth=1, linestyle="--", label=_label("noise of the data", data_unit))
    if rank < len(values):
        axes.axvline(rank + 0.5, color=_FAINT, linewidth=1, linestyle=":", label=f"numerical rank {rank}")
    axes.set_xlabel("index $i$ of the singular value", color=_INK)
    axes.set_ylabel("size", color=_INK)
    axes.set_title(title, color=_INK, loc="left", parse_math=False)
    axes.set_xlim(0, len(values) + 1)
    axes.tick_params(colors=_INK, which="both")
    axes.grid(color=_FAINT, alpha=0.2, linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_color(_FAINT)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.13), ncols=2, labelcolor=_INK, frameon=False)
    with write_atomically(path) as temporary:
        canvas.savefig(temporary, format="png", facecolor="black")


def _positive(a):
    """NaN, which is not drawn, where a logarithm has no place."""
    return np.where(a > 0, a, np.nan)


def _label(words: str, unit: str) -> str:
    return f"{words} [{unit}]" if unit else words
