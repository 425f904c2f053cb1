"""Generalised inverses, Tikhonov's path, the choice of its strength, and Hadamard's questions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.image import imread
from rows_image import Matrix
from scipy.sparse.linalg import lsqr

from medjax import linalg
from medjax.operators.algebra import compose, identity, scale, stack
from medjax.operators.complex_channels import complex_channels
from medjax.operators.generalised_cross_validation import generalised_cross_validation
from medjax.operators.grid_minimum import grid_minimum
from medjax.operators.hadamard import hadamard
from medjax.operators.influence_trace import influence_trace
from medjax.operators.krylov_system import krylov_system
from medjax.operators.l_curve import l_curve
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.spectral import singular_system
from medjax.report.picard_plot import picard_plot
from medjax.solvers.discrepancy_principle import discrepancy_principle

RNG = np.random.default_rng(0)
CASES = {  # w `[m, n]` of rank p
    "p = m = n": RNG.normal(size=(5, 5)),
    "p = n < m": RNG.normal(size=(7, 4)),
    "p = m < n": RNG.normal(size=(4, 7)),
    "p < m, n": RNG.normal(size=(6, 3)) @ RNG.normal(size=(3, 5)),
}
CT = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 1.0]])  # columns, rows and a diagonal of 2 x 2 pixels


_singular_system = jax.jit(singular_system, static_argnums=(1, 2))
_krylov_system = jax.jit(krylov_system, static_argnums=2)
_path = jax.jit(lambda system, y, strengths: jax.vmap(system.tikhonov, (None, 0))(y, strengths))
_norms = jax.jit(lambda system, y, strengths: jax.vmap(system.tikhonov_norms(y))(strengths))
_l_curve = jax.jit(l_curve)
_cross_validation = jax.jit(generalised_cross_validation)


def _matrix(w):
    return Matrix(jnp.asarray(w))


def _system(w):
    return _singular_system(_matrix(w), w.shape[1:], float)


def _close(a, b, tolerance=1e-10):
    return np.linalg.norm(np.asarray(a) - np.asarray(b)) <= tolerance * np.linalg.norm(b)


def _shaw(size=64):
    """Hansen's test problem: an image restored from what passed a slit, severely ill-posed."""
    t = (np.arange(size) + 0.5) * np.pi / size - np.pi / 2
    width = np.sinc(np.sin(t)[:, None] + np.sin(t)[None])
    w = np.pi / size * ((np.cos(t)[:, None] + np.cos(t)[None]) * width) ** 2
    return w, 2 * np.exp(-6 * (t - 0.8) ** 2) + np.exp(-2 * (t + 0.5) ** 2)


def _noisy_shaw(sigma=0.01, seed=0):
    """System, data, truth, and the matrix."""
    w, x = _shaw()
    return _system(w), jnp.asarray(w @ x + sigma * np.random.default_rng(seed).normal(size=len(x))), x, w


@pytest.mark.parametrize("w", CASES.values(), ids=CASES)
def test_generalised_inverse_in_its_four_cases(w):
    m, n = w.shape
    system, y = _system(w), np.random.default_rng(1).normal(size=m)
    x, p = system.pseudo_inverse(jnp.asarray(y)), int(system.rank)
    assert p == np.linalg.matrix_rank(w) and int(system.num_data()) == m
    assert _close(x, np.linalg.pinv(w) @ y) and _close(x, np.linalg.lstsq(w, y)[0])
    if p == n:
        assert _close(x, np.linalg.solve(w.T @ w, w.T @ y))
    if p == m:
        assert _close(x, w.T @ np.linalg.solve(w @ w.T, y)) and _close(w @ x, y)
    if p == m == n:
        assert _close(x, np.linalg.solve(w, y))


@pytest.mark.parametrize("w", CASES.values(), ids=CASES)
def test_multiplier_of_the_least_length(w):
    """x = A^H t, and t is what the least |x|^2 / 2 costs for more data."""
    system = _system(w)
    y = jnp.asarray(w @ np.arange(1.0, 1 + w.shape[1]))
    multiplier = system.multiplier(y)
    assert _close(w.T @ multiplier, system.pseudo_inverse(y))
    assert _close(jax.grad(lambda y: jnp.sum(system.pseudo_inverse(y) ** 2) / 2)(y), multiplier)


