"""The Bloch equation."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from medjax.physics.larmor import gamma_bar

_ORDER = 11  # of the exponential series of a step of norm at most 1/4: its rest is 1e-16
_MOST_DOUBLINGS = 24  # a step may last 4e6 of its relaxation times
_FAST = 16.0  # [rad], beyond which a step that relaxes little is taken by its eigenvalues: doublings would double the rounding
_NEWTON = 5  # steps to the real eigenvalue, from an error below 4e-3


def bloch(b1, gradients, dt, position, off_resonance, t1, t2, initial=None, equilibrium=1.0, nucleus="1H", record=False):
    r"""Magnetisation of one spin through a sequence of pulses and gradients, in the frame that turns at the transmitter's frequency.

    .. math::
        \frac{dM}{dt} = \gamma M \times B - \left(\frac{M_x}{T_2}, \frac{M_y}{T_2}, \frac{M_z - M_0}{T_1}\right), \quad
        B = \left(\Re B_1, \Im B_1, G \cdot r + 2 \pi \Delta f / \gamma\right)

    The field is constant in each step, and the step exact: the exponential of the 3 x 3 matrix is a polynomial of degree two in it, found by the
    power series modulo the characteristic polynomial at 2^-s of the step and squared s times, or from the eigenvalues where a step makes several
    turns. So a pulse may be one long step, and so may a delay.
    Spins turn clockwise: :math:`M_x + i M_y \propto e^{-i (\gamma G \cdot r + 2 \pi \Delta f) t}`, and a pulse along +x tips M from +z to +y.

    Args:
      b1: `[num_steps]` [uT], real or complex.
      gradients: G `[num_steps, 3]` [mT/m].
      dt: length of the steps [ms], scalar or `[num_steps]`.
      position: r `[3]` [mm].
      off_resonance: Delta f [Hz], scalar.
      t1: > 0 [ms], scalar; may be infinite.
      t2: > 0 [ms], scalar; may be infinite.
      initial: M at the start `[3]`; (0, 0, M_0) if None.
      equilibrium: M_0, scalar.
      nucleus: a name of `larmor.GAMMA_BAR`.
      record: True to return M after each step (static).

    Returns:
      M `[3]` at the end, or `[num_steps, 3]`. `vmap` over spins; differentiable in every argument.

    Raises:
      ValueError: when the shapes do not fit, or a known t1 or t2 is not positive.

    Reference:
      Bloch (1946), https://doi.org/10.1103/PhysRev.70.460
    """
    if any(not isinstance(t, Tracer) and not np.all(np.asarray(t) > 0) for t in (t1, t2)):
        raise ValueError(f"bloch needs t1 > 0 and t2 > 0 [ms], got {t1} and {t2}")
    b1, gradients = jnp.asarray(b1), jnp.asarray(gradients)
    dtype = jnp.result_type(jnp.real(b1), jnp.float32)
    position, off_resonance, t1, t2, equilibrium = (jnp.asarray(a, dtype) for a in (position, off_resonance, t1, t2, equilibrium))
    dt = jnp.asarray(dt, dtype)
    if b1.ndim != 1 or gradients.shape != (b1.size, 3) or position.shape != (3,) or dt.shape not in ((), b1.shape):
        shapes = [list(a.shape) for a in (b1, gradients, dt, position)]
        raise ValueError(f"bloch needs b1 [num_steps], gradients [num_steps, 3], dt [] or [num_steps] and position [3], got {shapes}")
    scalars = {"off_resonance": off_resonance, "t1": t1, "t2": t2, "equilibrium": equilibrium}
    if any(a.ndim for a in scalars.values()):
        raise ValueError(f"bloch needs scalars, vmap over spins, got {', '.join(f'{name} {list(a.shape)}' for name, a in scalars.items())}")
    if initial is not None and jnp.shape(initial) != (3,):
        raise ValueError(f"bloch needs an initial magnetisation [3], got {list(jnp.shape(initial))}")
    start = jnp.stack([0 * equilibrium, 0 * equilibrium, equilibrium]) if initial is None else jnp.asarray(initial, dtype)
    turn = 2e-3 * jnp.pi * gamma_bar(nucleus)  # [rad/ms/uT]; gradient [mT/m] times place [mm] is in uT
    along = turn * (gradients.astype(dtype) @ position) + 2e-3 * jnp.pi * off_resonance
    field = (turn * jnp.real(b1).astype(dtype), turn * jnp.imag(b1).astype(dtype), along)

    def step(magnetisation, now):
        moved = _step(magnetisation, now, 1 / t1, 1 / t2, equilibrium)
        return moved, (jnp.stack(moved) if record else None)

    last, steps = lax.scan(step, (start[0], start[1], start[2]), (*field, jnp.broadcast_to(dt, b1.shape)))
    return steps if record else jnp.stack(last)


def _step(m, now, r1, r2, equilibrium):
    """exp(K dt) m + (K dt)^-1 (exp(K dt) - 1) b dt for K m = m x w - R m, b = (0, 0, r1 M_0)."""
    wx, wy, wz, dt = now
    x, y, z, a, b = entries = dt * wx, dt * wy, dt * wz, dt * r2, dt * r1
    fast = x * x + y * y + z * z > jnp.maximum(_FAST, 4 * (a + b)) ** 2
    by_series = _exponential(*(jnp.where(fast, 0, entry) for entry in entries))
    by_eigenvalues = _from_eigenvalues(*(jnp.where(fast, entry, safe) for entry, safe in zip(entries, (0, 0, _FAST, 0, 0), strict=True)))
    whole, mean = jax.tree.map(lambda u, v: jnp.where(fast, u, v), by_eigenvalues, by_series)

    def matrix(v):
        return v[1] * z - v[2] * y - a * v[0], v[2] * x - v[0] * z - a * v[1], v[0] * y - v[1] * x - b * v[2]

    def polynomial(c, v):
        once = matrix(v)
        twice = matrix(once)
        return tuple(c[0] * v[i] + c[1] * once[i] + c[2] * twice[i] for i in range(3))

    decayed = polynomial(whole, m)
    regrown = polynomial(mean, (jnp.zeros_like(dt), jnp.zeros_like(dt), dt * r1 * equilibrium))
    return tuple(u + v for u, v in zip(decayed, regrown, strict=True))


def _from_eigenvalues(x, y, z, a, b):
    """What `_exponential` gives, by interpolation at the eigenvalues: one real, and a conjugate pair far from it."""
    length = jnp.sqrt(x * x + y * y + z * z)
    excess, share = (a - b) / length, (z / length) ** 2
    root = excess * share  # X is length times (a rotation + excess z z^T) - a: the real eigenvalue of the bracket
    for _ in range(_NEWTON):
        root = root - (((root - excess) * root + 1) * root - excess * share) / ((3 * root - 2 * excess) * root + 1)
    half = (excess - root) / 2
    real, centre, turn = length * root - a, length * half - a, length * jnp.sqrt(1 - 2 * root * half - half * half)
    pair = lax.complex(centre, turn)
    small = jnp.abs(real) < 1e-3
    away = jnp.where(small, 1, real)
    near = 1 + real / 2 * (1 + real / 3 * (1 + real / 4 * (1 + real / 5)))

    def interpolate(at_real, at_pair):
        quotient = (at_pair - at_real) / (pair - real)
        slope, bend = jnp.real(quotient), jnp.imag(quotient) / turn
        return at_real - real * (slope - bend * centre), slope - bend * (real + centre), bend

    turned = jnp.exp(pair)
    return interpolate(jnp.exp(real), turned), interpolate(jnp.where(small, near, jnp.expm1(away) / away), (turned - 1) / pair)


def _exponential(x, y, z, a, b):
    """Coefficients c of exp(X) and (exp(X) - 1) / X as polynomials c0 + c1 X + c2 X^2, by halving X and doubling the result."""
    norm = jnp.abs(x) + jnp.abs(y) + jnp.abs(z) + a + b
    doublings = jnp.clip(jnp.ceil(jnp.log2(lax.stop_gradient(norm) + 1e-30)) + 2, 0, _MOST_DOUBLINGS)
    h = jnp.exp2(-doublings)
    x, y, z, a, b = h * x, h * y, h * z, h * a, h * b
    # of X / 2^s, whose third power is p X^2 + q X + r
    p, q, r = -2 * a - b, -(a * a + 2 * a * b + x * x + y * y + z * z), -(a * a * b + a * (x * x + y * y) + b * z * z)
    one = jnp.ones_like(p)
    power = (one, 0 * one, 0 * one)
    exponential = mean = power
    factorial = 1.0
    for k in range(1, _ORDER + 1):
        power = (power[2] * r, power[0] + power[2] * q, power[1] + power[2] * p)
        factorial *= k
        exponential = tuple(c + d / factorial for c, d in zip(exponential, power, strict=True))
        mean = tuple(c + d / (factorial * (k + 1)) for c, d in zip(mean, power, strict=True))

    def times(u, v):
        third = u[1] * v[2] + u[2] * v[1] + u[2] * v[2] * p  # what X^3 counts, that of X^4 = X X^3 included
        fourth = u[2] * v[2]
        return (
            u[0] * v[0] + third * r,
            u[0] * v[1] + u[1] * v[0] + third * q + fourth * r,
            u[0] * v[2] + u[1] * v[1] + u[2] * v[0] + third * p + fourth * q,
        )

    def double(i, both):
        e, f = both
        doubled = times(e, e), tuple(c / 2 for c in times(f, (e[0] + 1, e[1], e[2])))
        return tuple(tuple(jnp.where(i < doublings, new, old) for new, old in zip(*pair, strict=True)) for pair in zip(doubled, both, strict=True))

    return tuple((c[0], c[1] * h, c[2] * h * h) for c in lax.fori_loop(0, _MOST_DOUBLINGS, double, (exponential, mean)))
