"""Learned regularisers: what each energy promises, its gradient, and their use in reconstructions, plug-and-play and guidance."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows_learned_regularisers import Ridge

from medjax import implicit
from medjax.diffusion.gaussian import gaussian
from medjax.functionals.total_variation import total_variation
from medjax.guides.regularised import regularised
from medjax.iterate import iterate
from medjax.learned.regulariser_denoiser import regulariser_denoiser
from medjax.learned.supervised import supervised
from medjax.learned.variational import variational
from medjax.networks.conv3x3 import conv3x3
from medjax.networks.critic import critic
from medjax.networks.fields_of_experts import fields_of_experts
from medjax.networks.input_convex import input_convex
from medjax.networks.reverse import doubled, halved, pooled
from medjax.networks.smoothed_total_variation import smoothed_total_variation
from medjax.networks.total_deep_variation import total_deep_variation
from medjax.operators.algebra import compose, identity
from medjax.operators.complex_channels import complex_channels
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.zero_filled import zero_filled
from medjax.physics.equispaced_lines import equispaced_lines
from medjax.solvers.pnp_admm import pnp_admm
from medjax.solvers.proximal_gradient import proximal_gradient
from medjax.solvers.red import red
from medjax.typing import Examples

ENERGIES = {
    "fields_of_experts": fields_of_experts(5, 3),
    "fields_of_experts_convex": fields_of_experts(3, 2, "charbonnier"),
    "smoothed_total_variation": smoothed_total_variation(0.3),
    "critic": critic(2, 2, 3),
    "input_convex": input_convex(2, 3, 0.1),
    "total_deep_variation": total_deep_variation(3, 2, 2),
}


def drawn(seed, shape):
    return jax.random.normal(jax.random.key(seed), shape)


def perturbed(params):
    """Weights away from their start, where some are equal."""
    return jax.tree.map(lambda a: a + 0.1 * drawn(9, a.shape), params)


@pytest.fixture(scope="module", params=ENERGIES.items(), ids=lambda item: item[0])
def member(request):
    """`(name, apply, params, x)`, an odd and a complex image by turns."""
    name, network = request.param
    x = drawn(1, (9, 8) if len(name) % 2 else (8, 9, 2))
    return name, network.apply, perturbed(network.init(jax.random.key(0), x)), x


def test_gradients_are_those_of_the_value(member):
    """By finite differences: the gradient, its derivative for x and, mixed, for the weights; those of 1e-5 know 1e-7."""
    name, apply, params, x = member
    v, e = drawn(2, x.shape), 1e-5
    w = jax.tree.map(lambda a: drawn(3, a.shape), params)
    slope = jax.jit(jax.grad(apply, 1))
    value = jax.jit(apply)
    assert jnp.shape(value(params, x)) == () and slope(params, x).shape == x.shape
    np.testing.assert_allclose(jnp.vdot(slope(params, x), v), (value(params, x + e * v) - value(params, x - e * v)) / (2 * e), rtol=1e-6)
    turned, mixed = jax.jit(lambda p, x: (jax.jvp(lambda x: slope(p, x), (x,), (v,))[1], jax.grad(lambda p: jnp.vdot(slope(p, x), v))(p)))(params, x)
    wanted = (slope(params, x + e * v) - slope(params, x - e * v)) / (2 * e)
    assert jnp.linalg.norm(turned - wanted) <= 1e-6 * jnp.linalg.norm(wanted)
    ends = [jnp.vdot(slope(jax.tree.map(lambda a, d, s=s: a + s * d, params, w), x), v) for s in (e, -e)]
    found = sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(mixed), jax.tree.leaves(w), strict=True))
    assert abs(found - (ends[0] - ends[1]) / (2 * e)) <= 1e-6 * jnp.abs(jnp.vdot(slope(params, x), v)) + 1e-6 * abs(found)


@pytest.mark.parametrize("potential", ["student_t", "charbonnier"])
def test_fields_of_experts_by_loops(potential):
    """The formula, written out; constants cost nothing, and the phase of a complex image does not count."""
    network, x = fields_of_experts(3, 2, potential), drawn(1, (4, 5, 2))
    params = perturbed(network.init(jax.random.key(0), x))
    f, weights, total = np.asarray(params["filters"]), np.exp(np.asarray(params["log_weights"])), 0.0
    for k in range(3):
        centred = f[..., k] - f[..., k].mean()
        for i in range(3):
            for j in range(4):
                s = sum(np.sum(centred * np.asarray(x)[i : i + 2, j : j + 2, c]) ** 2 for c in range(2))
                total += weights[k] * (np.log(1 + s) if potential == "student_t" else np.sqrt(1 + s) - 1)
    np.testing.assert_allclose(network.apply(params, x), total, rtol=1e-10)
    assert abs(network.apply(params, 3.0 + 0 * x)) <= 1e-12
    z = (x[..., 0] + 1j * x[..., 1]) * np.exp(0.7j)
    np.testing.assert_allclose(network.apply(params, jnp.stack([z.real, z.imag], -1)), total, rtol=1e-10)


def test_the_first_filters_are_orthonormal():
    filters = fields_of_experts(24, 5, scale=1.0).init(jax.random.key(0), jnp.zeros((8, 8)))["filters"].reshape(25, 24)
    np.testing.assert_allclose(filters.T @ filters, np.eye(24), atol=1e-12)
    np.testing.assert_allclose(jnp.sum(filters, 0), 0, atol=1e-12)


def test_smoothed_total_variation_is_nearly_it():
    """Between it and width a pixel less."""
    x = drawn(1, (7, 6, 2))
    exact, found = total_variation(1.0).value(x), smoothed_total_variation(1e-3).apply({}, x)
    assert exact - 42e-3 <= found <= exact


def test_input_convex_is_convex():
    """Whatever the weights: no eigenvalue of the Hessian is below `strong`."""
    for strong in (0.0, 0.3):
        network = input_convex(3, 3, strong)
        params = jax.tree.map(lambda a: drawn(4, a.shape), network.init(jax.random.key(0), jnp.zeros((3, 3))))
        values = jnp.linalg.eigvalsh(jax.jit(jax.hessian(network.apply, 1))(params, drawn(5, (3, 3))).reshape(9, 9))
        assert values[0] >= strong - 1e-12 and values[-1] > strong + 1e-3


def test_total_deep_variation_of_one_scale():
    """w^T (K x + K_2 phi(K_1 K x)) / m by plain convolutions; a constant added inside changes nothing far from the border."""
    network, x = total_deep_variation(3, 1, 1), drawn(1, (5, 6))
    params = perturbed(network.init(jax.random.key(0), x))
    first = params["first"] - jnp.mean(params["first"], (0, 1), keepdims=True)
    h = conv3x3(x[..., None], first)
    block = params["block_0"]
    out = h + conv3x3(jnp.log(1 + conv3x3(h, block["down_0_1"]) ** 2) / 2, block["down_0_2"])
    np.testing.assert_allclose(network.apply(params, x), jnp.sum(out * params["head"][None, None]) / 3, rtol=1e-12)


def test_changes_of_scale():
    """A constant stays one inside; the ways back are adjoints."""
    h = drawn(1, (9, 10, 2))
    (half, back), (mean, spread) = halved(h), pooled(h)
    double, up_back = doubled(half, h.shape)
    assert half.shape == (5, 5, 2) and mean.shape == (4, 5, 2) and double.shape == h.shape
    np.testing.assert_allclose(halved(jnp.ones((12, 12, 1)))[0][1:-1, 1:-1], 1, rtol=1e-12)
    np.testing.assert_allclose(doubled(jnp.ones((6, 6, 1)), (12, 12, 1))[0][2:-2, 2:-2], 1, rtol=1e-12)
    for out, undo in ((half, back), (mean, spread)):
        g = drawn(2, out.shape)
        np.testing.assert_allclose(jnp.sum(out * g), jnp.sum(h * undo(g)), rtol=1e-10)
    np.testing.assert_allclose(jnp.sum(double * h), jnp.sum(half * up_back(h)), rtol=1e-10)
    np.testing.assert_allclose(mean[0, 1, 0], jnp.mean(h[:2, 2:4, 0]), rtol=1e-12)


def problem():
    """`(A, truths, data)`: 3 x 4 images seen by 9 numbers."""
    A = Flat(drawn(0, (9, 12)))
    x = drawn(1, (2, 3, 4))
    return A, x, jax.vmap(A)(x) + 0.1 * drawn(2, (2, 9))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Flat:
    """A matrix on the numbers of a 3 x 4 image."""

    matrix: jax.Array

    def __call__(self, x):
        """M x."""
        return self.matrix @ x.ravel()

    def adjoint(self, y):
        """M^T y."""
        return (self.matrix.T @ y).reshape(3, 4)


TIGHT = {"tolerance": 1e-11, "max_steps": 300}
NETWORK = fields_of_experts(3, 2, "charbonnier", 3.0)


def test_bilevel_gradient_is_true():
    """Of the supervised loss, for strength, filters and weights, against finite differences; more steps or another start change nothing."""
    A, x, y = problem()
    made = variational(NETWORK, 2.0, **TIGHT)
    batch, params = Examples(A, x, y, jnp.full(2, 0.5)), made.init(jax.random.key(0), A, y[0])
    loss = jax.jit(lambda p: supervised(made)(p, jax.random.key(0), batch))
    grads = jax.jit(jax.grad(lambda p: supervised(made)(p, jax.random.key(0), batch)[0]))(params)
    told = loss(params)[1]
    assert told["lower_converged"] == 1 and told["lower_unbounded"] == 0 and told["lower_residual"] <= 1e-11
    for name in ("log_strength", "network"):
        direction = jax.tree.map(lambda a: drawn(5, a.shape), params[name])
        ends = [loss(params | {name: jax.tree.map(lambda a, d, e=e: a + e * d, params[name], direction)})[0] for e in (1e-3, -1e-3)]
        found = sum(jnp.sum(g * d) for g, d in zip(jax.tree.leaves(grads[name]), jax.tree.leaves(direction), strict=True))
        np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-3, rtol=1e-5)  # of differences of 1e-3, for minima are known to 1e-9
    assert not implicit.trouble(told)
    elsewhere = variational(NETWORK, 2.0, lambda A, y: 3 * A.adjoint(y), **TIGHT)
    stronger, learned = variational(NETWORK, 6.0, **TIGHT), params | {"log_strength": jnp.log(3.0)}  # a strength counts after training, too
    pairs = ((made, params, elsewhere, params), (stronger, params, made, learned))
    for one, its, other, others in pairs:
        ours, theirs = jax.jit(one.apply)(its, A, y[0], 0.5)[0], jax.jit(other.apply)(others, A, y[0], 0.5)[0]
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


class Pit(NamedTuple):
    """The energy -||x||^2, which has no minimum."""

    def init(self, key, x):
        """No weights."""
        return {}

    def apply(self, params, x):
        """-||x||^2."""
        return -jnp.sum(x**2)


def test_a_regulariser_without_a_bottom_is_named():
    A, _, y = problem()
    made = variational(Pit(), 1e3, max_steps=60)
    told = jax.jit(made.apply)(made.init(jax.random.key(0), A, y[0]), A, y[0], 0.5)[1]
    assert told["lower_converged"] == 0
    assert "went to minus infinity in a share of 1" in implicit.trouble(told)
    assert "reached its tolerance in a share of 0" in implicit.trouble({**told, "lower_unbounded": 0.0})


class Double(NamedTuple):
    """The energy of wells beside 0, ||x||^4 / 4 - c ||x||^2 / 2 of the second number alone: along it 0 is a maximum."""

    def init(self, key, x):
        """c = 4."""
        return {"c": jnp.asarray(4.0)}

    def apply(self, params, x):
        """Of the second number."""
        return x[1] ** 4 / 4 - params["c"] * x[1] ** 2 / 2


@pytest.mark.parametrize("backward", ["jfb", "implicit"])
def test_a_saddle_is_told_by_each_way_back(backward):
    """Of data that are 0 where the energy has its maximum: "jfb" names the Hessian unasked, of "implicit" the gradient is NaN."""
    made, y = variational(Double(), backward=backward), jnp.array([1.0, 0.0])
    params = made.init(jax.random.key(0), identity(), y)

    def second(params):
        x, told = made.apply(params, identity(), y, 1.0)
        return x[1], told

    grads, told = jax.jit(jax.grad(second, has_aux=True))(params)
    assert told["lower_converged"] == 1 and told["lower_unbounded"] == 0
    if backward == "jfb":
        assert np.isfinite(grads["network"]["c"])
        np.testing.assert_allclose(told["lower_ritz_ratio"], -3.0, rtol=1e-9)  # of 1 - 4 and 1
        assert "not positive definite" in implicit.trouble(told)
    else:
        assert np.isnan(grads["network"]["c"]) and "lower_ritz_ratio" not in told


def test_denoisers_of_a_quadratic():
    """Of ||x||^2 / 2: x / (1 + sigma^2), with its derivative, and x (1 - sigma^2)."""
    x, ridge = drawn(1, (3, 4)), lambda x: Ridge().apply({}, x)
    prox, step = regulariser_denoiser(ridge, "prox", 1e-12), regulariser_denoiser(ridge)
    found, turned = jax.jit(lambda x: jax.jvp(lambda s: prox(x, s), (0.5,), (1.0,)))(x)
    np.testing.assert_allclose(found, x / 1.25, rtol=1e-9)
    np.testing.assert_allclose(turned, -x / 1.25**2, rtol=1e-7)
    np.testing.assert_allclose(step(x, 0.5), 0.75 * x, rtol=1e-12)


@pytest.mark.parametrize("method", ["pnp_admm", "red"])
def test_plug_and_play_minimises_with_the_regulariser(method):
    """The prox in ADMM and the gradient step in RED lead to what `variational` minimises."""
    A, _, y = problem()
    made = variational(NETWORK, 2.0, **TIGHT)
    params = made.init(jax.random.key(0), A, y[0])

    def regulariser(x):
        return made.regulariser(params, x)

    @jax.jit
    def run(A, y):
        if method == "red":
            solver = red(A, y, 0.5, regulariser_denoiser(regulariser), 0.1, method="gradient", step_size=0.005)
            return iterate(solver, jnp.zeros((3, 4)), 8000).x
        solver = pnp_admm(A, y, 0.5, regulariser_denoiser(regulariser, "prox", 1e-10, 30), 0.3, tolerance=1e-10)
        return iterate(solver, jnp.zeros((3, 4)), 150).x

    wanted = jax.jit(made.apply)(params, A, y[0], 0.5)[0]
    assert jnp.linalg.norm(run(A, y[0]) - wanted) <= 1e-5 * jnp.linalg.norm(wanted)  # of steps that shrink the error by a rate


def test_proximal_gradient_steps_find_the_same_image():
    """Fields of Experts for one coil: a step along R and the prox of the DATA term, F^H ((F z + tau M y) / (1 + tau M)), M the mask over sigma^2."""
    mask, tau = equispaced_lines((8, 8), 2, 0.25), 0.02
    A, truth = compose(masked_fourier(mask), complex_channels()), drawn(1, (8, 8, 2))
    F = compose(masked_fourier(jnp.ones((8, 8))), complex_channels())
    y, weight = A(truth), mask / 0.3**2
    made = variational(NETWORK, 2.0, **TIGHT)
    params = made.init(jax.random.key(0), A, y)

    def prox(z, tau):
        return F.adjoint((F(z) + tau * weight * y) / (1 + tau * weight))

    solver = proximal_gradient(lambda x: jax.grad(made.regulariser, 1)(params, x), prox, tau)
    found = jax.jit(lambda: iterate(solver, zero_filled(A, y), 1500).x)()
    wanted = jax.jit(made.apply)(params, A, y, 0.3)[0]
    assert jnp.linalg.norm(found - wanted) <= 1e-5 * jnp.linalg.norm(wanted)  # of steps that shrink the error by a rate


def test_guidance_is_exact_for_gaussians():
    """Prior N(m, s^2 I) times exp(-x^T Q x / 2) is the Gaussian of precision I / s^2 + Q; its denoiser in closed form."""
    root, mean, spread = drawn(0, (5, 5)), drawn(1, (5,)), 0.7
    Q = root @ root.T
    guide = regularised(lambda z, v: jnp.linalg.solve(jnp.eye(5) + v * Q, z), spread**2)
    covariance = jnp.linalg.inv(jnp.eye(5) / spread**2 + Q)
    posterior = gaussian(covariance @ mean / spread**2, (covariance + covariance.T) / 2)
    guided, x = guide(gaussian(mean, spread**2 * jnp.eye(5))), drawn(2, (5,))
    for sigma in (0.1, 1.0, 5.0):
        np.testing.assert_allclose(guided(x, sigma), posterior(x, sigma), rtol=1e-8)
    learned = regulariser_denoiser(lambda u: u @ Q @ u / 2, "prox", 1e-12)
    guided = regularised(lambda z, v: learned(z, jnp.sqrt(v)), spread**2)(gaussian(mean, spread**2 * jnp.eye(5)))
    np.testing.assert_allclose(jax.jit(guided)(x, 1.0), posterior(x, 1.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: fields_of_experts(9, 3), "at most 8 filters of zero mean, 9"),
        (lambda: fields_of_experts(potential="huber"), "'huber', one of student_t, charbonnier"),
        (lambda: fields_of_experts(3, 3).apply(fields_of_experts(3, 3).init(jax.random.key(0), jnp.zeros((4, 4))), jnp.zeros((2, 9))), "image 2 x 9"),
        (lambda: critic(0), "width of critic is 0"),
        (lambda: input_convex(strong=-1.0), "strong of input_convex is -1"),
        (lambda: total_deep_variation().init(jax.random.key(0), jnp.zeros((8, 8), complex)), "takes real images"),
        (lambda: smoothed_total_variation(0.0), "width of smoothed_total_variation is 0"),
        (lambda: variational(NETWORK, backward="magic"), "'magic', one of implicit"),
        (lambda: variational(NETWORK, strength=0.0), "strength of variational is 0"),
        (lambda: regulariser_denoiser(abs, "mean"), "'mean', one of gradient, prox"),
        (lambda: regularised(lambda z, v: z, 0.0), "variance of regularised is 0"),
    ],
)
def test_what_does_not_fit_is_named(make, found):
    with pytest.raises(ValueError, match=found):
        make()