@pytest.mark.parametrize("w", CASES.values(), ids=CASES)
def test_eigenvalues_of_the_link_matrix(w):
    """[[0, A], [A', 0]] has eigenvalues s, -s and m + n - 2p zeros, with eigenvectors (u, v) and (u, -v)."""
    m, n = w.shape
    system, link = _system(w), np.block([[np.zeros((m, m)), w], [w.T, np.zeros((n, n))]])
    p = int(system.rank)
    u, s, v = np.asarray(system.left)[:p], np.asarray(system.values)[:p], np.asarray(system.right)[:p]
    assert np.allclose(np.linalg.eigvalsh(link), np.sort(np.r_[s, -s, np.zeros(m + n - 2 * p)]), rtol=0, atol=1e-12)
    for sign in (1, -1):
        vectors = np.concatenate([u, sign * v], 1)
        assert _close(vectors @ link, sign * s[:, None] * vectors, 1e-12)


def test_four_pixels_from_five_rays():
    system, x = _system(CT), np.arange(1.0, 5)
    assert np.allclose(system.values, np.sqrt([3 + 5**0.5, 2, 2, 3 - 5**0.5]), rtol=1e-14) and int(system.rank) == 4
    assert _close(system.pseudo_inverse(jnp.asarray(CT @ x)), x, 1e-13)
    few = _system(CT[:4])  # without the diagonal
    assert int(few.rank) == 3 and np.isclose(few.condition_number(), 2**0.5)
    hidden = few.null_space_projection(jnp.array([1.0, 0, 0, 0]))
    assert np.allclose(hidden, np.array([1, -1, -1, 1]) / 4, rtol=0, atol=1e-14)


def test_polynomial_regression():
    """A polynomial of very many terms: Tikhonov's is tame between the points, the interpolation is not."""
    a = np.linspace(-1, 1, 14)
    w, fine = np.vander(a, 14, increasing=True), np.vander(np.linspace(-1, 1, 101), 14, increasing=True)
    y, truth = np.sin(3 * a) + 0.1 * np.random.default_rng(0).normal(size=14), np.sin(3 * np.linspace(-1, 1, 101))
    system = _system(w)
    strengths = jnp.array([1e-3, 1e-1])
    path = _path(system, jnp.asarray(y), strengths)
    for x, strength in zip(path, strengths, strict=True):
        assert _close(x, np.linalg.solve(w.T @ w + strength * np.eye(14), w.T @ y))
        assert np.abs(fine @ x - truth).max() < 0.35
    exact = system.pseudo_inverse(jnp.asarray(y))
    assert _close(w @ exact, y, 1e-9) and np.abs(fine @ exact - truth).max() > 1  # condition number 1e5
    u, s, vt = np.linalg.svd(w)
    assert _close(system.truncated(6).pseudo_inverse(jnp.asarray(y)), vt[:6].T @ (u.T[:6] @ y / s[:6]))
    assert np.isclose(system.truncated(6).condition_number(), s[0] / s[5])


@pytest.mark.parametrize("w", CASES.values(), ids=CASES)
def test_norms_and_freedom_of_tikhonov(w):
    system, y = _system(w), jnp.asarray(np.random.default_rng(2).normal(size=w.shape[0]))
    strengths = jnp.array([0.0, 0.3, 20.0])
    path, norms = _path(system, y, strengths), np.transpose(_norms(system, y, strengths))
    for x, found, strength in zip(path, norms, strengths, strict=True):
        inverse = np.linalg.pinv(w.T @ w + strength * np.eye(w.shape[1]), rcond=1e-12)
        assert _close(x, inverse @ w.T @ y)
        assert np.allclose(found, [np.linalg.norm(w @ x - y), np.linalg.norm(x)], rtol=0, atol=1e-12)
        assert np.isclose(system.tikhonov_freedom(strength), np.trace(w @ inverse @ w.T))


def _kinds():
    """Operators of every kind of numbers, with shape and dtype of x, and the size of the Krylov space."""
    mask = jnp.asarray(np.random.default_rng(1).random((3, 4)) < 0.6)
    factors = jnp.asarray(np.random.default_rng(2).normal(size=(3, 4, 2)))
    weigh = linalg.Weighted(identity(), 1.0, factors)
    channels = stack(compose(compose(masked_fourier(mask), complex_channels()), weigh), scale(jnp.asarray(0.3), identity()))
    w = RNG.normal(size=(9, 6)) + 1j * RNG.normal(size=(9, 6))
    return {
        "real": (_matrix(RNG.normal(size=(6, 9))), (9,), float),
        "complex": (_matrix(w), (6,), complex),
        "deficient": (_matrix(CASES["p < m, n"]), (5,), float),
        "real to complex and real": (channels, (3, 4, 2), float),
    }


