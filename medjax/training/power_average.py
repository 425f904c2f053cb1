"""Averages of weights by a power of time, whose length may be chosen after training."""

import argparse
import sys
from pathlib import Path

import jax
import numpy as np

from medjax.training.weights import load_metadata, load_tree, save_weights


def exponent(width: float) -> float:
    r"""The power of time whose profile has a relative width; `train_step` keeps such averages.

    .. math::
        \bar\theta_t = \beta \bar\theta_{t - 1} + (1 - \beta) \theta_t, \; \beta = (1 - 1 / t)^{\gamma + 1}, \quad
        \sigma_{rel} = (\gamma + 1)^{1/2} (\gamma + 2)^{-1} (\gamma + 3)^{-1/2}

    Args:
      width: sigma_rel, the standard deviation of the profile over its length, above 0 and below 0.289; 0.05 and 0.10 are usual.

    Returns:
      gamma, above 0.

    Raises:
      ValueError: for another width.

    Reference:
      Karras et al. (2024), Analyzing and improving the training dynamics of diffusion models, eq. 2 and 123, and algorithm 2 for the power,
      https://arxiv.org/abs/2312.02696
    """
    if not 0 < width < 12**-0.5:
        raise ValueError(f"the width of an average is {width}; above 0 and below {12**-0.5:.3f} is needed")
    # (g + 1) = s^2 (g + 2)^2 (g + 3), a cubic with one root above 0
    roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
    return float(np.max(roots[np.abs(roots.imag) < 1e-9].real))


def combination(steps, gammas, step: float, gamma: float) -> np.ndarray:
    r"""Shares of the snapshots that make another average, the nearest to it in least squares of their profiles, divided by their sum.

    .. math::
        p_\gamma(t; T) = \frac{\gamma + 1}{T^{\gamma + 1}} t^\gamma, \; t \le T, \quad
        \min_c \Big\| \sum_i c_i p_{\gamma_i}(\cdot; T_i) - p_\gamma(\cdot; T) \Big\|^2

    Args:
      steps: T_i `[n]` of the snapshots.
      gammas: of them `[n]`.
      step: T of the average that is asked for, at most the last snapshot's.
      gamma: of it.

    Returns:
      c `[n]`, of sum 1, so that weights which did not move in training are those of the average.

    Reference:
      Karras et al. (2024), eq. 121 and 141, algorithm 3, which has no division: c of three snapshots may then add up to 0.75, and shrink all
      weights by as much. Their phema.py divides, as is done here.
    """
    steps, gammas = np.asarray(steps, float), np.asarray(gammas, float)
    found = products(steps[:, None], gammas[:, None], steps[None], gammas[None])
    shares = np.linalg.lstsq(found, products(steps, gammas, step, gamma), rcond=1e-12)[0]
    return shares / shares.sum()


def products(steps, gammas, others, other_gammas):
    r"""Inner products of profiles, as arrays that broadcast.

    .. math::
        \int p_a p_b \, dt = \frac{(\gamma_a + 1) (\gamma_b + 1)}{\gamma_a + \gamma_b + 1} \,
        \frac{m^{\gamma_a + \gamma_b + 1}}{T_a^{\gamma_a + 1} T_b^{\gamma_b + 1}}, \quad m = \min(T_a, T_b)

    Reference:
      Karras et al. (2024), eq. 150; powers are taken of ratios of times, which overflow no float, as in eq. 151.
    """
    least = np.minimum(steps, others)
    shares = (least / steps) ** gammas * (least / others) ** other_gammas * least / (steps * others)
    return (gammas + 1) * (other_gammas + 1) / (gammas + other_gammas + 1) * shares


def save_snapshots(folder, step: int, averages, widths) -> None:
    """Write the averages of a step, one file a width; the folder is made where it is missing."""
    Path(folder).mkdir(exist_ok=True)
    for width, weights in zip(widths, averages, strict=True):
        save_weights(Path(folder) / f"{step:07d}-{width}.safetensors", weights, {"step": str(step), "width": str(width)})


def averaged(folder, width: float, step: int = 0):
    """The weights averaged with a width that was not asked for before, of the snapshots of a training.

    Args:
      folder: the output of `train.py`, whose `Train.ema_widths` named the widths to keep, two of them at best.
      width: sigma_rel.
      step: at which the average ends; 0 for the last snapshot.

    Returns:
      `(weights, step)`.

    Raises:
      ValueError: where there are no snapshots up to that step, or the width is out of range.
    """
    gamma, places = exponent(width), []
    for path in sorted((Path(folder) / "snapshots").glob("[!.]*.safetensors")):
        told = load_metadata(path)
        if not {"step", "width"} <= told.keys():
            raise ValueError(f"{path}: tells no step and width; a snapshot of train.py is needed")
        places.append((int(told["step"]), exponent(float(told["width"])), path))
    step = step or max((place[0] for place in places), default=0)
    places = [place for place in places if place[0] <= step]
    if not places or max(place[0] for place in places) != step:
        raise ValueError(f"{folder}: no snapshots of step {step or 1}; a training with ema_widths, and one of its snapshots' steps, are needed")
    shares, total = combination([p[0] for p in places], [p[1] for p in places], step, gamma), None
    for share, (*_, path) in zip(shares, places, strict=True):  # one at a time in memory
        scaled = jax.tree.map(lambda leaf, share=share: share * leaf.astype(np.float64), load_tree(path))
        total = scaled if total is None else jax.tree.map(np.add, total, scaled)
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), total), step


def main(arguments=None) -> int:
    """`python -m medjax.training.power_average FOLDER --width W [--step N] [--output FILE]`; 2 with one line on bad input."""
    parser = argparse.ArgumentParser(prog="power_average", description="Average the weights of a training with a width chosen afterwards.")
    parser.add_argument("folder", help="output of train.py")
    parser.add_argument("--width", type=float, required=True, help="sigma_rel")
    parser.add_argument("--step", type=int, default=0, help="the last step to average; that of the last snapshot")
    parser.add_argument("--output", default="", help="FOLDER/weights-WIDTH.safetensors")
    options = parser.parse_args(arguments)
    try:
        weights, step = averaged(options.folder, options.width, options.step)
        path = Path(options.output or Path(options.folder) / f"weights-{options.width}.safetensors")
        told = load_metadata(Path(options.folder) / "weights.safetensors")
        save_weights(path, weights, told | {"step": str(step), "width": str(options.width)})
    except (ValueError, OSError) as error:
        print(f"power_average: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"weights: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
