"""Lower problems inside a loss: `implicit.minimise` and `fixed_point`, their derivatives, and what is told where these are not to be trusted."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medjax import descent, implicit, lanczos, linalg
from medjax.iterate import iterate_until
from medjax.training.state import initial_state, train_step

N, EPS = 8, 0.1
SPECTRUM = jnp.linspace(0.2, 2.0, N)
TRUTH = jnp.linspace(-1.0, 1.0, N)
WEIGHTS = jnp.cos(jnp.arange(N) * 1.0)


def theta0():
    """Analysis rows, log weights and data of a smoothed l1 problem."""
    rng = np.random.default_rng(3)
    return {"K": jnp.asarray(rng.standard_normal((5, N))), "w": jnp.asarray(rng.uniform(-3, -1, 5)), "y": jnp.asarray(rng.standard_normal(6))}


FORWARD = jnp.asarray(np.random.default_rng(4).standard_normal((6, N)))


def energy(x, theta):
    """||F x - y||^2 / 2 + sum w sqrt((K x)^2 + eps^2) + 0.05 ||x||^2."""
    z = theta["K"] @ x
    return jnp.sum((FORWARD @ x - theta["y"]) ** 2) / 2 + jnp.exp(theta["w"]) @ jnp.sqrt(z**2 + EPS**2) + 0.05 * x @ x


def newton(theta):
    """The minimiser by Newton's method written out in NumPy."""
    K, w, y, F, x = *(np.asarray(theta[name]) for name in ("K", "w", "y")), np.asarray(FORWARD), np.zeros(N)
    for _ in range(60):
        z = K @ x
        root = np.sqrt(z**2 + EPS**2)
        grad = F.T @ (F @ x - y) + K.T @ (np.exp(w) * z / root) + 0.1 * x
        hessian = F.T @ F + K.T @ np.diag(np.exp(w) * EPS**2 / root**3) @ K + 0.1 * np.eye(N)
        x = x - 0.5 * np.linalg.solve(hessian, grad) if np.linalg.norm(grad) > 1e-2 else x - np.linalg.solve(hessian, grad)
    assert np.linalg.norm(grad) < 1e-12
    return x


def upper(x):
    return jnp.sum((x - TRUTH) ** 2) / 2


def along(tree, direction):
    return float(sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (tree, direction)), strict=True)))


def gradient(**options):
    """Of the upper loss for theta, with what the search told."""

    def loss(theta):
        solved = implicit.minimise(energy, jnp.zeros(N), theta, **options)
        return upper(solved.x), solved._replace(x=None)

    return jax.jit(jax.grad(loss, has_aux=True))(theta0())


@pytest.fixture(scope="module")
def exact():
    return gradient(tolerance=1e-13)[0]


def distance(a, b):
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("solver", descent.LOWER)
def test_gradient_against_finite_differences(solver):
    """Of Newton's method in NumPy, along a random direction of all parameters."""
    theta = theta0()
    direction = jax.tree.map(lambda a: jax.random.normal(jax.random.key(1), a.shape), theta)
    plus, minus = (upper(newton(jax.tree.map(lambda a, d, e=e: a + e * d, theta, direction))) for e in (1e-5, -1e-5))
    wanted = float(plus - minus) / 2e-5
    found, told = gradient(solver=solver, tolerance=1e-11, max_steps=20000)
    assert bool(told.converged) and told.residual <= 1e-11
    assert abs(along(found, direction) - wanted) <= 1e-6 * abs(wanted)


def test_unrolling_converges_to_the_implicit_gradient(exact):
    """At the rate of gradient descent, rho^K up to a factor of K."""
    errors = [distance(gradient(solver="gradient", backward="unroll", max_steps=steps)[0], exact) for steps in (400, 1600)]
    assert 1e-4 <= errors[0] <= 0.1 and errors[1] <= 1e-7, errors


def test_what_can_be_unrolled_beside_it(exact):
    """Momentum can, past its convergence too; derivatives of mixed and quasi-Newton iterates blow up where those converge."""
    assert distance(gradient(solver="accelerated", backward="unroll", max_steps=300)[0], exact) <= 1e-6
    for solver in ("lbfgs", "anderson"):
        with pytest.raises(ValueError, match=f"^backward is \"unroll\" with solver '{solver}', one of accelerated, gradient is needed: "):
            gradient(solver=solver, backward="unroll")
    with pytest.raises(ValueError, match='^backward is "unroll" with a memory of 5, 0 is needed: '):
        implicit.fixed_point(gradient_step, jnp.zeros(N), TRUTH, backward="unroll", memory=5)