@pytest.mark.parametrize("A, shape, dtype", _kinds().values(), ids=_kinds())
def test_krylov_system_is_exact_in_the_end(A, shape, dtype):
    """Once its space is exhausted it gives what the whole system gives, for every strength; more steps do no harm."""
    rng = np.random.default_rng(3)
    like = jax.eval_shape(A, jax.ShapeDtypeStruct(shape, dtype))
    parts = jax.tree.map(lambda a: [rng.normal(size=a.shape) for _ in range(1 + (a.dtype == complex))], like)
    y = jax.tree.map(lambda a, p: jnp.asarray(p[0] if len(p) == 1 else p[0] + 1j * p[1]), like, parts)
    whole, krylov = _singular_system(A, shape, dtype), _krylov_system(A, y, 30)
    assert krylov.right.dtype == dtype and int(krylov.rank) <= int(whole.rank) and krylov.num_data() == whole.num_data()
    strengths = jnp.array([0.0, 1e-3, 0.5])
    assert _close(_path(krylov, y, strengths), _path(whole, y, strengths), 1e-9)  # condition number of the deficient one
    assert np.allclose(_norms(krylov, y, strengths), _norms(whole, y, strengths), rtol=1e-9, atol=1e-12)
    used = krylov.seen() > 0
    assert jnp.abs(krylov.values[used][:, None] - whole.values[None]).min(1).max() < 1e-9 * whole.values[0]


def test_krylov_system_equals_lsqr_step_by_step():
    """SciPy's LSQR of k steps for each strength, from one bidiagonalisation; and the residual norms are true."""
    w, y = RNG.normal(size=(20, 30)), RNG.normal(size=20)
    strengths = jnp.array([1e-6, 1e-1, 10.0])
    for k in (1, 6):
        system = _krylov_system(_matrix(w), jnp.asarray(y), k)
        path, norms = _path(system, jnp.asarray(y), strengths), np.transpose(_norms(system, jnp.asarray(y), strengths))
        for x, found, strength in zip(path, norms, strengths, strict=True):
            assert _close(x, lsqr(w, y, damp=float(strength) ** 0.5, iter_lim=k, atol=0, btol=0, conlim=0)[0])
            assert np.allclose(found, [np.linalg.norm(w @ x - y), np.linalg.norm(x)], rtol=1e-10)


def test_precision_is_kept():
    """Single precision stays single, through every tool."""
    A, y = Matrix(jnp.asarray(CASES["p = n < m"], jnp.float32)), jnp.arange(7, dtype=jnp.float32)

    @jax.eval_shape
    def results():
        systems = [singular_system(A, (4,), jnp.float32), krylov_system(A, y, 3)]
        tools = [(s.tikhonov(y, 0.1), s.multiplier(y), l_curve(s, y), generalised_cross_validation(s, y)) for s in systems]
        norms = systems[0].tikhonov_norms(y)
        choice = discrepancy_principle(lambda s: norms(s)[0], norms(0.1)[0], 0.01, 1.0)
        return tools, choice, norms(0.1), systems[1].tikhonov_freedom(0.1), influence_trace(jax.random.key(0), A, y, 2, 3)(0.1)

    assert {a.dtype for a in jax.tree.leaves(results) if a.dtype != bool} == {jnp.dtype("float32")}


def test_corner_of_the_l_curve():
    """The curvature is that of the curve drawn, and its corner on Hansen's problem is nearly the best strength of all."""
    for seed in range(3):
        system, y, x, _ = _noisy_shaw(seed=seed)
        curve = _l_curve(system, y)
        fine = jnp.geomspace(1e-10, 1, 300)
        errors = np.linalg.norm(_path(system, y, fine) - x[None], axis=1)
        assert np.linalg.norm(system.tikhonov(y, curve.strength) - x) < 1.25 * errors.min()
        assert errors.max() > 100 * errors.min()
    rho, eta = np.log(curve.residual_norms), np.log(curve.solution_norms)
    step = np.log(curve.strengths[1] / curve.strengths[0])
    first, second = (np.gradient(a, step) for a in (rho, eta)), (np.gradient(np.gradient(a, step), step) for a in (rho, eta))
    (rho1, eta1), (rho2, eta2) = first, second
    wanted = (rho1 * eta2 - rho2 * eta1) / (rho1**2 + eta1**2) ** 1.5
    best = int(np.argmax(curve.curvature))
    assert np.isclose(curve.curvature[best], wanted[best], rtol=0.1)  # of differences over a step of 0.3
    assert curve.strengths[best - 1] < curve.strength < curve.strengths[best + 1]
    assert wanted[best] > 3 and best == np.argmax(wanted)


