"""What is learned without a network: filters, masks, strengths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learned_row import trained
from rows_learned_parameters import DIRECT, kspace_examples

from medjax.diffusion.gaussian_field import draw_gaussian_field, gaussian_field, matern_spectrum
from medjax.functionals.squared_l2 import squared_l2
from medjax.functionals.wavelet_l1 import wavelet_l1
from medjax.learned.alista import alista
from medjax.learned.learned_filter import learned_filter
from medjax.learned.learned_mask import learned_mask
from medjax.learned.learned_proximal_gradient import learned_proximal_gradient
from medjax.learned.learned_strength import learned_strength
from medjax.learned.penalised import penalised
from medjax.learned.supervised import supervised
from medjax.networks.cnn import cnn
from medjax.operators.algebra import compose, identity, scale
from medjax.operators.complex_channels import complex_channels
from medjax.operators.fbp import fbp
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.parallel_beam import parallel_beam
from medjax.operators.uniform_views import uniform_views
from medjax.operators.wavelet import wavelet
from medjax.operators.zero_filled import zero_filled
from medjax.phantoms.smooth_field import smooth_field
from medjax.solvers.data_term import data_term
from medjax.solvers.pnp_pgm import pnp_pgm
from medjax.solvers.proximal_gradient import proximal_gradient
from medjax.solvers.tv_reconstruction import tv_reconstruction
from medjax.typing import Examples


def test_learned_filter(key):
    """At 1 it is fbp; the loss is quadratic, and where its gradient is 0, at the solution of least squares, it beats all windows."""
    A = parallel_beam(8, uniform_views(6), num_detectors=13)
    x = smooth_field(key, 3, 8, 8.0, 4.0)
    y = jax.vmap(A)(x) + 0.4 * jax.random.normal(key, (3, 6, 13))
    made, batch = learned_filter(), Examples(A, x, y, jnp.full(3, 0.4))
    inverse = jax.jit(fbp, static_argnums=2)
    params = made.init(key, A, y[0])
    assert jnp.allclose(jax.jit(learned_filter("hann").apply)(params, A, y[0], 0.4)[0], inverse(A, y[0], "hann"), atol=1e-12)
    several = jax.jit(jax.vmap(lambda g, A, y: made.apply({"response": g}, A, y, 0.4)[0], (0, None, None)))
    columns = jnp.concatenate([several(jnp.eye(params["response"].size), A, each).reshape(-1, 64).T for each in y])
    best = jnp.linalg.lstsq(columns, x.ravel())[0]
    loss = jax.jit(jax.value_and_grad(lambda p, batch: supervised(made)(p, key, batch)[0]))
    (value, slope), (plain, steep) = loss({"response": best}, batch), loss(params, batch)
    assert jnp.linalg.norm(slope["response"]) <= 1e-8 * jnp.linalg.norm(steep["response"])
    assert jnp.allclose(value, jnp.sum((columns @ best - x.ravel()) ** 2) / x.size, rtol=1e-8)
    smooth = jnp.mean(jnp.stack([(inverse(A, each, "hann") - truth) ** 2 for each, truth in zip(y, x, strict=True)]))
    assert value < 0.9 * jnp.minimum(smooth, plain)


def test_learned_mask_keeps_its_lines(key):
    """The number of lines is exact, the centre is always there, and the derivative is that of finite differences."""
    batch = kspace_examples(key)
    made = learned_mask(DIRECT, 8 / 3, 1 / 8)
    params = made.init(key, batch.A, batch.y[0])
    logits = 2 * jax.random.normal(key, (8,))

    @jax.jit
    def error(logits):
        x, told = made.apply({**params, "mask": {"logits": logits}}, batch.A, batch.y[0], 0.01)
        return jnp.sum((x - batch.x[0]) ** 2), told

    slope, told = jax.grad(error, has_aux=True)(logits)
    assert jnp.allclose(told["lines"], 3, atol=1e-10) and 0 < told["fractional"] < 1
    for d in jnp.eye(8)[:3]:
        assert jnp.allclose(slope @ d, (error(logits + 1e-5 * d)[0] - error(logits - 1e-5 * d)[0]) / 2e-5, rtol=1e-6)
    d, ahead = jnp.eye(8)[0], jax.jit(jax.grad(lambda o: error(o)[0]))
    bent = jax.jvp(ahead, (logits,), (d,))[1]
    assert jnp.allclose(bent, (ahead(logits + 1e-5 * d) - ahead(logits - 1e-5 * d)) / 2e-5, rtol=1e-5, atol=1e-8)  # of finite differences
    ones = {**params, "mask": {"logits": jnp.zeros(8)}}  # p of the 7 free lines is 2 / 7, and A and y both hold it
    share = jnp.full(8, 4 / 49).at[4].set(1)
    found = made.apply(ones, batch.A, batch.y[0], 0.01)[0]
    assert jnp.allclose(found, batch.A.adjoint(batch.y[0] * share[None]), atol=1e-10)


def test_learned_mask_finds_the_lines(key):
    """Trained, and cut to whole lines, it is the best of all masks of 3 lines with the centre."""
    batch = kspace_examples(key)
    made = learned_mask(DIRECT, 8 / 3, 1 / 8)
    params = made.init(key, batch.A, batch.y[0])
    loss = penalised(made, "fractional", 0.05)
    before = supervised(made)(params, key, batch)[1]
    assert jnp.allclose(loss(params, key, batch)[0], supervised(made)(params, key, batch)[0] + 0.05 * before["fractional"])
    params = trained(loss, params, batch, 0.05, 60)
    x, told = learned_mask(DIRECT, 8 / 3, 1 / 8, relaxed=False).apply(params, batch.A, batch.y[0], 0.01)

    def zero_filled_error(lines):
        mask = jnp.zeros(8).at[jnp.array([4, *lines])].set(1)
        return float(jnp.sum((jax.vmap(lambda y: batch.A.adjoint(y * mask[None]))(batch.y) - batch.x) ** 2))

    best = min(itertools.combinations([0, 1, 2, 3, 5, 6, 7], 2), key=zero_filled_error)
    mask = jnp.zeros(8).at[jnp.array([4, *best])].set(1)
    assert told["lines"] == 3 and told["fractional"] == 0
    assert jnp.allclose(x, batch.A.adjoint(batch.y[0] * mask[None]), atol=1e-12)
    assert supervised(made)(params, key, batch)[1]["fractional"] < 0.2 * before["fractional"]


def test_shared_weights_are_one_set(key):
    """Of shared weights there is one set, which answers as three copies of it, each step with its size; else one set a step, each drawn anew."""
    batch, network = kspace_examples(key), cnn(2, 4, 2)
    shared, own = (learned_proximal_gradient(network, zero_filled, 3, each) for each in (True, False))
    one, several = (jax.jit(made.init)(key, batch.A, batch.y[0])["networks"] for made in (shared, own))
    assert set(one) == {"step"} and set(several) == {"step_0", "step_1", "step_2"}
    assert not jnp.allclose(*(several[name]["params"]["head"]["kernel"] for name in ("step_0", "step_1")))
    log_steps, copies = jnp.array([0.1, -0.5, -1.0]), {name: one["step"] for name in several}
    A = compose(masked_fourier(jnp.eye(8)), complex_channels())
    x, wanted = (made.apply({"log_steps": log_steps, "networks": weights}, A, batch.y[0], 0.1)[0] for made, weights in ((shared, one), (own, copies)))
    assert jnp.allclose(x, wanted, atol=1e-12)
    reversed_steps = jax.jit(shared.apply)({"log_steps": log_steps[::-1], "networks": one}, A, batch.y[0], 0.1)[0]
    assert not jnp.allclose(x, reversed_steps, atol=1e-3)


def test_bad_input_of_masks_and_penalties(key):
    batch = kspace_examples(key)
    A = parallel_beam(8, uniform_views(6), num_detectors=13)
    with pytest.raises(ValueError, match="needs an operator with a mask.*ParallelFourier has none"):
        learned_mask(DIRECT).init(key, A, jnp.zeros((6, 13)))
    with pytest.raises(ValueError, match="3 of 8 lines at acceleration 2.6.*the centre takes 4"):
        made = learned_mask(DIRECT, 8 / 3, 0.5)
        made.apply(made.init(key, batch.A, batch.y[0]), batch.A, batch.y[0], 0.1)
    with pytest.raises(ValueError, match="weighs 'bits', the reconstruction tells fractional, lines"):
        made = learned_mask(DIRECT, 8 / 3, 1 / 8)
        penalised(made, "bits", 1.0)(made.init(key, batch.A, batch.y[0]), key, batch)
    with pytest.raises(ValueError, match="weight of penalised is -1, at least 0 is needed"):
        penalised(made, "lines", -1.0)
    with pytest.raises(ValueError, match="learned 7 frequencies, 13 detectors have 15"):
        learned_filter().apply({"response": jnp.ones(7)}, A, jnp.zeros((6, 13)), 0.1)


def grid_error(made, batch, strengths):
    """Mean square errors at given strengths."""
    loss = jax.jit(lambda s: supervised(made)({"log_strength": jnp.log(s)}, jax.random.key(0), batch)[0])
    return np.array([loss(s) for s in strengths])


def test_learned_strength_of_a_plug_and_play_prior(key):
    """With the exact denoiser it lies within a grid step of the best one, and near 1, which is that of Bayes' rule."""
    spectrum = matern_spectrum((16, 16), 3.0)
    prior = gaussian_field(jnp.zeros((16, 16)), spectrum)
    x = jax.vmap(lambda k: draw_gaussian_field(k, jnp.zeros((16, 16)), spectrum))(jax.random.split(key, 4))
    batch = Examples(identity(), x, x + 0.7 * jax.random.normal(jax.random.fold_in(key, 1), x.shape), jnp.full(4, 0.7))

    def make(A, y, sigma_y, strength):
        return pnp_pgm(A, y, sigma_y, prior, strength=strength)

    made = learned_strength(make, zero_filled, 0.2, 1e-10, 40, "unroll")
    found = float(jnp.exp(trained(supervised(made), made.init(key, batch.A, batch.y[0]), batch, 0.1, 60)["log_strength"]))
    grid = np.geomspace(0.2, 5, 17)  # steps of 22 %
    best = grid[np.argmin(grid_error(made, batch, grid))]
    assert abs(np.log(found / best)) <= np.log(grid[1] / grid[0])
    assert 0.8 < found < 1.25  # 1 for infinitely many images; 4 of 256 correlated pixels spread by about a tenth
    told = made.apply({"log_strength": jnp.log(found)}, batch.A, batch.y[0], 0.7)[1]
    assert told["strength"] == pytest.approx(found) and told["lower_residual"] <= 1e-8


