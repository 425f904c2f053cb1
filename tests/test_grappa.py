"""GRAPPA: exact where k-space obeys a linear relation, faithful to what was sampled, near the truth where coils are smooth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.operators.centred_fft import centred_fft, centred_ifft
from medjax.phantoms.shepp_logan import shepp_logan
from medjax.physics.birdcage import birdcage
from medjax.physics.equispaced_lines import equispaced_lines
from medjax.physics.grappa import grappa
from medjax.physics.grappa_weights import grappa_weights
from medjax.physics.root_sum_of_squares import root_sum_of_squares

_grappa = jax.jit(grappa)
_weights = jax.jit(grappa_weights, static_argnums=(1, 2))


def _harmonics(seed, shape, num_coils):
    """Coils that see the object times e^{2 pi i c x / w}, mixed: k-space moves by whole lines, so every line is a combination of its neighbours.

    Empty near the first and last columns, so that the relation holds at the border, too.
    """
    rng = np.random.default_rng(seed)
    spectrum = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    spectrum[:, : 2 * num_coils] = spectrum[:, -2 * num_coils :] = 0
    mix = rng.normal(size=(num_coils, num_coils)) + 1j * rng.normal(size=(num_coils, num_coils))
    return jnp.asarray(np.einsum("ab,bhw->ahw", mix, np.stack([np.roll(spectrum, c, 1) for c in range(num_coils)])))


CASES = [(2, (1, 2), (9, 24)), (2, (3, 4), (8, 31)), (3, (3, 2), (9, 37)), (3, (2, 3), (10, 38)), (4, (1, 2), (7, 45)), (4, (3, 3), (9, 50))]


@pytest.mark.parametrize("acceleration, kernel, shape", CASES)
def test_exact_where_lines_obey_a_relation(acceleration, kernel, shape):
    """Even and odd kernels and sizes, every offset of the comb."""
    full = _harmonics(acceleration, shape, acceleration)
    weights = _weights(full, acceleration, kernel, 1e-13)
    for offset in range(acceleration):
        mask = equispaced_lines(shape, acceleration, 0.1, offset)
        found = _grappa(full * mask[None], mask, weights)
        assert np.array_equal(np.asarray(found)[:, np.asarray(mask) > 0], np.asarray(full)[:, np.asarray(mask) > 0])
        assert np.linalg.norm(found - full) <= 1e-8 * np.linalg.norm(full)  # the regularisation, and the condition of the fit


def test_is_the_sum_of_its_definition():
    """Weights applied sample by sample."""
    rng, (acceleration, kernel, shape) = np.random.default_rng(3), (3, (2, 3), (5, 11))
    weights = rng.normal(size=(2, 2, 2, *kernel)) + 1j * rng.normal(size=(2, 2, 2, *kernel))
    full, mask = _harmonics(1, (5, 40), 2)[:, :, 10:21], np.asarray(equispaced_lines(shape, acceleration, 0.0))
    found, sampled = np.asarray(_grappa(full, mask, jnp.asarray(weights))), np.asarray(full * mask[None])
    lines = np.flatnonzero(mask[0])
    for row, column in np.ndindex(shape):
        if mask[row, column]:
            continue
        line = (column - lines[0]) % acceleration
        near = np.sort(
            np.arange(column - line - 9, column + 12, acceleration)[
                np.argsort(abs(np.arange(column - line - 9, column + 12, acceleration) - column), kind="stable")[:3]
            ]
        )
        wanted = np.zeros(2, complex)
        for a, source_row in enumerate((row - 1, row)):
            for b, source in enumerate(near):
                if 0 <= source_row < 5 and 0 <= source < 11:
                    wanted += weights[line - 1, :, :, a, b] @ sampled[:, source_row, source]
        assert np.allclose(found[:, row, column], wanted, rtol=0, atol=1e-12 * np.abs(sampled).max())


@pytest.mark.parametrize("acceleration, gain", [(2, 12.0), (3, 5.0)])
def test_unfolds_smooth_coils(acceleration, gain):
    """By so many decibels over the zero-filled image."""
    maps, image = birdcage((64, 64), 8), shepp_logan(64).image
    rng = np.random.default_rng(0)
    full = centred_fft(maps * image[None]) + 0.005 * jnp.asarray(rng.normal(size=maps.shape) + 1j * rng.normal(size=maps.shape))
    mask = equispaced_lines((64, 64), acceleration, 0.3)
    weights = _weights(full[:, :, 32 - 9 : 32 + 9], acceleration, (5, 4), 0.01)
    wanted = root_sum_of_squares(centred_ifft(full))

    def error(kspace):
        return np.linalg.norm(root_sum_of_squares(centred_ifft(kspace)) - wanted)

    assert 20 * np.log10(error(full * mask[None]) / error(_grappa(full * mask[None], mask, weights))) > gain


def test_scale_of_the_data_and_precision_do_not_matter():
    full = _harmonics(2, (8, 30), 3)
    weights = _weights(full, 2, (3, 2), 1e-3)
    assert np.allclose(_weights(1e-6 * full, 2, (3, 2), 1e-3), weights, rtol=0, atol=1e-10)
    single = _weights(full.astype(jnp.complex64), 2, (3, 2), 1e-3)
    assert single.dtype == jnp.complex64 and np.allclose(single, weights, rtol=0, atol=1e-4)  # eps of float32 times the condition, 1e3
    mask = equispaced_lines((8, 30), 2, 0.0)
    assert _grappa(full.astype(jnp.complex64), mask, single).dtype == jnp.complex64
    empty = _weights(jnp.zeros((2, 6, 9), complex), 2, (3, 2), 1e-3)
    assert not np.any(empty)


def test_nothing_is_missing_without_acceleration():
    full = _harmonics(4, (6, 20), 2)
    weights = grappa_weights(full, 1, (3, 2))
    assert weights.shape == (0, 2, 2, 3, 2)
    assert np.array_equal(grappa(full, jnp.ones((6, 20)), weights), full)


@pytest.mark.parametrize("dtype, most", [(complex, 1e-12), (jnp.complex64, 1e-4)])
def test_dependent_coils_need_no_regularisation(dtype, most):
    """A coil twice: many weights predict the same lines, all of them well."""
    full = _harmonics(2, (8, 30), 2)
    twice, mask = jnp.concatenate([full, full[:1]]).astype(dtype), equispaced_lines((8, 30), 2, 0.0)
    weights = _weights(twice, 2, (3, 2), 0.0)
    error = np.linalg.norm(_grappa(twice * mask[None], mask, weights) - twice)
    assert np.max(np.abs(weights)) < 10 and error <= most * np.linalg.norm(twice)  # rounding, a zero eigenvalue beside it
    constant = jnp.zeros((2, 8, 30), dtype).at[0].set(1)  # exactly singular
    assert np.all(np.isfinite(_weights(constant, 2, (3, 2), 0.0)))


def test_gradients_through_weights_and_application():
    full = _harmonics(5, (6, 24), 2)
    mask, direction = equispaced_lines((6, 24), 2, 0.0), _harmonics(6, (6, 24), 2)

    def loss(t):
        moved = full + t * direction
        return jnp.sum(jnp.abs(grappa(moved * mask[None], mask, grappa_weights(moved, 2, (3, 2), 1e-2))) ** 2)

    both = jax.jit(jax.value_and_grad(loss))
    difference = (both(1e-5)[0] - both(-1e-5)[0]) / 2e-5
    assert abs(both(0.0)[1] - difference) <= 1e-7 * abs(difference)


def test_wrong_input_is_refused():
    full = _harmonics(1, (8, 30), 2)
    calls = [
        (lambda: grappa_weights(full, 2.5), "whole number"),
        (lambda: grappa_weights(full, 0), "whole number"),
        (lambda: grappa_weights(full[:, :, :12], 4, (5, 4)), "5 samples of 13 lines"),
        (lambda: grappa_weights(full[:, :4], 2, (5, 2)), "5 samples"),
        (lambda: grappa_weights(full, 2, (3, 2), -1.0), "at least 0"),
        (lambda: grappa_weights(full[0], 2), r"are \[8, 30\], \[c, h, w\] is needed"),
        (lambda: grappa(full, jnp.ones((8, 29)), jnp.zeros((1, 2, 2, 3, 2))), "mask"),
        (lambda: grappa(full, jnp.ones((8, 30)), jnp.zeros((1, 3, 3, 3, 2))), "weights"),
    ]
    for call, words in calls:
        with pytest.raises(ValueError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