@pytest.mark.parametrize("sigma", [0.1, 0.01])
def test_cross_validation_finds_the_least_score(sigma):
    """Brute force over the definition, with the influence matrix written out; near the best prediction."""
    system, y, x, w = _noisy_shaw(sigma, seed=2)
    choice = _cross_validation(system, y)

    def definition(strength):
        influence = w @ np.linalg.solve(w.T @ w + strength * np.eye(64), w.T)
        return 64 * np.sum((influence @ y - y) ** 2) / np.trace(np.eye(64) - influence) ** 2

    fine = np.geomspace(choice.strength / 3, choice.strength * 3, 61)
    scores = [definition(strength) for strength in fine]
    assert np.argmin(scores) == 30 and np.isclose(definition(choice.strength), min(scores), rtol=1e-9)
    tried = slice(100, None, 10)
    assert np.allclose(choice.scores[tried], [definition(s) for s in choice.strengths[tried]], rtol=1e-6)
    errors = jnp.linalg.norm(_path(system, y, choice.strengths) @ w.T - (w @ x)[None], axis=1)
    assert np.linalg.norm(w @ system.tikhonov(y, choice.strength) - w @ x) < 1.2 * errors.min()


def test_cross_validation_without_a_matrix():
    """A Krylov space and random probes lead to nearly the same strength."""
    system, y, x, w = _noisy_shaw(seed=1)
    A = _matrix(w)

    @jax.jit
    def choose(A, y):
        freedom_fn = influence_trace(jax.random.key(0), A, y, num_probes=30, num_steps=15)
        return generalised_cross_validation(krylov_system(A, y, 15), y, freedom_fn=freedom_fn)

    found = choose(A, y)
    wanted = _cross_validation(system, y)
    assert abs(np.log(found.strength / wanted.strength)) < 0.3  # 30 probes
    assert np.linalg.norm(system.tikhonov(y, found.strength) - x) < 1.02 * np.linalg.norm(system.tikhonov(y, wanted.strength) - x)


def test_trace_of_a_diagonal_is_exact():
    """Random signs see a diagonal without variance, real and complex."""
    values = jnp.array([3.0, 2.0, 1.0, 0.5, 0.0])
    for dtype in (float, complex):
        A = linalg.Weighted(identity(), values)
        found = jax.jit(lambda y, A=A: influence_trace(jax.random.key(0), A, y, num_probes=2, num_steps=5)(0.7))(jnp.zeros(5, dtype))
        assert np.isclose(found, jnp.sum(values**2 / (values**2 + 0.7)), rtol=1e-10)


@pytest.mark.parametrize("A, shape, dtype", _kinds().values(), ids=_kinds())
def test_trace_is_unbiased(A, shape, dtype):
    """Within 4 standard deviations, of which each probe's variance is at most 2 |F|^2."""
    y = jax.eval_shape(A, jax.ShapeDtypeStruct(shape, dtype))
    system = _singular_system(A, shape, dtype)
    trace = jax.jit(lambda key, A: influence_trace(key, A, y, 100, 30)(0.5))(jax.random.key(5), A)
    squared = jnp.sum((system.values**2 / (system.values**2 + 0.5)) ** 2)
    assert abs(trace - system.tikhonov_freedom(0.5)) < 4 * jnp.sqrt(2 * squared / 100)


