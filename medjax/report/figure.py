"""Pictures of results, on black, laid out to the pixel so that every image is shown at a whole multiple of its size."""

import math
from typing import NamedTuple

import numpy as np

from medjax.report.atomic import write_atomically
from medjax.report.table import method_label

_DPI = 100
_MARGIN, _GAP, _BAR, _LABELS = 24, 12, 14, 72
_TITLE, _NAME, _CAPTION = 40, 32, 30
_NAMES = {
    "truth": "truth",
    "fbp": "filtered backprojection",
    "zero_filled": "zero-filled",
    "tv": "total variation",
}
_INK, _FAINT = "#f2f2f2", "#a8a8a8"


class _Panel(NamedTuple):
    """An image with its words and its scale."""

    image: np.ndarray
    name: str
    caption: str
    limits: tuple[float, float]
    colours: str = "gray"


def figure(path, images: dict, samples, methods: dict, unit: str, pixel_size: float | None = None, title: str = "", window=None) -> None:
    """A reconstruction at a glance: answers in one grey window, and below them two samples, how sure the answer is and how wrong.

    The standard deviation and the error of the posterior mean share one scale, so that they can be compared. Without samples the errors of all
    answers stand below them, in one scale.

    Args:
      path: PNG file to write; appears whole or not at all.
      images: name -> `[h, w]` real: answers in the order to show, of a sampler `posterior_mean` and `posterior_std`, and `truth` where known.
      samples: `[n, h, w]`, posterior samples to show; empty without a sampler.
      methods: name of an answer -> its `psnr` [dB] and `ssim`, where the truth is known.
      unit: "HU" or "a.u.".
      pixel_size: [mm]; None for no scale bar.
      title: what the figure is of.
      window: (low, high) of the grey images; by default -1000 to 400 HU, or 0 to the 99.5th percentile.
    """
    images = {name: np.asarray(image) for name, image in images.items()}
    truth, std = images.pop("truth", None), images.pop("posterior_std", None)
    last = list(images.values())[-1]
    window = window or _window(last if truth is None else truth, unit)
    first = [] if truth is None else [_Panel(truth, "truth", "", window)]
    first += [_Panel(image, _long(name), _caption(methods.get(name, {})), window) for name, image in images.items()]
    if std is None:
        second = [] if truth is None else _errors(images, truth, unit)
    else:
        second = [_Panel(np.asarray(sample), f"posterior sample {i + 1}", "", window) for i, sample in enumerate(samples)]
        second += _spread(images["posterior_mean"], std, truth, unit)
    across = max(len(first), len(second))
    rows = [[None] * (across - len(row)) + row for row in (first, second) if row]
    _draw(path, rows, _scale(384, last.shape), unit, pixel_size, title)


