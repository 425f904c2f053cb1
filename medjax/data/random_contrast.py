"""Images of a random contrast of anatomical labels."""

import functools

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

_KNOTS = 4


def random_contrast(
    rng: np.random.Generator, labels: np.ndarray, fine: int = 1, gap: float = 1.0, classes: tuple[tuple[int, ...], ...] = (),
    means: tuple[float, float] = (25.0, 225.0), deviations: tuple[float, float] = (5.0, 25.0), background: float = 0.0, bias: float = 0.5,
    gamma: float = 0.4, blur: tuple[float, float] = (0.5, 0.5), phase: float = 0.0,
) -> np.ndarray:  # fmt: skip
    r"""An image of labels by SynthSeg's generative model: Gaussian intensities, the blur of thick slices, a bias field and gamma.

    .. math::
        x = \Big( \frac{v - \min v}{\max v - \min v} \Big)^{e^\gamma}, \quad
        v = \max(0, e^{b} \, G_\sigma * (\mu_l + s_l n)), \quad n \sim N(0, 1), \quad b = \beta W c, \quad c \sim N(0, I)

    The blur of mu_l is that of each label's indicator times its mean, so it is the partial volume at edges. Four things differ from the paper's code:
    spatial deformation is left to `augment`; the blur comes first, as partial volumes do, so that the brightest pixel is 1; W are cubic splines, for
    linear ones have kinks; and air has no signal unless `background` says, nothing being clipped from above.

    Args:
      rng: what is drawn comes of it alone.
      labels: `[n, h, w]` whole numbers from 0, the background: slices one above the other, n odd, of which the middle one is imaged.
      fine: labels along a side of a pixel of the image; h and w are multiples.
      gap: from slice to slice [pixels of the image].
      classes: groups of labels that share their law; a label in none has its own.
      means: least and largest mu_l, uniform [of 255].
      deviations: least and largest s_l, uniform [of 255].
      background: share of the draws in which the background has a law as others have, 0.7 in the paper's code; else it is 0.
      bias: largest beta, which is uniform from 0; the field has 4 x 4 knots.
      gamma: standard deviation of the exponent's logarithm.
      blur: least and largest sigma, uniform [pixels of the image]; 0 takes the middle slice as it is.
      phase: standard deviation of a smooth phase of as many knots [rad], which a uniform one is added to; 0 for a real image.

    Returns:
      `[h / fine, w / fine]`, float32 in [0, 1], or complex64 of such magnitudes.

    Raises:
      ValueError: for labels of another shape, ranges that are not from low to high, negative numbers, and classes as `laws` refuses them.

    Reference:
      Billot et al. (2023), SynthSeg: segmentation of brain MRI scans of any contrast and resolution without retraining, Medical Image Analysis 86,
      https://doi.org/10.1016/j.media.2023.102789, as its code has it: `labels_to_image_model.py`, `model_inputs.py` and lab2im's `layers.py`.
    """
    if labels.ndim != 3 or not len(labels) % 2 or fine < 1 or any(side % fine or not side for side in labels.shape[1:]):
        raise ValueError(f"got labels {list(labels.shape)} and fine {fine}; an odd number of slices and sides that are multiples are needed")
    ranges = {"means": means, "deviations": deviations, "blur": blur}
    for name, (low, high) in ranges.items():
        if not 0 <= low <= high < np.inf:
            raise ValueError(f"{name} is {low} to {high}; numbers from 0, the first no larger than the second, are needed")
    for name, (value, most) in {"bias": (bias, 10), "gamma": (gamma, 10), "phase": (phase, 100), "background": (background, 1)}.items():
        if not 0 <= value <= most:
            raise ValueError(f"{name} is {value}; a number from 0 to {most} is needed")
    mean, deviation = laws(rng, int(labels.max()) + 1, classes, means, deviations, background).astype(np.float32).T
    v = _blurred(mean[labels] + deviation[labels] * rng.standard_normal(labels.shape, np.float32), rng.uniform(*blur), fine, gap)
    h, w = (side // fine for side in labels.shape[1:])
    v = v.reshape(h, fine, w, fine).mean((1, 3))
    v = np.maximum(v * np.exp(np.float32(rng.uniform(0, bias)) * smooth(rng, h, w)), 0)
    low, high = v.min(), v.max()
    x = ((v - low) / max(high - low, np.finfo(np.float32).tiny)) ** np.float32(np.exp(gamma * rng.standard_normal()))
    if not phase:
        return x
    angle = np.float32(phase) * smooth(rng, h, w) + np.float32(rng.uniform(0, 2 * np.pi))
    return x * np.exp(np.complex64(1j) * angle)


def laws(rng, num: int, classes=(), means=(25.0, 225.0), deviations=(5.0, 25.0), background=0.0) -> np.ndarray:
    """Mean and standard deviation `[num, 2]` of the labels below `num`, drawn as `random_contrast` says; those of a label do not depend on `num`.

    Raises:
      ValueError: where a label is in two classes, or the background in one.
    """
    members = [label for group in classes for label in group]
    if len(set(members)) < len(members) or 0 in members:
        raise ValueError("classes name a label twice or 0, the background; groups of other labels without a common one are needed")
    empty = rng.uniform() >= background
    found = rng.uniform(*np.transpose([means, deviations]), (max([num, *(label + 1 for label in members)]), 2))
    for group in classes:
        found[list(group)] = found[min(group)]
    if empty:
        found[0] = 0
    return found[:num]


def smooth(rng, h: int, w: int) -> np.ndarray:
    """A field `[h, w]` float32 through 4 x 4 normal numbers at equal distances, first and last of them in the corners."""
    down, right = _splines(h), _splines(w)
    return down @ rng.standard_normal((_KNOTS, _KNOTS), np.float32) @ right.T


@functools.lru_cache(maxsize=8)
def _splines(length: int) -> np.ndarray:
    """`[length, knots]`, natural cubic splines that are 1 at a knot and 0 at the others."""
    knots = np.linspace(0, 1, _KNOTS)
    return CubicSpline(knots, np.eye(_KNOTS), bc_type="natural")(np.linspace(0, 1, length)).astype(np.float32)


def _blurred(v, sigma: float, fine: int, gap: float):
    """The middle slice of `[n, h, w]` with as much of its neighbours as a Gaussian of `sigma` pixels takes."""
    middle = len(v) // 2
    if sigma < 1e-3:
        return v[middle]
    weights = np.exp(-(((np.arange(len(v)) - middle) * gap / sigma) ** 2) / 2)
    x = np.tensordot((weights / weights.sum()).astype(np.float32), v, 1)
    for axis in (0, 1):
        x = gaussian_filter1d(x, sigma * fine, axis, mode="nearest", truncate=3.0)
    return x
