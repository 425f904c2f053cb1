"""MR signal equations against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.physics.inversion_recovery import inversion_recovery
from medjax.physics.spin_echo import spin_echo
from medjax.physics.spoiled_gradient_echo import spoiled_gradient_echo

T1, T2 = 900.0, 80.0


def test_spin_echo_hand_value():
    assert np.isclose(spin_echo(0.7, T1, T2, 600.0, 15.0), 0.7 * (1 - np.exp(-2 / 3)) * np.exp(-3 / 16), rtol=1e-14, atol=0)


def test_spin_echo_limits():
    """Long TR and short TE show the proton density, short TR shows PD TR / T1, long TE nothing."""
    assert np.isclose(spin_echo(0.7, T1, T2, 1e6, 0.0), 0.7, rtol=1e-14)
    assert np.isclose(spin_echo(0.7, T1, T2, 1e-6, 0.0), 0.7e-6 / T1, rtol=1e-8)
    assert spin_echo(0.7, T1, T2, 500.0, 1e5) == 0


def test_inversion_recovery_null_point():
    assert abs(inversion_recovery(1.0, T1, T2, 1e6, 10.0, T1 * np.log(2))) < 1e-14
    for tr in (1500.0, 9000.0):
        null = T1 * np.log(2 / (1 + np.exp(-tr / T1)))
        assert abs(inversion_recovery(1.0, T1, T2, tr, 10.0, null)) < 1e-14
        assert inversion_recovery(1.0, T1, T2, tr, 10.0, null - 1) < 0 < inversion_recovery(1.0, T1, T2, tr, 10.0, null + 1)


def test_inversion_recovery_limits():
    """Right after the inversion the magnetisation is the negative of a spin echo's; a TI of TR is a plain saturation recovery."""
    echo = spin_echo(0.8, T1, T2, 2000.0, 20.0)
    assert np.isclose(inversion_recovery(0.8, T1, T2, 2000.0, 20.0, 0.0), -echo, rtol=1e-14)
    assert np.isclose(inversion_recovery(0.8, T1, T2, 2000.0, 20.0, 2000.0), echo, rtol=1e-14)


@pytest.mark.parametrize("tr", [5.0, 50.0, 700.0])
def test_ernst_angle_is_the_maximum(tr):
    ernst = np.arccos(np.exp(-tr / T1))
    slope = jax.grad(lambda a: spoiled_gradient_echo(1.0, T1, T2, tr, 4.0, a))(ernst)
    at = [float(spoiled_gradient_echo(1.0, T1, T2, tr, 4.0, ernst + d)) for d in (-0.05, 0.0, 0.05)]
    assert abs(slope) < 1e-12 and at[1] > at[0] and at[1] > at[2]
    # the value there is tan(alpha / 2)
    assert np.isclose(at[1], np.tan(ernst / 2) * np.exp(-4.0 / T2), rtol=1e-12)


def test_gradient_echo_at_right_angle_is_saturation_recovery():
    assert np.isclose(spoiled_gradient_echo(0.6, T1, T2, 300.0, 12.0, np.pi / 2), spin_echo(0.6, T1, T2, 300.0, 12.0), rtol=1e-14)


def test_gradient_echo_keeps_its_digits_in_single_precision():
    """TR / T1 of 1e-4 at half a degree: 1 - cos(a) E1 would lose three digits."""
    arguments = (1.0, 4000.0, 80.0, 0.4, 0.1, np.deg2rad(0.5))
    single = spoiled_gradient_echo(*(jnp.float32(a) for a in arguments))
    double = spoiled_gradient_echo(*(jnp.float64(a) for a in arguments))
    assert single.dtype == jnp.float32
    assert abs(single - double) < 1e-6 * double


def test_bloch_simulation_agrees(key):
    """The steady states are the fixed points of excitation, decay and recovery, run until they repeat."""
    tr, flip, ti = 400.0, 0.4, 150.0
    z_spoiled = z_inverted = 1.0
    for _ in range(60):
        spoiled = np.sin(flip) * z_spoiled
        z_spoiled = 1 + (np.cos(flip) * z_spoiled - 1) * np.exp(-tr / T1)
        z = 1 + (-z_inverted - 1) * np.exp(-ti / T1)
        inverted, z_inverted = z, 1 - np.exp(-(tr - ti) / T1)
    assert np.isclose(spoiled_gradient_echo(1.0, T1, T2, tr, 0.0, flip), spoiled, rtol=1e-12)
    assert np.isclose(inversion_recovery(1.0, T1, T2, tr, 0.0, ti), inverted, rtol=1e-12)