def test_discrepancy_principle_is_exact():
    """One singular value has a closed form; Hansen's problem meets its noise; few evaluations do."""
    system = singular_system(linalg.Weighted(identity(), 3.0), (1,))
    norms = system.tikhonov_norms(jnp.array([5.0]))
    choice = jax.jit(lambda tau: discrepancy_principle(lambda s: norms(s)[0], 2.0, 1e-6, 1e6, tau, tolerance=1e-12))(1.0)
    assert np.isclose(choice.strength, 9 * 2 / (5 - 2), rtol=1e-9) and choice.converged
    system, y, x, w = _noisy_shaw()
    norms = system.tikhonov_norms(y)
    choose = jax.jit(lambda noise_norm, high: discrepancy_principle(lambda s: norms(s)[0], noise_norm, 1e-12, high, 1.05, tolerance=1e-12))
    choice = choose(0.08, 1e3)
    assert np.isclose(np.linalg.norm(w @ system.tikhonov(y, choice.strength) - y), 1.05 * 0.08, rtol=1e-9) and choice.converged
    tried = np.isfinite(choice.strengths)
    assert 3 < tried.sum() < 20
    assert np.allclose(jax.vmap(norms)(choice.strengths[tried])[0], choice.residual_norms[tried], rtol=1e-12)
    assert np.all(np.diff(np.asarray(choice.residual_norms[tried])[np.argsort(choice.strengths[tried])]) >= 0)
    stopped = choose(5.0, 1e-3)
    assert np.isclose(stopped.strength, 1e-3) and not stopped.converged  # 5 is out of reach


def test_hadamards_questions():
    w, x = _shaw()
    y = w @ x + 0.01 * RNG.normal(size=64)
    diagnose = jax.jit(hadamard, static_argnums=1)
    noisy = diagnose(_matrix(w), (64,), jnp.asarray(y))
    assert noisy.exponential and 1.5 < noisy.rate < 2 and noisy.condition_number > 1e10 and noisy.null_fraction == 1 - noisy.rank / 64
    assert noisy.picard_power < 0.5 and "severely ill-posed" in noisy.verdict() and "not met" in noisy.verdict()
    logs = [np.log(a[: int(noisy.rank)]) for a in (noisy.values, noisy.coefficients)]
    assert np.isclose(noisy.picard_power, np.polyfit(*logs, 1)[0])
    beyond = np.linalg.svd(w)[0].T[int(noisy.rank) :]
    assert np.isclose(noisy.unexplained, np.linalg.norm(beyond @ y) / np.linalg.norm(y), rtol=1e-6)  # borders of the numerical range
    integral = np.tril(np.ones((64, 64))) / 64  # s_i = 1 / (pi (i - 1/2)), nearly
    once, twice = hadamard(_matrix(integral), (64,)), diagnose(_matrix(integral @ integral), (64,), jnp.asarray(integral @ integral @ np.ones(64)))
    assert not once.exponential and 0.8 < once.power < 1 and "mildly ill-posed" in once.verdict() and "one solution" in once.verdict()
    assert not twice.exponential and 1.6 < twice.power < 2 and "moderately ill-posed" in twice.verdict()
    assert twice.picard_power > 1 and "y looks like data of a bounded x" in twice.verdict() and twice.unexplained < 1e-12
    assert once.coefficients is None and once.unexplained is None and "Picard" not in once.verdict()
    rays = diagnose(_matrix(CT), (4,), jnp.array([1.0, 0, 0, 0, 0]))
    assert rays.verdict().splitlines()[0].startswith("existence: 1 of 5 dimensions of the data have none; of this y no x explains")
    assert rays.verdict().splitlines()[2] == "stability: condition number 2.62: stable"
    few = diagnose(_matrix(CT[:4]), (4,))
    assert few.verdict().splitlines()[1] == "uniqueness: 1 of 4 dimensions, 25 %, are not seen"
    nothing = diagnose(scale(jnp.asarray(0.0), identity()), (4,), jnp.ones(4))
    assert np.isinf(nothing.condition_number) and nothing.unexplained == 1 and nothing.verdict()


def test_data_that_are_not_finite_spread():
    """NaN in data or operator, where it is not known before, makes every answer NaN rather than a plausible one."""
    y, w = jnp.arange(5.0).at[2].set(jnp.nan), jnp.asarray(CT).at[1, 1].set(jnp.nan)
    system = _system(CT)
    assert np.isnan(_l_curve(system, y).strength) and np.isnan(_cross_validation(system, y).strength)
    assert np.isfinite(_cross_validation(system, jnp.arange(5.0)).strength)
    for broken in (_krylov_system(_matrix(CT), y, 3), _krylov_system(_matrix(w), jnp.ones(5), 3), _singular_system(_matrix(w), (4,), float)):
        assert np.all(np.isnan(broken.values)) and np.all(np.isnan(broken.pseudo_inverse(jnp.ones(5))))
    asked = jax.jit(hadamard, static_argnums=1)
    broken = asked(_matrix(w), (4,), jnp.ones(5))
    assert np.isnan(broken.null_fraction) and np.isnan(broken.condition_number) and "not finite" in broken.verdict()
    poor = asked(_matrix(np.diag([100.0, 10, 1, 0.1])), (4,), y[1:])
    assert np.isnan(poor.unexplained) and np.isnan(poor.picard_power) and int(poor.rank) == 4