def quadratic(x, theta):
    return SPECTRUM @ x**2 / 2 - theta @ x


def gradient_step(x, theta):
    return x - 0.5 * (SPECTRUM * x - theta)


@pytest.mark.parametrize("name", ["minimise", "fixed_point"])
def test_truncated_backpropagation_falls_short_as_the_theory_says(name):
    """With K steps of size tau the gradient of w.x is H^-1 (I - (I - tau H)^K) w, so that the bias falls by |1 - mu tau| a step."""

    def find(theta, steps):
        if name == "minimise":
            options = {"backward": "jfb", "step_size": 0.5, "num_backward": steps}
            return implicit.minimise(quadratic, jnp.zeros(N), theta, tolerance=1e-12, **options).x
        return implicit.fixed_point(gradient_step, jnp.zeros(N), theta, backward="jfb", memory=4, tolerance=1e-12, num_backward=steps).x

    full, errors = WEIGHTS / SPECTRUM, []
    for steps in (1, 2, 7, 40, 41):
        found = jax.jit(jax.grad(lambda theta, k=steps: WEIGHTS @ find(theta, k)))(TRUTH)
        assert jnp.allclose(found, full * (1 - (1 - 0.5 * SPECTRUM) ** steps), rtol=1e-9)
        errors.append(jnp.linalg.norm(found - full))
    assert jnp.allclose(errors[4] / errors[3], 1 - 0.5 * SPECTRUM[0], rtol=1e-3)  # other eigenvalues have all but died out


def test_a_step_of_its_own_makes_a_direction_downhill(exact):
    """Without a step size jfb takes 1 / L: short, but within a right angle."""
    found = gradient(backward="jfb", tolerance=1e-10)[0]
    size = along(found, found) ** 0.5, along(exact, exact) ** 0.5
    assert 0.5 < along(found, exact) / size[0] / size[1] < 0.9999 and size[0] < size[1]


M = jnp.asarray(np.random.default_rng(5).standard_normal((N, N))) * 0.2
SKEW = jnp.asarray(np.linalg.qr(np.random.default_rng(6).standard_normal((N, N)))[0]) * 0.9


@pytest.mark.parametrize("options", [{}, {"memory": 5}, {"symmetric": True}, {"backward": "unroll", "max_steps": 600}], ids=str)
def test_fixed_points_of_linear_maps(options):
    """x = M x + theta: the gradient of w.x is (I - M)^-T w, and the second moment (1 - sum) shows in the value."""
    matrix = (M + M.T) / 3 if options.get("symmetric") else SKEW
    solve = {"max_steps": 2000} | options
    value, grad = jax.jit(
        jax.value_and_grad(lambda t: WEIGHTS @ implicit.fixed_point(lambda x, t: matrix @ x + t, t * 0, t, tolerance=1e-13, **solve).x)
    )(TRUTH)
    inverse = np.linalg.inv(np.eye(N) - np.asarray(matrix))
    assert np.allclose(value, WEIGHTS @ inverse @ TRUTH, rtol=1e-9) and np.allclose(grad, inverse.T @ WEIGHTS, rtol=1e-9)


def test_anderson_takes_fewer_steps():
    """A rotation shrunk to 0.9: plain iteration needs log(1e-10) / log(0.9) = 219 steps; in 8 dimensions a memory of 8 is enough for a handful."""
    runs = [implicit.fixed_point(lambda x, t: SKEW @ x + t, jnp.zeros(N), TRUTH, memory=memory, tolerance=1e-10) for memory in (0, 8)]
    assert abs(int(runs[0].num_steps) - 219) <= 20 and int(runs[1].num_steps) <= 14
    wanted = np.linalg.solve(np.eye(N) - np.asarray(SKEW), TRUTH)
    assert all(run.converged and np.allclose(run.x, wanted, rtol=1e-8) for run in runs)


def test_anderson_forgets_where_it_went_wrong():
    """x = cos(4 x) / 5 from afar, coordinate by coordinate: linear models of the map mislead, and the contraction still ends at its fixed point."""
    found = implicit.fixed_point(lambda x, t: jnp.cos(t * x) / 5, 10 * TRUTH, 4.0, memory=8, tolerance=1e-12, max_steps=300)
    assert found.converged and np.allclose(found.x, np.cos(4 * np.asarray(found.x)) / 5, atol=1e-11) and np.ptp(found.x) < 1e-10


