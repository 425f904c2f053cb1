"""Reconstructions that solve linear systems tell where their derivatives are not to be trusted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows_learned_mri import scan_examples

from medjax import implicit, linalg
from medjax.learned.admm_net import admm_net
from medjax.learned.modl import modl
from medjax.learned.supervised import supervised
from medjax.learned.told_system import told_system


class Sine:
    """The network w sin."""

    def init(self, key, h):
        """w of 0.3."""
        return {"w": jnp.asarray(0.3, h.dtype)}

    def apply(self, params, h):
        """w sin h."""
        return params["w"] * jnp.sin(h)


MADE = {"modl": lambda **options: modl(Sine(), 4, **options), "admm_net": lambda **options: admm_net(1, 11, **options)}


@functools.cache
def gradient(name, num_krylov, tolerance=1e-5):
    """`log_strength -> (gradient of the supervised loss, its metrics)`, of MoDL at that strength."""
    made, batch = MADE[name](num_krylov=num_krylov, tolerance=tolerance), scan_examples(jax.random.key(1), 1, 8)
    params = made.init(jax.random.key(0), batch.A, batch.y[0])

    def found(log_strength):
        changed = params | {"log_strength": log_strength} if name == "modl" else params
        return jax.grad(lambda p: supervised(made)(p, jax.random.key(0), batch), has_aux=True)(changed)

    return jax.jit(found)


@pytest.mark.parametrize(
    "name, strength, num_krylov, wrong", [("modl", 0.05, 10, 0), ("modl", 0.002, 3, 1), ("admm_net", 1, 20, 0), ("admm_net", 1, 3, 1)]
)
def test_unsolved_systems_are_named_where_the_gradient_is_wrong(name, strength, num_krylov, wrong):
    """By defaults the gradient is right to 1e-3 and nothing is said; by 3 steps it is off by more than 3 %, and one line says so.

    The last system of this MoDL begins so near its answer that its residual is 1e-5 of its right side after 3 steps, too.
    """
    found, metrics = gradient(name, num_krylov)(jnp.log(strength))
    exact = gradient(name, 150, 1e-13)(jnp.log(strength))[0]
    error, line = linalg.norm(jax.tree.map(jnp.subtract, found, exact)) / linalg.norm(exact), implicit.trouble(metrics)
    if wrong:
        assert error > 0.03 and line.startswith("the lower problem reached its tolerance in a share of 0, with a residual of 0.0"), (error, line)
        assert "nan" not in line  # steps are not counted
    else:
        assert error < 1e-3 and not line, (error, line)


@pytest.mark.parametrize(
    "norms, residual, converged",
    [
        ((0.02, 1.0, 100.0), 0.02, 0),
        ((0.002, 1.0, 100.0), 0.002, 1),
        ((1e-5, 1e-5, 100.0), 1e-5 / (1e5 * 2**-23), 1),  # a start that is the answer, to single precision
        ((0.0, 0.0, 0.0), 0.0, 1),
        ((np.nan, 1.0, 1.0), np.nan, 0),
    ],
)
def test_residual_of_a_system(norms, residual, converged):
    """Of what there was to solve, with a bound of 1e-2; of roundings, of no data and of NaN, too."""
    told = told_system(*map(jnp.float32, norms), 1e-2)
    assert np.allclose(told["lower_residual"], residual, equal_nan=True) and told["lower_converged"] == converged