@pytest.mark.parametrize("value, least", [(jnp.nan, jnp.nan), (jnp.inf, jnp.nan), (0.0, 2.0)])
def test_grid_minimum_is_nan_of_scores_that_are(value, least):
    """Also of one score alone; infinite ones only if there is no other."""
    grid = jnp.geomspace(0.5, 8, 9)
    fn = {0.0: lambda s: jnp.log(s / 2) ** 2, jnp.inf: lambda s: s + jnp.inf}.get(value, lambda s: jnp.where(s > 7, jnp.nan, s))
    assert np.isclose(jax.jit(lambda grid: grid_minimum(fn, grid)[0])(grid), least, rtol=1e-7, equal_nan=True)  # flat: a root of eps


def test_picard_plot_draws_what_it_is_given(tmp_path):
    """Values that fall exponentially are a straight line on a logarithmic scale."""
    values = np.exp(-np.arange(40.0))
    picard_plot(tmp_path / "a.png", values, 0.1 * values**0.5, rank=30, noise=1e-6, data_unit="mm", image_unit="1/mm", title="a $ test")
    picture = imread(tmp_path / "a.png")[..., :3]
    drawn = np.abs(picture - np.array([0xFF, 0xD1, 0x66]) / 255).max(-1) < 0.05
    rows, columns = np.nonzero(drawn[:370])  # above the legend
    slope, start = np.polyfit(columns, rows, 1)
    assert slope > 0 and len(rows) > 500 and np.abs(rows - slope * columns - start).max() < 4  # a line of 3 pixels
    rising = np.nonzero(np.abs(picture[:370] - np.array([0xFF, 0x6F, 0x91]) / 255).max(-1) < 0.05)
    assert np.polyfit(rising[1], rising[0], 1)[0] < 0  # up the picture
    with pytest.raises(ValueError, match=r"values \[40\] and coefficients \[3\]"):
        picard_plot(tmp_path / "b.png", values, values[:3])
    assert not (tmp_path / "b.png").exists()


def _discrepancy(**changes):
    norms = _system(CT).tikhonov_norms(jnp.arange(5.0))
    return discrepancy_principle(lambda s: norms(s)[0], **{"noise_norm": 2.0, "low": 1e-3, "high": 1e3, **changes})


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: _system(CT).tikhonov(jnp.ones(5), -1.0), "strength is -1, at least 0"),
        (lambda: _system(CT).tikhonov_norms(jnp.ones(5))(-0.5), "strength is -0.5"),
        (lambda: _system(CT).truncated(0), "at least 1 singular value, got 0"),
        (lambda: l_curve(_system(CT), jnp.ones(5), [1.0, -1.0]), "strengths .* > 0, ascending"),
        (lambda: generalised_cross_validation(_system(CT), jnp.ones(5), [[1.0]]), "got shape \\[1, 1\\]"),
        (lambda: krylov_system(_matrix(CT), jnp.ones(5), 0), "num_steps >= 1, got 0"),
        (lambda: krylov_system(_matrix(CT), jnp.full(5, jnp.inf), 3), "y of krylov_system holds NaN or infinite"),
        (lambda: hadamard(_matrix(CT), (4,), jnp.full(5, jnp.nan)), "y of hadamard holds NaN"),
        (lambda: hadamard(_matrix(jnp.full((3, 4), jnp.nan)), (4,)), "matrix of A in singular_system holds NaN"),
        (lambda: influence_trace(jax.random.key(0), _matrix(CT), jnp.ones(5), 0), "num_probes >= 1, got 0"),
        (lambda: _discrepancy(noise_norm=-1.0), "noise_norm > 0"),
        (lambda: _discrepancy(low=2.0, high=1.0), "low < high, got .* low 2, high 1"),
        (lambda: _discrepancy(tau=0.0), "tau 0"),
        (lambda: _discrepancy(noise_norm=100.0), "leave residual norms from 2 to 5.456, which do not hold 100"),
    ],
)
def test_refuses(call, text):
    with pytest.raises(ValueError, match=text) as error:
        call()
    assert "\n" not in str(error.value)
