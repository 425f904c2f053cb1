"""Real images of known phase."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from medjax.typing import Leaf


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PhaseConstrained:
    """e^{i phi} x; leaf `phase` of the shape of x."""

    phase: Leaf

    def __call__(self, x):
        """Real x to complex e^{i phi} x."""
        if x.shape != self.phase.shape or jnp.iscomplexobj(x):
            raise ValueError(f"phase_constrained takes real {list(self.phase.shape)}, got {list(x.shape)} of {x.dtype}")
        return self._turn(x.dtype) * x

    def adjoint(self, y):
        """Complex y to Re(e^{-i phi} y)."""
        if y.shape != self.phase.shape:
            raise ValueError(f"data are {list(y.shape)}, the phase says {list(self.phase.shape)}")
        return jnp.real(jnp.conj(self._turn(y.real.dtype)) * y)

    def _turn(self, dtype):
        return jnp.exp(1j * self.phase.astype(dtype))


def phase_constrained(phase):
    r"""The complex image of a real one whose phase is known, so that half of the unknowns are left.

    .. math:: (P x)_n = e^{i \phi_n} x_n, \quad P^T y = \mathrm{Re}(e^{-i \phi} y)

    `compose(sense(maps, mask), phase_constrained(phase))` is a phase-constrained scan: data of one half of k-space tell of the other, and signs
    remain free, unlike with a magnitude. It is linear over the reals and adjoint in the real inner product, `linalg.vdot`; an isometry. The phase
    may come from the centre of k-space, `low_resolution_phase`: where it is wrong by e the image loses the part sin e.

    Args:
      phase: phi, real, of the shape of x [rad]; may be traced, vmapped and differentiated.

    Returns:
      An operator from real to complex arrays of that shape.

    Reference:
      Willig-Onwuachi et al. (2005), Phase-constrained parallel MR image reconstruction, J. Magn. Reson. 176, 187.
    """
    return PhaseConstrained(jnp.asarray(phase))