def test_complex_and_nested_unknowns():
    """|u - a|^2 / 2 + s |v - i u_0|^2 / 2 + |v|^2 / 2 with complex v: v = i s a_0 / (1 + ...), by the normal equations."""

    def lower(x, theta):
        a, s = theta
        return jnp.sum((x["u"] - a) ** 2) / 2 + s * jnp.abs(x["v"] - 1j * x["u"][0]) ** 2 / 2 + jnp.abs(x["v"]) ** 2 / 2

    def imaginary(theta):
        start = {"u": jnp.zeros(2), "v": jnp.zeros((), complex)}
        return implicit.minimise(lower, start, theta, tolerance=1e-13).x["v"].imag

    value, (by_a, by_s) = jax.value_and_grad(imaginary)((jnp.array([2.0, 3.0]), jnp.asarray(0.5)))
    # v = i k u, k = s / (1 + s), u = a / (1 + k): v = i a s / (1 + 2 s)
    assert np.allclose(value, 0.5, rtol=1e-10) and np.allclose(by_a, [0.25, 0], atol=1e-10) and np.allclose(by_s, 2 / 4, rtol=1e-10)


def test_the_search_ends_by_the_gradient_even_below_the_rounding_of_the_energy():
    """1e6 is added, whose rounding is 1e-10: a line search on values alone would stop at a residual of about 1e-5."""
    solved = jax.jit(lambda theta: implicit.minimise(lambda x, t: energy(x, t) + 1e6, jnp.zeros(N), theta, tolerance=1e-9))(theta0())
    assert solved.converged and jnp.allclose(solved.x, newton(theta0()), atol=1e-7)


@pytest.mark.parametrize("solver", ["lbfgs", "accelerated"])
def test_curvature_that_grows_on_the_way(solver):
    """sqrt(x^2 + eps^2) is flat where the search begins, so the first steps are far too long."""
    solved = jax.jit(lambda c: implicit.minimise(lambda x, c: jnp.sum(jnp.sqrt((x - c) ** 2 + 0.01)), jnp.full(3, 10.0), c, solver=solver))(
        jnp.arange(3.0)
    )
    assert solved.converged and jnp.allclose(solved.x, jnp.arange(3.0), atol=1e-5)


def test_quasi_newton_on_a_valley_without_convexity():
    """Rosenbrock's, from the classical start; f never rises, and pairs of negative curvature stay out."""
    value = lambda v: 100 * (v[1] - v[0] ** 2) ** 2 + (1 - v[0]) ** 2  # noqa: E731
    state, ended = iterate_until(descent.quasi_newton(value), jnp.array([-1.2, 1.0]), 1e-10, 100, record=lambda state, info: state.value)
    assert ended.converged and jnp.allclose(state.x, 1, atol=1e-9) and ended.num_steps <= 60
    assert np.all(np.diff(ended.history[: int(ended.num_steps)]) <= 1e-20)


def test_ritz_values_against_all_eigenvalues(key):
    matrix = jax.random.normal(key, (40, 40))
    matrix = matrix @ matrix.T / 40 - 0.1 * jnp.eye(40)
    wanted = np.linalg.eigvalsh(matrix)[[0, -1]]
    found = jnp.stack(lanczos.extreme_ritz_values(lambda v: matrix @ v, jnp.zeros(40), 120))  # thrice the size: copies do no harm
    assert np.allclose(found, wanted, rtol=0, atol=1e-10)
    some = jnp.stack(lanczos.extreme_ritz_values(lambda v: matrix @ v, jnp.zeros(40), 6))
    assert wanted[0] < some[0] < 0.2 and wanted[1] > some[1] > 0.8 * wanted[1]  # from inside
    assert jnp.allclose(jnp.stack(lanczos.extreme_ritz_values(lambda v: 3 * v, jnp.zeros(7), 5)), 3)  # a space of one dimension


def spectrum_of(values, tolerance=1e-6):
    """What is told of a quadratic with these eigenvalues."""
    values = jnp.asarray(values)
    lower = lambda x, b: values @ x**2 / 2 - values * b @ x  # noqa: E731
    return implicit.told(
        jax.jit(lambda b: implicit.minimise(lower, jnp.zeros(values.size), b, tolerance=tolerance, num_ritz=20))(jnp.ones(values.size))
    )


def test_a_nearly_singular_hessian_is_named():
    fine = spectrum_of([0.1, 0.5, 1.0, 2.0])
    assert np.allclose(fine["lower_ritz_ratio"], 0.05, rtol=1e-8) and fine["lower_indefinite"] == 0
    assert not implicit.trouble(fine)
    found = implicit.trouble(fine, least_ritz=0.1)
    assert re.search("nearly singular: its least Ritz value is 0.05 of the largest, .*; 0.1 is needed", found)
    found = implicit.trouble(spectrum_of([1e-9, 0.5, 1.0, 2.0]))
    assert found.startswith("the Hessian of the lower problem is nearly singular: its least Ritz value is 5e-10 of the largest") and "\n" not in found


