"""The unified predictor-corrector, the multistep sampler of order 3."""

import math

import jax.numpy as jnp

from medjax import linalg
from medjax.typing import Kernel


def unipc(order: int = 2, variant: str = "bh2") -> Kernel:
    r"""UniPC-p with data prediction: D(x, sigma) first corrects x at sigma, then predicts x at sigma', so one call a step does both.

    .. math::
        x' = e^{-h} x + (1 - e^{-h}) D_0 + B(h) \sum_k \frac{\rho_k}{r_k} (D_k - D_0), \quad
        \sum_k \rho_k r_k^{j - 1} = \frac{j! \, h \varphi_{j + 1}(-h)}{B(h)}, \; r_k = \frac{\ln(\sigma_0 / \sigma_k)}{h}

    with h = ln(sigma_0 / sigma'), phi_1(z) = (e^z - 1) / z, phi_{k+1}(z) = (phi_k(z) - 1 / k!) / z, and rho = 1/2 where k takes one value. The
    predictor sums over the p - 1 levels before sigma_0 = sigma; the corrector takes the step from the level before to sigma once more, with D at
    sigma as one term more. The first steps are of the order that the past permits. The step to sigma' = 0 gives x' = D.

    Args:
      order: p, 2 or 3. The path converges with order 3 for both (p + 1 = 4 would need exact first steps), with a smaller error for p = 3.
      variant: "bh1" for B = h, "bh2" for B = 1 - e^{-h}.

    Returns:
      A `Kernel` whose state holds the p last denoised images, their levels and the last corrected x. Nothing else may move x between its steps.

    Raises:
      ValueError: for another order or variant.

    Reference:
      Zhao et al. (2023), algorithms 1 and 2 with data prediction, https://arxiv.org/abs/2302.04867. The authors lower the order of the last steps;
      here that is only the one to sigma' = 0, for a kernel does not know how many follow.
    """
    if order not in (2, 3) or variant not in ("bh1", "bh2"):
        raise ValueError(f"unipc needs order 2 or 3 and variant bh1 or bh2, got {order} and {variant!r}")

    def init(x):
        levels = jnp.ones(order, linalg.real_dtype(x))
        return jnp.zeros((), int), x, levels, jnp.stack([x] * order)  # not zeros: under `shard_map` the state varies over devices as x does

    def step(key, x, state, sigma, sigma_next, denoise):
        count, start, levels, past = state
        denoised, base = denoise(x, sigma), jnp.where(count > 0, levels[0], jnp.e * sigma)
        here = jnp.asarray(sigma, levels.dtype)[None]
        terms, at = jnp.concatenate([denoised[None], past[1:]]), jnp.concatenate([here, levels[1:]])
        corrected = _advance(start, base, sigma, past[0], terms, at, jnp.minimum(count, order), variant)
        x = jnp.where(count > 0, corrected, x)
        levels, past = jnp.concatenate([here, levels[:-1]]), jnp.concatenate([denoised[None], past[:-1]])
        end = jnp.where(sigma_next > 0, sigma_next, sigma / jnp.e)
        predicted = _advance(x, sigma, end, denoised, past[1:], levels[1:], jnp.minimum(count, order - 1), variant)
        return jnp.where(sigma_next > 0, predicted, denoised), (count + 1, x, levels, past)

    return Kernel(init, step)


def _advance(x, sigma, sigma_next, denoised, terms, levels, num, variant):
    """x' from x at sigma, D_0 = denoised and the first `num` of `terms`, denoised images at `levels`."""
    h, index = jnp.log(sigma / sigma_next), jnp.arange(len(levels))
    held = index < num
    ratios = jnp.where(held, jnp.log(sigma / jnp.where(held, levels, sigma)) / h, -2.0 - index)
    scale = h if variant == "bh1" else -jnp.expm1(-h)
    right = jnp.stack([math.factorial(j + 1) * h * phi / scale for j, phi in enumerate(_phis(-h, len(levels) + 1))])
    powers = jnp.stack([ratios**j for j in range(len(levels))])
    # without a term its column and the last condition go, and its weight is 0
    system = jnp.where(held[:, None] & held[None], powers, jnp.eye(len(levels), dtype=powers.dtype))
    rho = jnp.linalg.solve(system, jnp.where(held, right, 0))
    rho = jnp.where(num == 1, jnp.where(index == 0, 0.5, 0.0), rho).astype(ratios.dtype)
    change = jnp.tensordot(rho / ratios, terms - denoised[None], 1)
    return jnp.exp(-h) * x - jnp.expm1(-h) * denoised + scale * change


def _phis(z, last):
    """phi_2 to phi_last of z: downwards from a series where |z| < 1, for upwards digits are lost there; upwards elsewhere."""
    small = jnp.abs(z) < 1
    near, far = jnp.where(small, z, 0), jnp.where(small, 1, z)
    series, upwards = [jnp.zeros_like(z)], [jnp.expm1(far) / far]
    for k in range(18 + last, last - 1, -1):
        series[0] = near * series[0] + 1 / math.factorial(k)
    for k in range(1, last):
        upwards.append((upwards[-1] - 1 / math.factorial(k)) / far)
        series.insert(0, near * series[0] + 1 / math.factorial(last - k))
    return [jnp.where(small, a, b) for a, b in zip(series[1:], upwards[1:], strict=True)]
