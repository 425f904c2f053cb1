"""Total variation and its prox."""

import jax.numpy as jnp
from jax import lax

from medjax import checks, linalg
from medjax.functionals.length import length, project_lengths
from medjax.functionals.symmetric_jacobian import symmetric_jacobian
from medjax.functionals.until_gap import until_gap
from medjax.typing import Functional

KINDS = ("isotropic", "anisotropic")
_CHECK_EVERY = 10  # steps between two looks at the duality gap, which costs as much as a step


def total_variation(
    strength, num_steps: int = 100, nonnegative: bool = False, kind: str = "isotropic", num_axes: int = 2, tolerance: float | None = None
) -> Functional:
    r"""strength times the total variation of `[h, w]` or `[h, w, c]`, channels joined under one root; of volumes with three axes.

    .. math::
        \lambda \sum_n \sqrt{\sum_{a, c} |x_{n + e_a, c} - x_{n c}|^2} \text{ or, anisotropic, }
        \lambda \sum_{n, a} \sqrt{\sum_c |x_{n + e_a, c} - x_{n c}|^2}

    with differences zero across the border. The prox has no closed form: fast gradient projection on its dual, whose value falls to
    the optimum at a rate of 1 / num_steps^2.

    Args:
      strength: lambda >= 0, a scalar.
      num_steps: steps of the prox; with a tolerance the most.
      nonnegative: adds the constraint x >= 0, also to the prox.
      kind: "isotropic" or "anisotropic".
      num_axes: 1 to 3, of the axes that are differenced, the first ones: 3 for `[d, h, w]` or `[d, h, w, c]`.
      tolerance: if given, the prox stops where the duality gap proves ||x - prox|| <= tolerance ||v||, which rounding lets it prove down to about
        3e-4 in single and 1e-8 in double precision. Reverse mode then takes no memory for the steps, as in `symmetric_jacobian`.

    Returns:
      A `Functional` of real or complex x. `value` is infinite for negative pixels under `nonnegative`.

    Raises:
      ValueError: for a strength below 0 or NaN, an unknown kind, a tolerance that is not positive, no steps, or axes other than 1 to 3.

    Reference:
      Beck & Teboulle (2009), Fast gradient-based algorithms for constrained total variation image denoising and deblurring
      problems, algorithm FGP, https://doi.org/10.1109/TIP.2009.2028250
    """
    checks.nonnegative(strength, "strength of total_variation")
    checks.positive(1.0 if tolerance is None else tolerance, "tolerance of total_variation")
    checks.positive(num_steps, "num_steps of total_variation")
    if num_axes not in (1, 2, 3):
        raise ValueError(f"num_axes of total_variation is {num_axes}, 1, 2 or 3 is needed")
    if kind not in KINDS:
        raise ValueError(f"kind of total_variation is {kind!r}, one of {', '.join(KINDS)} is needed")

    def joined(p):
        """The axes of p that share a root."""
        return (*((0,) if kind == "isotropic" else ()), *range(num_axes + 1, p.ndim))

    def total(x):
        differences = linalg.difference(x, num_axes)
        return jnp.sum(length(differences, joined(differences)))

    def value(x):
        weighted = jnp.asarray(strength, linalg.real_dtype(x)) * total(x)
        return jnp.where(jnp.min(x) < 0, jnp.inf, weighted) if nonnegative else weighted

    def run(v, radius):
        def primal(p):
            x = v - linalg.difference_adjoint(p)
            return jnp.maximum(x, 0) if nonnegative else x

        def step(_, carry):
            p, r, t = carry
            p_next = project_lengths(r + linalg.difference(primal(r), num_axes) / (4 * num_axes), radius, joined(p))  # which bounds the squared norm
            t_next = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
            momentum = (t - 1) / t_next
            if tolerance is not None:  # the number of steps is free: begin anew where the momentum points uphill
                uphill = linalg.vdot(r - p_next, p_next - p) > 0
                t_next, momentum = jnp.where(uphill, 1, t_next), jnp.where(uphill, 0, momentum)
            return p_next, p_next + momentum * (p_next - p), t_next

        def gap(carry):
            x = primal(carry[0])  # the gap of primal and dual is at least ||x - prox||^2 / 2
            return radius * total(x) - linalg.vdot(linalg.difference(x, num_axes), carry[0])

        p = jnp.zeros((num_axes, *v.shape), v.dtype)
        start = (p, p, jnp.ones((), v.real.dtype))
        if tolerance is None:
            return primal(lax.fori_loop(0, num_steps, step, start)[0])
        return primal(until_gap(step, start, gap, tolerance**2 / 2 * linalg.vdot(v, v), num_steps, _CHECK_EVERY)[0])

    def prox(v, tau):
        radius = jnp.asarray(strength * tau, linalg.real_dtype(v))
        return run(v, radius) if tolerance is None else symmetric_jacobian(run, v, radius)

    return Functional(value, prox)