def test_learned_strength_of_total_variation(key):
    """The learned strength lies within a grid step of the best one."""
    levels = jax.random.normal(key, (3, 4, 4))
    x = jnp.repeat(jnp.repeat(levels, 3, 1), 3, 2)
    batch = Examples(identity(), x, x + 0.5 * jax.random.normal(jax.random.fold_in(key, 1), x.shape), jnp.full(3, 0.5))
    made = learned_strength(tv_reconstruction, zero_filled, 0.3, 0.0, 60, "unroll")
    found = float(jnp.exp(trained(supervised(made), made.init(key, batch.A, batch.y[0]), batch, 0.1, 50)["log_strength"]))
    grid = np.geomspace(0.1, 10, 17)
    errors = grid_error(made, batch, grid)
    best = grid[np.argmin(errors)]
    assert 0 < np.argmin(errors) < 16 and abs(np.log(found / best)) <= np.log(grid[1] / grid[0])


def test_derivative_of_a_strength(key):
    """Tikhonov: x = y / (1 + lambda sigma^2), so the derivative for log lambda is known."""
    x, y = jax.random.normal(key, (2, 4, 4))

    def make(A, y, sigma_y, strength):
        return proximal_gradient(data_term(A, y, sigma_y).grad, squared_l2(strength).prox, 0.1)

    made = learned_strength(make, zero_filled, 0.8, 1e-13)
    batch = Examples(identity(), x[None], y[None], jnp.array([0.5]))
    slope = jax.jit(jax.grad(lambda p: supervised(made)(p, key, batch)[0]))(made.init(key, batch.A, y))["log_strength"]
    shrunk, rate = y / (1 + 0.2), -0.2 / (1 + 0.2) ** 2
    assert jnp.allclose(slope, jnp.mean(2 * (shrunk - x) * y * rate), rtol=1e-6)
    for steps, converged in ((1000, 1), (3, 0)):
        made = learned_strength(make, zero_filled, 0.8, 1e-6, steps)
        assert jax.jit(made.apply)(made.init(key, batch.A, y), batch.A, y, 0.5)[1]["lower_converged"] == converged
    unrolled = learned_strength(make, zero_filled, 0.8, 1e-6, 3, "unroll")
    assert "lower_converged" not in unrolled.apply(unrolled.init(key, batch.A, y), batch.A, y, 0.5)[1]  # its derivative is true after 3 steps, too


def test_alista_by_a_given_weight():
    """Two steps of B = A^-1 / 2, which the adjoint over ||A||^2, here A^-1, is not."""
    W, x = wavelet((8, 8), "haar", 2), jax.random.normal(jax.random.key(0), (8, 8))
    A, threshold = scale(4.0, identity()), 0.1
    made = alista(W, 2, threshold, weight=lambda A, r: r / 8)
    found = made.apply(made.init(jax.random.key(1), A, A(x)), A, A(x), 1.0)[0]
    prox = wavelet_l1(W, threshold).prox
    first = prox(x / 2, 1.0)
    np.testing.assert_allclose(found, prox((first + x) / 2, 1.0), rtol=0, atol=1e-12)
