"""The Bloch equation."""

import jax.numpy as jnp
from jax import lax

from medjax.physics.larmor import gamma_bar

_ORDER = 11  # of the exponential series of a step of norm at most 1/4: its rest is 1e-16
_MOST_DOUBLINGS = 24  # a step may turn a spin by 4e6 rad


def bloch(b1, gradients, dt, position, off_resonance, t1, t2, initial=None, equilibrium=1.0, nucleus="1H", record=False):
    r"""Magnetisation of one spin through a sequence of pulses and gradients, in the frame that turns at the transmitter's frequency.

    .. math::
        \frac{dM}{dt} = \gamma M \times B - \left(\frac{M_x}{T_2}, \frac{M_y}{T_2}, \frac{M_z - M_0}{T_1}\right), \quad
        B = \left(\Re B_1, \Im B_1, G \cdot r + 2 \pi \Delta f / \gamma\right)

    The field is constant in each step, and the step exact: the exponential of the 3 x 3 matrix is a polynomial of degree two in it, found by the
    power series modulo the characteristic polynomial at 2^-s of the step and squared s times. So a pulse may be one long step, and so may a delay.
    Spins turn clockwise: :math:`M_x + i M_y \propto e^{-i (\gamma G \cdot r + 2 \pi \Delta f) t}`, and a pulse along +x tips M from +z to +y.

    Args:
      b1: `[num_steps]` [uT], real or complex.
      gradients: G `[num_steps, 3]` [mT/m].
      dt: length of the steps [ms], scalar or `[num_steps]`.
      position: r `[3]` [mm].
      off_resonance: Delta f [Hz], scalar.
      t1: [ms], scalar; may be infinite.
      t2: [ms], scalar; may be infinite.
      initial: M at the start `[3]`; (0, 0, M_0) if None.
      equilibrium: M_0, scalar.
      nucleus: a name of `larmor.GAMMA_BAR`.
      record: True to return M after each step (static).

    Returns:
      M `[3]` at the end, or `[num_steps, 3]`. `vmap` over spins; differentiable in every argument.

    Raises:
      ValueError: when the shapes do not fit.

    Reference:
      Bloch (1946), https://doi.org/10.1103/PhysRev.70.460
    """
    b1, gradients = jnp.asarray(b1), jnp.asarray(gradients)
    dtype = jnp.result_type(jnp.real(b1), jnp.float32)
    position, off_resonance, t1, t2, equilibrium = (jnp.asarray(a, dtype) for a in (position, off_resonance, t1, t2, equilibrium))
    dt = jnp.asarray(dt, dtype)
    if b1.ndim != 1 or gradients.shape != (b1.size, 3) or position.shape != (3,) or dt.shape not in ((), b1.shape):
        shapes = [list(a.shape) for a in (b1, gradients, dt, position)]
        raise ValueError(f"bloch needs b1 [num_steps], gradients [num_steps, 3], dt [] or [num_steps] and position [3], got {shapes}")
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
    norm = dt * (jnp.abs(wx) + jnp.abs(wy) + jnp.abs(wz) + r1 + r2)
    doublings = jnp.clip(jnp.ceil(jnp.log2(lax.stop_gradient(norm) + 1e-30)) + 2, 0, _MOST_DOUBLINGS)
    h = dt * jnp.exp2(-doublings)
    x, y, z, a, b = h * wx, h * wy, h * wz, h * r2, h * r1
    cubic = (-2 * a - b, -(a * a + 2 * a * b + x * x + y * y + z * z), -(a * a * b + a * (x * x + y * y) + b * z * z))
    whole, mean = _exponential(cubic, doublings)

    def matrix(v):
        return v[1] * z - v[2] * y - a * v[0], v[2] * x - v[0] * z - a * v[1], v[0] * y - v[1] * x - b * v[2]

    def polynomial(c, v):
        once = matrix(v)
        twice = matrix(once)
        return tuple(c[0] * v[i] + c[1] * once[i] + c[2] * twice[i] for i in range(3))

    decayed = polynomial(whole, m)
    regrown = polynomial(mean, (jnp.zeros_like(dt), jnp.zeros_like(dt), dt * r1 * equilibrium))
    return tuple(u + v for u, v in zip(decayed, regrown, strict=True))


def _exponential(cubic, doublings):
    """Coefficients of exp(2^s X) and (exp(2^s X) - 1) / (2^s X) as polynomials c0 + c1 X + c2 X^2, where X^3 = cubic . (X^2, X, 1)."""
    p, q, r = cubic
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

    return lax.fori_loop(0, _MOST_DOUBLINGS, double, (exponential, mean))
