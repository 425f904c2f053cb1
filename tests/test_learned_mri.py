"""What the contract does not see of learned reconstructions of magnetic resonance data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learned_row import NOTHING, ZERO, Stub
from rows_learned_mri import scan_examples

from medjax.learned.admm_net import _shrunk, admm_net
from medjax.learned.automap import automap
from medjax.learned.modl import modl
from medjax.learned.variational_network import variational_network
from medjax.operators.algebra import compose
from medjax.operators.complex_channels import complex_channels
from medjax.operators.sense import sense
from medjax.physics.birdcage import birdcage


@pytest.fixture(scope="module")
def scan():
    """`(A, y, sigma_y)` of 8 px."""
    batch = scan_examples(jax.random.key(1), size=8)
    return batch.A, batch.y[0], batch.sigma_y[0]


def test_shrinkage_is_interpolation():
    """By numpy between the points, of slope 1 beyond them, every filter by its own values; its slopes are those of the pieces."""
    rng, reach = np.random.default_rng(0), 0.7
    a, values = rng.normal(size=(5, 4, 2, 3)), rng.normal(size=(3, 6))
    a[0, 0, 0] = -reach, 0.0, reach
    points, inside = np.linspace(-reach, reach, 6), np.clip(a, -reach, reach)
    wanted = np.stack([np.interp(inside[..., f], points, values[f]) for f in range(3)], -1) + a - inside
    found = jax.jit(_shrunk, static_argnums=2)
    assert np.allclose(found(jnp.asarray(a), jnp.asarray(values), reach), wanted, rtol=0, atol=1e-12)
    single = found(jnp.asarray(a, jnp.float32), jnp.asarray(values, jnp.float32), reach)
    assert np.allclose(single, wanted, rtol=0, atol=1e-5)  # roundings of single precision, times slopes of up to 10


def test_modl_is_differentiated_as_a_solution(scan):
    """The slope along all weights by finite differences; few steps of conjugate gradient would have another derivative than their answer."""
    made = modl(Stub(lambda h: 0.3 * jnp.sin(h)), 2, 0.1, num_krylov=100, tolerance=1e-13)

    def value(t):
        params = {"network": {}, "log_strength": jnp.log(0.1) + t}
        return jnp.sum(made.apply(params, *scan)[0] ** 2)

    both = jax.jit(jax.value_and_grad(value))
    difference = (both(1e-4)[0] - both(-1e-4)[0]) / 2e-4
    assert abs(both(0.0)[1] - difference) <= 1e-6 * abs(difference)


def test_modl_tells_what_is_unsolved(scan):
    few, many = (modl(ZERO, 1, 0.01, num_krylov=n, tolerance=1e-13) for n in (1, 100))
    params = {"network": {}, "log_strength": jnp.log(0.01)}
    told = [jax.jit(made.apply)(params, *scan)[1] for made in (few, many)]
    assert told[0]["lower_residual"] > 1e-2 and told[1]["lower_residual"] < 1e-10
    assert told[0]["lower_converged"] == 0 and told[1]["lower_converged"] == 1
    A, y, sigma_y = scan
    assert few.apply(params, A, 0 * y, sigma_y)[1] == {"lower_residual": 0, "lower_converged": 1}


def test_admm_net_tells_what_is_unsolved(scan):
    few, many = (admm_net(1, num_krylov=n, tolerance=1e-13) for n in (1, 200))
    params = few.init(jax.random.key(0), *scan[:2])
    told = [jax.jit(made.apply)(params, *scan)[1] for made in (few, many)]
    assert told[0]["lower_residual"] > 1e-2 and told[1]["lower_residual"] < 1e-10
    assert told[0]["lower_converged"] == 0 and told[1]["lower_converged"] == 1


def test_automap_of_a_rank_has_the_product_of_its_layers(scan):
    low, full = automap(NOTHING, rank=5), automap(NOTHING)
    params = jax.jit(low.init)(jax.random.key(0), *scan[:2])
    left, right = params["first"]["factor_0"], params["first"]["factor_1"]
    whole = {**params, "first": {"factor_0": left @ right}}
    assert [left.shape, right.shape] == [(512, 5), (5, 128)]
    assert np.allclose(jax.jit(low.apply)(params, *scan)[0], jax.jit(full.apply)(whole, *scan)[0], rtol=0, atol=1e-12)


def test_automap_of_another_geometry_is_refused(scan):
    """Fewer coils of the same image, and other images: one line with both sizes."""
    made = automap(NOTHING, rank=5)
    params = jax.eval_shape(made.init, jax.random.key(0), *scan[:2])
    for coils, size, words in ((2, 8, "256 and 128"), (4, 10, "800 and 200")):
        A = compose(sense(birdcage((size, size), coils), jnp.ones((size, size))), complex_channels())
        wanted = f"^automap learned 512 numbers of data and 128 of an image, this geometry has {words}"
        with pytest.raises(ValueError, match=wanted):
            jax.eval_shape(made.apply, params, A, jnp.zeros((coils, size, size), complex), 0.1)


def test_wrong_input_is_refused(scan):
    A, y, _ = scan
    calls = [
        (lambda: variational_network(ZERO, 0), "num_cascades of variational_network is 0"),
        (lambda: variational_network(ZERO, 1, NOTHING).init(jax.random.key(0), complex_channels(), y[0]), "ComplexChannels of data"),
        (lambda: modl(ZERO, strength=0.0), "strength of modl is 0, more than 0 is needed"),
        (lambda: modl(ZERO, num_krylov=0), "num_krylov of modl is 0"),
        (lambda: admm_net(num_points=1), "num_points of admm_net is 1, at least 2"),
        (lambda: admm_net(penalty=-1.0), "penalty of admm_net"),
        (lambda: automap(NOTHING, rank=0), "rank of automap is 0"),
        (lambda: automap(NOTHING, rank=129).init(jax.random.key(0), A, y), "rank of automap is 129, at most 128"),
    ]
    for call, words in calls:
        with pytest.raises(ValueError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
