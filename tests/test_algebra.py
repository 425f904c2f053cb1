"""Operators made of operators, their matrices, singular values and norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows_ct import ANGLES
from rows_image import Flip, Matrix

from medjax import lanczos, linalg
from medjax.operators.algebra import add, adjoint, compose, identity, normal, restrict, scale, stack
from medjax.operators.blur import blur
from medjax.operators.complex_channels import complex_channels
from medjax.operators.dense import dense
from medjax.operators.inpaint import inpaint
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.parallel_beam import parallel_beam
from medjax.operators.spectral import singular_system


def _close(a, b, tolerance=1e-12):
    return np.linalg.norm(np.asarray(a) - np.asarray(b)) <= tolerance * np.linalg.norm(b)


def _matrix(seed, *shape):
    return Matrix(jnp.asarray(np.random.default_rng(seed).normal(size=shape)))


def test_scale_multiplies_and_composition_applies_the_inner_first():
    A, x = parallel_beam(12, ANGLES), jnp.asarray(np.random.default_rng(0).normal(size=(12, 12)))
    assert _close(scale(0.0193, A)(x), 0.0193 * A(x))
    assert _close(compose(A, Flip())(x), A(x[::-1]))


def test_a_complex_factor_makes_complex_data():
    A, c, x = _matrix(0, 4, 5), 0.5 - 2j, jnp.arange(1.0, 6.0)
    y = jnp.array([1 + 1j, 2.0, -3j, 0.5 + 4j])
    assert _close(scale(c, A)(x), c * (A.w @ x))
    assert np.isclose(linalg.vdot(scale(c, A)(x), y), linalg.vdot(x, scale(c, A).adjoint(y)), rtol=1e-13)
    assert _close(scale(c, A).adjoint(y), np.conj(c) * (A.w.T @ y))
    assert scale(c, identity())(jnp.ones(3, jnp.float32)).dtype == jnp.complex64
    assert np.array_equal(scale(0.5, identity())(jnp.arange(3)), [0, 0.5, 1])


def test_matrices_of_combinations_are_combinations_of_matrices():
    A, B, C = _matrix(0, 4, 5), _matrix(1, 4, 5), _matrix(2, 3, 4)
    wanted = {
        "add": (add(A, B), A.w + B.w, 5),
        "scale": (scale(jnp.asarray(-2.0), A), -2 * A.w, 5),
        "compose": (compose(C, A), C.w @ A.w, 5),
        "normal": (normal(A), A.w.T @ A.w, 5),
        "adjoint": (adjoint(A), A.w.T, 4),
        "stack": (stack(A, identity(), compose(C, B)), jnp.concatenate([A.w, jnp.eye(5), C.w @ B.w]), 5),
        "restrict": (restrict(A, slice(1, 4, 2), 4), A.w[1:4:2], 5),
    }
    for name, (operator, matrix, size) in wanted.items():
        assert _close(dense(operator, (size,)), matrix), name
    assert adjoint(adjoint(A)) is A


def test_stack_has_the_sum_of_normal_operators_and_solves_by_conjugate_gradient():
    A, B = _matrix(0, 6, 5), _matrix(1, 3, 5)
    S, truth = stack(A, scale(jnp.asarray(0.5), B)), jnp.arange(1.0, 6.0)
    assert _close(dense(normal(S), (5,)), A.w.T @ A.w + 0.25 * B.w.T @ B.w)
    y = S(truth)
    x = linalg.conjugate_gradient(normal(S), S.adjoint(y), num_steps=30, tolerance=1e-14)
    assert _close(x, truth, 1e-9)  # condition number of the normal equations
    assert np.isclose(linalg.norm(y) ** 2, linalg.norm(A(truth)) ** 2 + linalg.norm(B(truth)) ** 2 / 4)


def test_restriction_uses_the_views_of_a_geometry():
    A = parallel_beam(12, ANGLES)
    few = restrict(A, [4, 1])
    assert few.angles.shape == (2,)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(12, 12)))
    assert _close(few(x), A(x)[jnp.array([4, 1])])


def test_what_is_made_of_views_has_views():
    A = parallel_beam(12, ANGLES)
    double = compose(scale(2.0, A), scale(0.5, identity()))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(12, 12)))
    assert _close(restrict(double, [4, 1])(x), A(x)[jnp.array([4, 1])])
    assert _close(restrict(restrict(double, [4, 1]), [1])(x), A(x)[jnp.array([1])])
    assert not hasattr(compose(identity(), A), "views") and not hasattr(scale(2.0, identity()), "views")


def test_repeated_measurements_add_up_in_the_adjoint():
    A = restrict(identity(), [2, 2, 0], 3)
    assert np.array_equal(A.adjoint(jnp.array([1.0, 10.0, 100.0])), [100, 0, 11])


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: stack(), "at least one operator"),
        (lambda: restrict(identity(), [0]), "needs size"),
        (lambda: restrict(identity(), [3], 3), "from -3 to 2, got 3"),
        (lambda: restrict(identity(), [0.5], 3), "integers"),
        (lambda: restrict(identity(), jnp.zeros(0, int), 3), "k > 0"),
        (lambda: stack(identity(), identity()).adjoint(jnp.ones(3)), "tuple of 2 blocks"),
        (lambda: add(identity(), stack(identity()))(jnp.ones(3)), "must be equal"),
        (lambda: dense(identity(), (3, 0)), "at least one entry"),
        (lambda: singular_system(identity(), (3,), tolerance=1.0), "in \\[0, 1\\)"),
    ],
)
def test_refuses(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_dense_of_complex_operators():
    A = masked_fourier(jnp.ones((2, 3)))
    M = dense(A, (2, 3), complex)
    assert _close(jnp.conj(M).T @ M, np.eye(6))
    x = np.arange(6.0).reshape(2, 3) - 1j
    assert _close(M @ x.ravel(), A(jnp.asarray(x)).ravel())


def test_singular_values_and_vectors_of_a_blur():
    """A periodic blur has the moduli of its transfer function as singular values."""
    A = blur(jnp.array([[0.1, 0.6, 0.3]]), (3, 8))
    system = singular_system(A, (3, 8))
    transfer = np.abs(np.fft.fft2(np.asarray(A(jnp.zeros((3, 8)).at[0, 0].set(1)))))
    assert np.allclose(system.values, np.sort(transfer.ravel())[::-1], rtol=0, atol=1e-14)
    assert np.isclose(system.condition_number(), transfer.max() / transfer.min())
    for u, s, v in zip(system.left, system.values, system.right, strict=True):
        assert np.allclose(A(v), s * u, rtol=0, atol=1e-13)


def _three_systems():
    """Rank-deficient operators: real to real, complex to complex, real x to complex data beside real ones."""
    mask = jnp.asarray(np.random.default_rng(1).random((3, 4)) < 0.5)
    real = compose(_matrix(2, 6, 3), _matrix(3, 3, 5))
    channels = stack(compose(masked_fourier(mask), complex_channels()), scale(jnp.asarray(0.0), identity()))
    return [(real, (5,), float, 3), (masked_fourier(mask), (3, 4), complex, int(mask.sum())), (channels, (3, 4, 2), float, 2 * int(mask.sum()))]


@pytest.mark.parametrize("A, shape, dtype, rank", _three_systems())
def test_range_and_null_space(A, shape, dtype, rank):
    system = singular_system(A, shape, dtype)
    rng = np.random.default_rng(0)
    x = jnp.asarray((rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype) if dtype is complex else rng.normal(size=shape))
    assert int(system.rank) == rank
    assert 1 <= system.condition_number() < 1e6
    invisible, visible = system.null_space_projection(x), system.row_space_projection(x)
    assert invisible.dtype == x.dtype
    assert linalg.norm(A(invisible)) <= 1e-12 * linalg.norm(x) < linalg.norm(invisible)
    assert _close(visible + invisible, x)
    assert _close(system.pseudo_inverse(A(x)), visible)
    y = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)).astype(a.dtype) * (1 + 0j if jnp.iscomplexobj(a) else 1), A(x))
    explained = system.range_projection(y)
    gap = jax.tree.map(jnp.subtract, y, explained)
    assert linalg.norm(A.adjoint(gap)) <= 1e-12 * linalg.norm(y)  # the rest is orthogonal to the range
    again = A(system.pseudo_inverse(y))
    assert linalg.norm(jax.tree.map(jnp.subtract, again, explained)) <= 1e-12 * linalg.norm(y)


def test_damped_pseudo_inverse_is_tikhonovs():
    A, y = _matrix(0, 6, 4), jnp.arange(6.0)
    got = singular_system(A, (4,)).pseudo_inverse(y, lambda s: s**2 / (s**2 + 0.3))
    assert _close(got, np.linalg.solve(A.w.T @ A.w + 0.3 * np.eye(4), A.w.T @ y))


def test_zero_operator_has_no_range():
    system = singular_system(scale(jnp.asarray(0.0), identity()), (3,))
    assert int(system.rank) == 0 and np.isinf(system.condition_number())
    assert np.array_equal(system.pseudo_inverse(jnp.ones(3)), np.zeros(3))


SPECTRA = {  # 300 singular values: what power iteration needs hundreds of steps for
    "gap": np.r_[2, np.linspace(1, 0, 299)],
    "small gap": np.r_[1, 0.999, np.linspace(0.998, 0, 298)],
    "no gap": np.linspace(1, 0, 300),
    "nearly one value": 1 - 1e-4 * np.linspace(0, 1, 300) ** 2,
    "multiple": np.r_[np.ones(5), np.full(295, 0.3)],
    "decay": 1 / np.arange(1, 301),
    "exponential decay": 2.0 ** -np.arange(300),
}


_norms = jax.jit(lambda A, dtype, keys: jax.vmap(lambda key: lanczos.operator_norm(A, jnp.zeros(300, dtype), 60, key))(keys), static_argnums=1)
_bounds = jax.jit(lambda A, dtype: lanczos.operator_norm_bounds(A, jax.ShapeDtypeStruct((300,), dtype), 60), static_argnums=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_operator_norm_is_true(spectrum, dtype):
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.normal(size=(300, 300)) + 1j * rng.normal(size=(300, 300)) * np.iscomplexobj(dtype()))[0] for _ in range(2))
    if not np.iscomplexobj(dtype()):
        u, v = u.real, v.real
    w = ((u * spectrum) @ v).astype(dtype)
    wanted = np.linalg.svd(w.astype(np.complex128), compute_uv=False)[0]
    A = Matrix(jnp.asarray(w))
    slack = 20 * np.finfo(dtype).eps
    norms = _norms(A, dtype, jax.random.split(jax.random.key(0), 3))
    lower, upper = _bounds(A, dtype)
    assert all(a.dtype == np.finfo(dtype).dtype for a in (norms, lower, upper))
    for norm in (*norms, lower):
        assert wanted * (1 - 1e-4) <= norm <= wanted * (1 + slack)
    assert wanted <= upper <= wanted * 1.01 + slack


@pytest.mark.parametrize("spectrum", ["gap", "exponential decay"])
def test_bounds_close_where_the_spectrum_has_a_gap(spectrum):
    """To a hundred roundings; vectors that lose their orthogonality miss that by far."""
    lower, upper = lanczos.operator_norm_bounds(Matrix(jnp.diag(jnp.asarray(SPECTRA[spectrum]))), jnp.zeros(300), 20)
    assert 0 <= upper - lower <= 100 * np.finfo(float).eps * upper


def test_upper_bound_holds_as_often_as_it_says():
    """With a failure of 0.5 in place of 1e-6 the bound may fail for at most half of the keys; it is not idle either."""
    A = Matrix(jnp.asarray(np.diag(np.r_[1, np.linspace(0.9, 0, 39)])))
    like = jnp.zeros(40)
    keys = jax.random.split(jax.random.key(0), 400)
    uppers = jax.jit(jax.vmap(lambda key, e: lanczos.operator_norm_bounds(A, like, 3, key, e)[1], (0, None)))
    assert 0.05 <= np.mean(uppers(keys, 0.5) < 1) <= 0.55  # 400 draws: 0.5 within two standard errors
    assert np.all(uppers(keys, 1e-6) >= 1)


def test_operator_norm_takes_trees_and_operators_that_exhaust_the_space():
    A = stack(compose(masked_fourier(jnp.asarray(np.random.default_rng(0).random((3, 4)))), complex_channels()), identity())
    x = jax.ShapeDtypeStruct((3, 4, 2), float)
    assert np.isclose(lanczos.operator_norm(A, x), np.sqrt(1 + np.max(A.operators[0].outer.mask) ** 2), rtol=1e-12)
    back = adjoint(A)
    assert np.isclose(lanczos.operator_norm(back, A(jnp.zeros((3, 4, 2)))), lanczos.operator_norm(A, x), rtol=1e-12)
    for few in (identity(), scale(jnp.asarray(0.0), identity())):
        lower, upper = lanczos.operator_norm_bounds(few, jnp.zeros(3))
        assert np.isclose(lower, upper, rtol=0, atol=1e-12) and np.isfinite(upper)


def test_derivative_of_the_operator_norm():
    """d ||A|| = u^H dA v; zero and finite for the zero operator."""
    w = np.random.default_rng(0).normal(size=(7, 5))
    u, _, vh = np.linalg.svd(w)
    slope = jax.grad(lambda w: lanczos.operator_norm(Matrix(w), jnp.zeros(5)))(jnp.asarray(w))
    assert np.allclose(slope, np.outer(u[:, 0], vh[0]), rtol=0, atol=1e-10)
    mask_slope = jax.grad(lambda m: lanczos.operator_norm(inpaint(m), jnp.zeros(3)))(jnp.zeros(3) + jnp.array([1.0, 2, 3]))
    assert np.allclose(mask_slope, [0, 0, 1], rtol=0, atol=1e-12)
    assert np.all(np.isfinite(jax.grad(lambda c: lanczos.operator_norm(scale(c, identity()), jnp.zeros(3)))(0.0)))
