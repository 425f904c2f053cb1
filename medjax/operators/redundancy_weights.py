"""How much each ray of a diverging scan counts, where opposite views measure it twice."""

import jax.numpy as jnp

from medjax import checks

SCANS = ("full", "short", "offset")


def redundancy_weights(angles, fan_angles, scan: str = "full"):
    r"""Weights of the rays (beta, gamma), times the angle that the view stands for.

    The ray (beta, gamma) is the ray (beta + pi + 2 gamma, -gamma) the other way; the weights of both sum to 1. "full", a turn of 2 pi:
    1/2. "offset", a turn with a detector that reaches farther on one side, positive gamma say: with o the shorter side's fan angle

    .. math::
        w = \tfrac12 \left(1 + \sin\frac{\pi \gamma}{2 o}\right) \text{ for } |\gamma| \le o, \quad 1 \text{ beyond}

    "short", pi + 2 G from the first to the last view, G at least the largest fan angle: with b counted from the start and
    S(t) = sin^2(pi t / 4) for t in [0, 2], 1 above,

    .. math::
        w = S\left(\frac{b}{G - \gamma}\right) S\left(\frac{\pi + 2 G - b}{G + \gamma}\right)

    which for a larger G than needed uses all views (Silver). Views stand for half the gaps to their neighbours, round the circle unless
    the scan is short; of a short one the first and last view stand for half the mean gap beyond themselves.

    Args:
      angles: `[num_angles]` beta [rad], in any order and modulo 2 pi: a short scan starts behind their largest gap.
      fan_angles: `[num_detectors]` gamma [rad], increasing and equally spaced but for a flat detector's tangent.
      scan: "full", "short" or "offset".

    Returns:
      `[num_angles, num_detectors]` [rad].

    Raises:
      ValueError: for an unknown scan, a single view of a short scan, or an offset detector that does not see the isocentre.

    Reference:
      Parker (1982), Optimal short scan convolution reconstruction for fanbeam CT, https://doi.org/10.1118/1.595078
      Silver (2000), A method for including redundant data in computed tomography, Medical Physics 27(4), 773-774
      Wang (2002), X-ray micro-CT with a displaced detector array, https://doi.org/10.1118/1.1489043
    """
    if scan not in SCANS:
        raise ValueError(f"got scan {scan!r}, one of {SCANS} is needed")
    if scan == "short":
        if angles.shape[0] < 2:
            raise ValueError(f"got {angles.shape[0]} view, a short scan needs at least 2")
        return _parker(angles, fan_angles)
    weights = _half_fan(fan_angles) if scan == "offset" else jnp.full_like(fan_angles, 0.5)
    return view_gaps(angles, 2 * jnp.pi)[:, None].astype(fan_angles.dtype) * weights[None, :]


def _half_fan(gamma):
    """Wang's weights of one view, `[num_detectors]`."""
    if gamma.shape[0] < 2 or (checks.is_concrete(gamma) and not float(gamma[0]) < 0 < float(gamma[-1])):
        raise ValueError("got a detector that does not see the isocentre from both sides, an offset scan needs some overlap")
    first, last = -(1.5 * gamma[0] - 0.5 * gamma[1]), 1.5 * gamma[-1] - 0.5 * gamma[-2]  # the outer edges
    overlap, longer = jnp.minimum(first, last), jnp.where(last >= first, 1, -1)
    return (1 + longer * jnp.sin(jnp.pi / 2 * jnp.clip(gamma / overlap, -1, 1))) / 2


def _parker(angles, gamma):
    """Parker's weights with the gaps, `[num_angles, num_detectors]`."""
    angles = since_start(angles)
    order = jnp.argsort(angles)
    gaps = jnp.diff(angles[order])
    mean = jnp.mean(gaps)[None]
    stands_for = jnp.zeros_like(angles).at[order].set((jnp.concatenate([mean, gaps]) + jnp.concatenate([gaps, mean])) / 2)
    arc = jnp.max(angles) + mean[0]
    b = (angles + mean[0] / 2).astype(gamma.dtype)[:, None]
    spare = (arc.astype(gamma.dtype) - jnp.pi) / 2

    def rise(way, width):
        ratio = jnp.clip(way / jnp.maximum(width, 1e-6), 0, 2)
        return jnp.sin(jnp.pi / 4 * ratio) ** 2

    weights = rise(b, (spare - gamma)[None, :]) * rise(arc.astype(gamma.dtype) - b, (spare + gamma)[None, :])
    return weights * stands_for.astype(gamma.dtype)[:, None]


def since_start(angles):
    """`[num_angles]` [rad]: how far each view lies behind the first one, which is the one behind the largest gap of the turn."""
    folded = jnp.mod(angles, 2 * jnp.pi)
    ordered = jnp.sort(folded)
    gaps = ordered - jnp.roll(ordered, 1) + 2 * jnp.pi * (jnp.arange(ordered.shape[0]) == 0)
    return jnp.mod(folded - ordered[jnp.argmax(gaps)], 2 * jnp.pi)


def view_gaps(angles, period):
    """`[num_angles]` [rad]: half the gaps to both neighbours modulo a period.

    A gap of more than four mean ones is taken for a missing wedge and counts as the mean of the others.
    """
    num_angles = angles.shape[0]
    folded = jnp.mod(angles, period)
    order = jnp.argsort(folded)
    ordered = folded[order]
    gaps = jnp.diff(ordered, append=ordered[:1] + period)
    wedge = (gaps > 4 * period / num_angles) & (num_angles > 1)
    others = jnp.sum(jnp.where(wedge, 0, gaps)) / jnp.maximum(jnp.sum(~wedge), 1)
    gaps = jnp.where(wedge, others, gaps)
    return jnp.zeros_like(gaps).at[order].set((gaps + jnp.roll(gaps, 1)) / 2)