def test_a_saddle_is_named_and_has_no_gradient():
    """x_1^2 / 2 - x_2^2 / 4 + x_2^4 / 4 - t x_1, searched for along x_2 = 0: the search ends at a saddle."""
    lower = lambda x, t: x[0] ** 2 / 2 - x[1] ** 2 / 4 + x[1] ** 4 / 4 - t @ x  # noqa: E731

    def second(t):
        solved = implicit.minimise(lower, jnp.zeros(2), t, num_ritz=5)
        return solved.x[1], implicit.told(solved)

    slope, told = jax.jit(jax.grad(second, has_aux=True))(jnp.array([1.0, 0.0]))
    assert np.all(np.isnan(slope)) and np.allclose(told["lower_ritz_ratio"], -0.5) and told["lower_converged"] == 1
    assert "not positive definite: its least Ritz value is -0.5 of the largest, negative in a share of 1; 1e-08 is needed" in implicit.trouble(told)


def test_a_search_cut_short_is_told():
    told = implicit.told(implicit.minimise(energy, jnp.zeros(N), theta0(), max_steps=3, solver="gradient"))
    assert told["lower_converged"] == 0 and told["lower_steps"] == 3 and told["lower_residual"] > 1e-2
    found = f"share of 0, with a residual of {float(told['lower_residual']):.3g} after 3 steps; 1 is needed"
    assert found in implicit.trouble(told)
    assert not implicit.trouble(told, least_converged=0.0)
    assert not implicit.trouble({"loss": 1.0})  # of a method without a lower problem
    lost = implicit.told(implicit.minimise(lambda x, t: jnp.sum((x - t) ** 2), jnp.zeros(2), jnp.array([1.0, jnp.nan])))
    assert "residual of inf" in implicit.trouble(lost)


def test_a_mean_of_ones_is_no_trouble():
    """The mean of 41 ones in single precision is a hair below 1, that of 40 and a zero is not."""
    mean = jax.jit(jnp.mean)
    ones = jnp.ones(41, jnp.float32)
    assert mean(ones) < 1 and not implicit.trouble({"lower_converged": mean(ones), "lower_residual": 1e-6, "lower_steps": 9.0})
    assert "in a share of 0.976" in implicit.trouble({"lower_converged": mean(ones.at[7].set(0))})


def test_warm_starts_cut_the_steps_of_a_training():
    """Twelve steps of Adam on the weights: the loss falls alike, from the last solution with at most two thirds of the lower steps."""

    def training(warm):
        def loss_fn(params, key, batch):
            start = params["carried"] if warm else jnp.zeros(N)
            solved = implicit.minimise(energy, start, {**theta0(), "w": params["w"]}, tolerance=1e-4)
            return upper(solved.x), {"carried": solved.x, **implicit.told(solved)}

        optimizer = optax.adam(3e-3)
        state = initial_state({"w": theta0()["w"], "carried": jnp.zeros(N)}, optimizer)
        step, rows = jax.jit(train_step(loss_fn, optimizer, 0.9)), []
        for _ in range(12):
            state, metrics = step(jax.random.key(0), state, 0)
            rows.append((float(metrics["loss"]), float(metrics["lower_steps"])))
            assert metrics["lower_converged"] == 1
        return np.array(rows)

    cold, warm = training(False), training(True)
    assert cold[0, 1] == warm[0, 1] and warm[1:, 1].sum() <= 2 / 3 * cold[1:, 1].sum()
    assert np.allclose(cold[:, 0], warm[:, 0], rtol=1e-3) and warm[-1, 0] < warm[0, 0]  # 1e-3: what the lower tolerance leaves


def test_batches_and_traced_tolerances():
    """A schedule of tolerances in one program: tighter ones take more steps and are nearer; batches equal single runs."""

    def one(tolerance, theta):
        loss = lambda t: (lambda s: (upper(s.x), s.num_steps))(implicit.minimise(energy, jnp.zeros(N), t, tolerance=tolerance))  # noqa: E731
        return jax.value_and_grad(loss, has_aux=True)(theta)

    tolerances = jnp.array([1e-2, 1e-5, 1e-10])
    (_, steps), grads = jax.jit(jax.vmap(one, (0, None)))(tolerances, theta0())
    assert np.all(np.diff(steps) > 0)
    errors = [distance(jax.tree.map(lambda g, i=i: g[i], grads), gradient(tolerance=1e-13)[0]) for i in range(3)]
    assert errors[2] <= 1e-8 and errors[1] <= 1e-3 and errors[0] >= 1e-3, errors
    (_, alone), grad = jax.jit(one)(1e-5, theta0())
    assert alone == steps[1] and distance(jax.tree.map(lambda g: g[1], grads), grad) <= 1e-10


