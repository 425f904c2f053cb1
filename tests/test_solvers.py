"""Contract of every solver."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.functionals.total_variation import total_variation
from medjax.iterate import iterate, iterate_until
from medjax.operators.parallel_beam import parallel_beam
from medjax.phantoms.shepp_logan import shepp_logan
from medjax.solvers.fista import fista
from medjax.solvers.pdhg import pdhg
from medjax.solvers.tv_reconstruction import tv_reconstruction
from medjax.typing import Leaf


def _soft(v, threshold):
    return jnp.sign(v) * jnp.maximum(jnp.abs(v) - threshold, 0)


def _pdhg(w, b, strength, size):
    """Lasso with the data term dualised; the step is size / ||w||."""

    def prox_f_conj(q, sigma):
        return (q - sigma * b) / (1 + sigma)

    return pdhg(lambda x: w @ x, lambda q: w.T @ q, lambda v, tau: _soft(v, strength * tau), prox_f_conj, size, size)


LASSO = {  # name -> (w, b, strength, ||w||) -> a solver of min_x ||w x - b||^2 / 2 + strength ||x||_1
    "fista": lambda w, b, strength, norm: fista(lambda x: w.T @ (w @ x - b), lambda v, tau: _soft(v, strength * tau), 1 / norm**2),
    "pdhg": lambda w, b, strength, norm: _pdhg(w, b, strength, 0.99 / norm),
}
solvers = pytest.mark.parametrize("make", LASSO.values(), ids=LASSO)


def _lasso(key, shape=(12, 8)):
    w, b = jax.random.normal(key, shape), jax.random.normal(jax.random.fold_in(key, 1), shape[:1])
    return w, b, 0.8, jnp.linalg.norm(w, 2)


def _lasso_value(w, b, strength, x):
    return jnp.sum((w @ x - b) ** 2) / 2 + strength * jnp.sum(jnp.abs(x))


@solvers
def test_lasso_with_identity_is_soft_thresholding(key, make):
    b = jax.random.normal(key, (50,))
    state = iterate(make(jnp.eye(50), b, 0.3, 1.0), jnp.zeros(50), 300)
    assert jnp.allclose(state.x, _soft(b, 0.3), rtol=0, atol=1e-10)


@solvers
def test_lasso_is_optimal(key, make):
    w, b, strength, norm = _lasso(key)
    x = iterate(make(w, b, strength, norm), jnp.zeros(8), 3000).x
    slope = w.T @ (b - w @ x) / strength  # in the subdifferential of ||x||_1
    assert jnp.max(jnp.abs(slope)) <= 1 + 1e-8
    assert jnp.allclose(jnp.where(x != 0, slope, 0), jnp.sign(x), rtol=0, atol=1e-8)
    assert jnp.sum(x != 0) > 0


@solvers
def test_iterate_until_stops_and_vmaps(key, make):
    w, b, strength, norm = _lasso(key)

    def solve(b):
        return iterate_until(make(w, b, strength, norm), jnp.zeros(8), 1e-12, 5000)

    state, outcome = jax.jit(jax.vmap(solve))(jnp.stack([b, 3 * b]))
    assert jnp.all(outcome.converged) and jnp.all(outcome.num_steps > 3)
    assert jnp.allclose(state.x[1], solve(3 * b)[0].x, rtol=0, atol=1e-9)


@solvers
def test_compiles_once(key, make):
    w, b, strength, norm = _lasso(key)
    traces = []

    @jax.jit
    def solve(b, num_steps):
        traces.append(1)
        return iterate(make(w, b, strength, norm), jnp.zeros(8), num_steps).x

    solve(b, 3)
    solve(2 * b, 5)
    assert len(traces) == 1


def test_fista_keeps_its_rate(key):
    """Beck & Teboulle (2009), theorem 4.4: F(x_k) - F* <= 2 L ||x_0 - x*||^2 / (k + 1)^2."""
    w, b, strength, norm = _lasso(key, (30, 40))
    solver = LASSO["fista"](w, b, strength, norm)
    best, x0 = iterate(solver, jnp.zeros(40), 20000).x, jnp.ones(40)
    _, values = jax.lax.scan(lambda s, _: (lambda t: (t, _lasso_value(w, b, strength, t.x)))(solver.step(s)[0]), solver.init(x0), length=300)
    k = jnp.arange(1, 301)
    bound = 2 * norm**2 * jnp.sum((x0 - best) ** 2) / (k + 1) ** 2
    gap = values - _lasso_value(w, b, strength, best)
    assert jnp.all(gap <= bound) and gap[-1] > -1e-9


def test_pdhg_comes_nearer_at_every_step(key):
    """With theta = 1 it is a proximal point method: the distance of (x_k, y_{k+1}) to the solution falls in the metric of the steps."""
    w, b, strength, norm = _lasso(key)
    step = 0.99 / norm
    solver = _pdhg(w, b, strength, step)

    def record(state, _):
        following = solver.step(state)[0]
        return following, (state.x, following.y)

    _, (x, y) = jax.lax.scan(record, solver.init(3 * jnp.ones(8)), length=4000)
    dx, dy = x - x[-1:], y - y[-1:]
    squares = (jnp.sum(dx**2, 1) + jnp.sum(dy**2, 1)) / step - 2 * jnp.sum((dx @ w.T) * dy, 1)
    assert jnp.all(jnp.diff(squares[:200]) <= 1e-9 * squares[0])
    assert squares[200] < 1e-3 * squares[0]


def test_pdhg_takes_blocks_and_array_steps(key):
    """Two dual blocks with diagonal steps, row sums of |K| as in Pock & Chambolle (2011), reach what FISTA reaches."""
    w, b, strength, norm = _lasso(key)
    w = w * jnp.geomspace(0.1, 10, 12)[:, None]
    tau = 1 / (jnp.sum(jnp.abs(w), 0) + 1)
    sigma = (1 / jnp.sum(jnp.abs(w), 1), jnp.ones(8))

    def prox_f_conj(dual, sigma):
        return (dual[0] - sigma[0] * b) / (1 + sigma[0]), jnp.clip(dual[1], -strength, strength)

    solver = pdhg(lambda x: (w @ x, x), lambda q: w.T @ q[0] + q[1], lambda v, tau: v, prox_f_conj, tau, sigma)
    wanted = iterate(LASSO["fista"](w, b, strength, jnp.linalg.norm(w, 2)), jnp.zeros(8), 50000).x
    assert jnp.allclose(iterate(solver, jnp.zeros(8), 20000).x, wanted, rtol=0, atol=1e-7)  # sublinear methods


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Fourier:
    """Masked unitary Fourier transform of complex `[h, w]`, or of real `[h, w, 2]` as complex."""

    mask: Leaf
    channels: bool = dataclasses.field(metadata={"static": True})

    def __call__(self, x):
        return self.mask * jnp.fft.fft2(x[..., 0] + 1j * x[..., 1] if self.channels else x, norm="ortho")

    def adjoint(self, y):
        x = jnp.fft.ifft2(self.mask * y, norm="ortho")
        return jnp.stack([x.real, x.imag], axis=-1) if self.channels else x


def _tomography(key):
    """Line integrals whose noise varies 30 times from ray to ray."""
    A = parallel_beam(32, np.arange(24) * np.pi / 24)
    clean = A(shepp_logan(32).image)
    sigma = 0.02 * jnp.exp(jnp.log(30.0) * clean / jnp.max(clean))
    return A, clean + sigma * jax.random.normal(key, clean.shape), sigma, 8.0


def _fourier(key, channels):
    A = _Fourier(1.0 * jax.random.bernoulli(key, 0.5, (32, 32)).at[0].set(True), channels)
    x = shepp_logan(32).image
    y = A(jnp.stack([x, 0.3 * x], axis=-1) if channels else x * (1 + 0.3j))
    return A, y + 0.02 * A.mask * jax.random.normal(key, y.shape, y.dtype), 0.02, 20.0


PROBLEMS = {
    "tomography": _tomography,
    "fourier_complex": lambda key: _fourier(key, False),
    "fourier_channels": lambda key: _fourier(key, True),
}


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_tv_reconstruction_reaches_its_optimum(key, problem, nonnegative):
    A, y, sigma_y, strength = problem(key)
    like = A.adjoint(y)
    if nonnegative and jnp.iscomplexobj(like):
        pytest.skip("no order on complex numbers")
    tv = total_variation(strength, num_steps=200, nonnegative=nonnegative)
    objective = jax.jit(lambda x: jnp.sum(jnp.abs((A(x) - y) / sigma_y) ** 2) / 2 + tv.value(x))

    @jax.jit
    def run(y, num_steps):
        return iterate(tv_reconstruction(A, y, sigma_y, strength, nonnegative), jnp.zeros_like(like), num_steps).x

    best = run(y, 4000)
    lowest = objective(best)
    for num_steps, gap in ((100, 0.1), (300, 3e-3)):  # a first-order method on data weights that differ 900 times
        assert 0 <= objective(run(y, num_steps)) - lowest + 1e-9 * lowest <= gap * lowest

    # a proximal gradient step must leave the optimum where it is
    step = 0.5 / jnp.max(1 / jnp.asarray(sigma_y) ** 2) / (1 if jnp.iscomplexobj(y) else 32 * 24)
    gradient = A.adjoint((A(best) - y) / sigma_y**2)
    moved = tv.prox(best - step * gradient, step)
    assert jnp.linalg.norm(moved - best) <= 1e-3 * jnp.linalg.norm(step * gradient)  # 4000 steps of a sublinear method


def test_tv_reconstruction_follows_the_scale_of_the_data(key):
    """x -> c x with sigma -> c sigma and lambda -> lambda / c is the same problem, and takes the same steps."""
    A, y, sigma_y, strength = _tomography(key)
    small = iterate(tv_reconstruction(A, y, sigma_y, strength), jnp.zeros((32, 32)), 30).x
    large = iterate(tv_reconstruction(A, 1e3 * y, 1e3 * sigma_y, strength / 1e3), jnp.zeros((32, 32)), 30).x
    assert jnp.allclose(large, 1e3 * small, rtol=1e-8, atol=1e-8 * 1e3)