def sheet(path, images, window=None, unit: str = "", title: str = "") -> None:
    """Images side by side in one grey window.

    Args:
      path: PNG file to write; appears whole or not at all.
      images: `[n, h, w]` real.
      window: (low, high); by default -1000 to 400 if the unit is HU, else 0 to the 99.5th percentile.
      unit: said on the colour bar.
      title: what the images are.
    """
    images = np.asarray(images)
    if images.ndim != 3 or len(images) == 0:
        raise ValueError(f"got images of shape {list(images.shape)}, [n, h, w] with at least one is needed")
    window = window or _window(images, unit)
    across = math.ceil(math.sqrt(len(images) * images.shape[1] / images.shape[2]))
    panels = [_Panel(image, "", "", window) for image in images]
    rows = [panels[i : i + across] for i in range(0, len(panels), across)]
    _draw(path, rows, _scale(max(1200 // across, 64), images.shape[1:]), unit, None, title)


def _spread(mean, std, truth, unit: str) -> list[_Panel]:
    """The standard deviation and, where the truth is known, the error of the mean, in one scale."""
    error = None if truth is None else np.abs(mean - truth)
    limits = (0.0, _upper(std if error is None else np.stack([std, error])))
    panels = [_Panel(std, "posterior std", f"mean {std.mean():.3g} {unit}", limits, "inferno")]
    if error is not None:
        panels.append(_Panel(error, "|posterior mean - truth|", f"mean {error.mean():.3g} {unit}", limits, "inferno"))
    return panels


def _errors(images: dict, truth, unit: str) -> list[_Panel]:
    """What each answer misses, in one scale."""
    errors = {name: np.abs(image - truth) for name, image in images.items()}
    limits = (0.0, _upper(np.stack(list(errors.values()))))
    return [_Panel(error, f"|{_long(name)} - truth|", f"mean {error.mean():.3g} {unit}", limits, "inferno") for name, error in errors.items()]


def _long(name: str) -> str:
    """The name of an answer, with room for it."""
    return _NAMES.get(name) or method_label(name)


def _window(image, unit: str) -> tuple[float, float]:
    """Grey limits; the window of HU shows lungs and soft tissue at once."""
    return (-1000.0, 400.0) if unit == "HU" else (0.0, _upper(image))


def _upper(image) -> float:
    """The 99.5th percentile of the finite values, and above 0."""
    finite = image[np.isfinite(image)]
    return float(np.percentile(finite, 99.5)) or 1.0 if finite.size else 1.0


def _caption(measures: dict) -> str:
    """PSNR and SSIM, where they are known."""
    words = [f"{measures['psnr']:.1f} dB"] if "psnr" in measures else []
    return "   ".join(words + ([f"SSIM {measures['ssim']:.3f}"] if "ssim" in measures else []))


def _scale(wanted: int, shape) -> float:
    """Screen pixels a pixel: a whole number, unless the image is far larger than the wanted size."""
    return max(1, wanted // max(shape)) if max(shape) <= 2 * wanted else wanted / max(shape)


def _draw(path, rows, scale, unit, pixel_size, title):
    """Lay out rows of panels, each run of rows with one scale beside a colour bar, and save."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shape = next(panel for panel in rows[0] if panel).image.shape
    height, width = (round(scale * length) for length in shape)
    named, captioned = (any(p and p[i] for row in rows for p in row) for i in (1, 2))
    above, below = _NAME * named, _CAPTION * captioned
    pitch_x, pitch_y = width + _GAP // (2 - named), above + height + below + _GAP // (2 - named)
    total_x = 2 * _MARGIN + len(rows[0]) * pitch_x + _BAR + _LABELS
    total_y = 2 * _MARGIN + _TITLE * bool(title) + len(rows) * pitch_y
    canvas = Figure(figsize=(total_x / _DPI, total_y / _DPI), dpi=_DPI, facecolor="black")
    FigureCanvasAgg(canvas)
    top = _MARGIN + _TITLE * bool(title)
    if title:
        _write(canvas, _MARGIN, _MARGIN + 8, title, 21, _INK)
    shown, first = {}, True
    for r, row in enumerate(rows):
        y = top + r * pitch_y + above
        for c, panel in enumerate(row):
            if panel is None:
                continue
            x = _MARGIN + c * pitch_x
            axes = _image(canvas, (x, y, width, height), panel)
            _write(canvas, x, y - 12, panel.name, 17, _INK)
            _write(canvas, x, y + height + 14, panel.caption, 15, _FAINT)
            if first and pixel_size and pixel_size > 0:
                _scale_bar(axes, panel.image.shape, pixel_size)
            first = False
        shown.setdefault((row[-1].limits, row[-1].colours), []).append(y)
    for (limits, colours), ys in shown.items():
        box = (_MARGIN + len(rows[0]) * pitch_x, ys[0], _BAR, ys[-1] + height - ys[0])
        _colour_bar(canvas, box, limits, colours, unit)
    with write_atomically(path) as temporary:
        canvas.savefig(temporary, format="png", facecolor="black")


def _axes(canvas, box):
    """Bare axes at (x, y, width, height) pixels from the top left."""
    x, y, width, height = box
    total_x, total_y = canvas.get_size_inches() * _DPI
    return canvas.add_axes((x / total_x, 1 - (y + height) / total_y, width / total_x, height / total_y))


def _write(canvas, x, y, text, size, colour):
    """Text that starts at x, its middle at y, in pixels from the top left."""
    total_x, total_y = canvas.get_size_inches() * _DPI
    canvas.text(x / total_x, 1 - y / total_y, text, color=colour, fontsize=size * 72 / _DPI, va="center", ha="left", parse_math=False)


def _image(canvas, box, panel: _Panel):
    """One picture."""
    axes = _axes(canvas, box)
    axes.imshow(panel.image, cmap=panel.colours, vmin=panel.limits[0], vmax=panel.limits[1], interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return axes


def _colour_bar(canvas, box, limits, colours, unit):
    """A colour bar with its unit on top."""
    axes = _axes(canvas, box)
    axes.imshow(np.linspace(1, 0, 256)[:, None], cmap=colours, aspect="auto", extent=(0, 1, *limits))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.tick_params(colors=_INK, labelsize=13 * 72 / _DPI, length=4)
    for spine in axes.spines.values():
        spine.set_color(_FAINT)
    if unit:
        _write(canvas, box[0], box[1] - 12, unit, 15, _INK)


def _scale_bar(axes, shape, pixel_size: float):
    """A bar of a round length [mm], about a quarter of the width, in the lower left corner."""
    from matplotlib.patheffects import withStroke

    target = 0.28 * shape[1] * pixel_size
    unit = 10.0 ** math.floor(math.log10(target))
    length = max(step * unit for step in (1, 2, 5) if step * unit <= target)
    left, low = 0.05 * shape[1], 0.945 * shape[0]
    outline = [withStroke(linewidth=4, foreground="black")]
    axes.plot([left, left + length / pixel_size], [low, low], color="white", linewidth=2, solid_capstyle="butt", path_effects=outline)
    words = f"{length:g} mm"
    axes.text(left, low - 0.02 * shape[0], words, color="white", fontsize=14 * 72 / _DPI, va="bottom", path_effects=outline)
    axes.set_xlim(-0.5, shape[1] - 0.5)
    axes.set_ylim(shape[0] - 0.5, -0.5)