def test_single_precision_and_memory(exact):
    """Single precision stays; temporaries do not know how many steps may come."""
    single = jax.tree.map(lambda a: a.astype(jnp.float32), theta0())

    def loss(theta, steps=100):
        return upper(
            implicit.minimise(lambda x, t: energy(x, t).astype(x.dtype), jnp.zeros(N, jnp.float32), theta, tolerance=1e-5, max_steps=steps).x
        )

    grads = jax.jit(jax.grad(loss))(single)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(grads)} == {"float32"} and distance(grads, exact) <= 1e-3  # of a tolerance of 1e-5
    sizes = [jax.jit(jax.grad(lambda t, n=n: loss(t, n))).lower(single).compile().memory_analysis().temp_size_in_bytes for n in (100, 10000)]
    assert sizes[0] == sizes[1]


def test_conjugate_gradients_end_when_they_are_done():
    """8 unknowns of a budget of 1000 products, with the answer of the loop that runs on."""
    calls = []

    def matvec(v):
        jax.debug.callback(lambda: calls.append(1))
        return SPECTRUM * v

    found = [
        linalg.conjugate_gradient(matvec, WEIGHTS, num_steps=steps, tolerance=1e-12, early=early) for steps, early in ((1000, True), (30, False))
    ]
    jax.effects_barrier()
    assert len(calls) <= 30 + 12 and jnp.allclose(found[0], found[1], rtol=1e-12) and jnp.allclose(found[0], WEIGHTS / SPECTRUM, rtol=1e-9)


def test_strange_names_and_counts_are_refused():
    with pytest.raises(ValueError, match="^solver is 'newton', one of lbfgs, accelerated, anderson, gradient is needed$"):
        implicit.minimise(quadratic, jnp.zeros(N), TRUTH, solver="newton")
    with pytest.raises(ValueError, match="^backward is 'reverse', one of implicit, unroll, jfb is needed$"):
        implicit.fixed_point(gradient_step, jnp.zeros(N), TRUTH, backward="reverse")
    with pytest.raises(ValueError, match="^num_backward is 0, a whole number of at least 1 is needed$"):
        implicit.minimise(quadratic, jnp.zeros(N), TRUTH, num_backward=0)
    for name, value, needed in (
        ("num_ritz", -1, "a whole number of at least 0"),
        ("step_size", -0.5, "more than 0"),
        ("num_krylov", 0, "at least 1"),
    ):
        with pytest.raises(ValueError, match=f"^{name} is {value}, .*{needed}"):
            implicit.minimise(quadratic, jnp.zeros(N), TRUTH, **{name: value})
    for name, value, needed in (("memory", -1, "at least 0"), ("restarts", 0, "at least 1"), ("num_krylov", 0, "at least 1")):
        with pytest.raises(ValueError, match=f"^{name} is {value}, .*{needed}"):
            implicit.fixed_point(gradient_step, jnp.zeros(N), TRUTH, **{name: value})
    assert "share of 0.5, with a residual of nan" in implicit.trouble({"lower_converged": 0.5})


def test_the_page_says_what_works():
    """The code of docs/from_unrolled_to_implicit.md: one word changes the derivative, and all three go down; solved, they agree."""
    blocks = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "docs" / "from_unrolled_to_implicit.md").read_text(), flags=re.DOTALL)
    matrix = jax.random.normal(jax.random.key(0), (9, 6))
    given = {"jnp": jnp, "A": lambda x: matrix @ x, "y": jnp.cos(jnp.arange(9.0)), "x0": jnp.zeros(6), "truth": jnp.ones(6)}
    given["regulariser"] = lambda theta, x: jnp.sum(jnp.exp(theta) * x**2)
    whole, *lines = blocks
    unrolled = next(line for line in whole.splitlines(keepends=True) if "implicit.minimise" in line)
    theta, slopes = jnp.zeros(6), []
    for line in (unrolled, *lines):
        space = dict(given)
        exec(whole.replace(unrolled, line), space)
        slopes.append(jax.jit(jax.grad(space["loss"]))(theta))
    assert [re.search('backward="(.*?)"', line)[1] for line in (unrolled, *lines)] == ["unroll", "implicit", "jfb"]
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-3)  # 100 steps, and a tolerance of 1e-5
    assert slopes[2] @ slopes[1] > 0.5 * jnp.linalg.norm(slopes[2]) * jnp.linalg.norm(slopes[1])
