"""Contract of every linear operator. A new operator adds one row to OPERATORS of rows_ct, rows_mri or rows_image.

Data y may be an array or a pytree of arrays (`algebra.stack`): `jax.tree.map` and `linalg.vdot` treat both alike.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rows_ct
import rows_image
import rows_mri

from medjax import linalg

OPERATORS = {**rows_ct.OPERATORS, **rows_mri.OPERATORS, **rows_image.OPERATORS}
# other sizes and options of code that another row covers: held to their truth and their adjoint only, for the sake of time
VARIANTS = {
    *("parallel_joseph_coarse", "parallel_joseph_offset", "parallel_joseph_views", "parallel_fourier_default", "parallel_fourier_coarse"),
    *("parallel_fourier_steep", "parallel_fourier_views", "fan_fourier_curved", "fan_beam_curved", "focal_blur_learned", "masked_fourier_bool"),
    *("cone_beam_flat", "cone_vectors_views"),
    *("sense_odd", "blur_wide", "blur_zero", "blur_volume", "downsample_cubic", "inpaint_channels", "gradient_volume", "nufft_finufft"),
}
KINDS = [name for name in OPERATORS if name not in VARIANTS]
CASES = [*KINDS, *(name for name in OPERATORS if name in VARIANTS)]
# of scope "module", so that all tests of a row follow each other and find its programs compiled already
cases = pytest.mark.parametrize("row", [OPERATORS[name] for name in CASES], ids=CASES, scope="module")
kinds = pytest.mark.parametrize("row", [OPERATORS[name] for name in KINDS], ids=KINDS, scope="module")
SINGLE = {jnp.dtype("float64"): jnp.float32, jnp.dtype("complex128"): jnp.complex64}

_apply = jax.jit(lambda A, x: A(x))
_adjoint = jax.jit(lambda A, y: A.adjoint(y))


def _random(key, like):
    """A pytree of normal numbers in the shapes of `like`."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))

    def draw(a):
        real = rng.normal(size=a.shape)
        both = real + 1j * rng.normal(size=a.shape) if jnp.issubdtype(a.dtype, jnp.complexfloating) else real
        return jnp.asarray(both.astype(a.dtype))

    return jax.tree.map(draw, like)


def _draw(key, A, shape, dtype):
    """Random x in the domain and y in the range of A."""
    x = jax.ShapeDtypeStruct(shape, dtype)
    return _random(key, x), _random(jax.random.fold_in(key, 1), jax.eval_shape(A, x))


def _conj(a):
    return jax.tree.map(lambda u: jnp.asarray(np.conj(u)), a)


def _sum(a, b, weight=1.0):
    """a + weight b, by numpy: nothing to compile."""
    return jax.tree.map(lambda u, v: jnp.asarray(np.asarray(u) + np.asarray(weight, v.dtype) * np.asarray(v)), a, b)


def _inner(a, b):
    """Re <a, b> of two pytrees, by numpy."""
    return sum(np.vdot(u, v).real for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def _norm(a):
    return np.sqrt(_inner(a, a))


def _is_complex(a):
    return all(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(a))


def _item(a, i):
    """Entry i of every leaf."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[i], a)


def _moved_leaves(A):
    """A with its floating leaves 1.1 times as large."""
    return jax.tree.map(lambda leaf: 1.1 * leaf if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, A)


def _kind(a):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), a)


def _assert_close(a, b, tolerance=1e-11):
    assert _kind(a) == _kind(b)
    assert _norm(_sum(a, b, -1)) <= tolerance * _norm(b)


def _assert_adjoint(A, x, y, tolerance):
    Ax, Aty = _apply(A, x), _adjoint(A, y)
    assert _kind(Aty) == _kind(x)
    bound = tolerance * _norm(Ax) * _norm(y)
    assert np.abs(_inner(Ax, y) - _inner(x, Aty)) <= bound
    if _is_complex(x):  # on a complex domain the imaginary part must agree, too
        iy = jax.tree.map(lambda leaf: 1j * np.asarray(leaf), y)
        assert np.abs(_inner(Ax, iy) - _inner(x, 1j * np.asarray(Aty))) <= bound


def _real_leaves(A):
    """The floating leaves of A and how to put others in their place; skips the test where there is none."""
    leaves, tree = jax.tree.flatten(A)
    places = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    if not places:
        pytest.skip("no real leaves")

    def rebuild(values):
        changed = dict(zip(places, values, strict=True))
        return jax.tree.unflatten(tree, [changed.get(i, leaf) for i, leaf in enumerate(leaves)])

    return [leaves[i] for i in places], rebuild


def _parts(x):
    """A real x itself, a complex one as its real and imaginary part: what derivatives of a real function are taken for."""
    return (jnp.real(x), jnp.imag(x)) if jnp.iscomplexobj(x) else (x,)


def _joined(parts):
    return jax.lax.complex(*parts) if len(parts) == 2 else parts[0]


def _energy(A, x, y):
    """Half the squared norm of A x - y."""
    residual = jax.tree.map(jnp.subtract, A(x), y)
    return linalg.vdot(residual, residual) / 2


@cases
def test_is_the_map_it_says(key, row):
    """A x against the same map written another way."""
    A = row.make(key)
    x = _random(key, jax.ShapeDtypeStruct(row.shape, row.dtype))
    got, expected = _apply(A, x), row.truth(A, x)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    assert _norm(_sum(got, expected, -1)) <= row.tolerance * _norm(expected)


@cases
def test_adjoint(key, row):
    A = row.make(key)
    _assert_adjoint(A, *_draw(key, A, row.shape, row.dtype), 1e-12)


@cases
def test_adjoint_in_single_precision(key, row):
    A = jax.tree.map(lambda leaf: leaf.astype(SINGLE.get(leaf.dtype, leaf.dtype)), row.make(key))
    x, y = _draw(key, A, row.shape, SINGLE[jnp.dtype(row.dtype)])
    assert all(leaf.dtype in SINGLE.values() for leaf in jax.tree.leaves(y))
    _assert_adjoint(A, x, y, 1e-6)


@kinds
def test_linear(key, row):
    A = row.make(key)
    (x, y), (z, w) = _draw(key, A, row.shape, row.dtype), _draw(jax.random.fold_in(key, 2), A, row.shape, row.dtype)
    _assert_close(_apply(A, _sum(x, z, -3)), _sum(_apply(A, x), _apply(A, z), -3))
    _assert_close(_adjoint(A, _sum(y, w, -3)), _sum(_adjoint(A, y), _adjoint(A, w), -3))


@kinds
def test_vmap(key, row):
    A = row.make(key)
    (x, y), (z, w) = _draw(key, A, row.shape, row.dtype), _draw(jax.random.fold_in(key, 2), A, row.shape, row.dtype)
    xs, ys = (jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *pair) for pair in ((x, z), (y, w)))
    outs, backs = jax.jit(lambda xs, ys: (jax.vmap(lambda x: A(x))(xs), jax.vmap(lambda y: A.adjoint(y))(ys)))(xs, ys)
    for i, (one_x, one_y) in enumerate(((x, y), (z, w))):
        _assert_close(_item(outs, i), _apply(A, one_x))
        _assert_close(_item(backs, i), _adjoint(A, one_y))


@kinds
def test_vmap_over_leaves(key, row):
    A = row.make(key)
    x, y = _draw(key, A, row.shape, row.dtype)
    other = _moved_leaves(A)
    both = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), A, other)
    if not jax.tree.leaves(A):
        pytest.skip("no leaves")
    outs, backs = jax.jit(lambda both: (jax.vmap(lambda A: A(x))(both), jax.vmap(lambda A: A.adjoint(y))(both)))(both)
    for i, each in enumerate((A, other)):
        _assert_close(_item(outs, i), _apply(each, x))
        _assert_close(_item(backs, i), _adjoint(each, y))


@kinds
def test_derivative_is_the_operator(key, row):
    A = row.make(key)
    (x, y), (v, _) = _draw(key, A, row.shape, row.dtype), _draw(jax.random.fold_in(key, 2), A, row.shape, row.dtype)
    _assert_close(jax.jit(lambda x, v: jax.jvp(A, (x,), (v,))[1])(x, v), _apply(A, v))
    if jnp.iscomplexobj(x) == _is_complex(y):
        _assert_close(jax.jit(lambda y: jax.linear_transpose(A, x)(y)[0])(y), _conj(_adjoint(A, _conj(y))))
        _assert_close(jax.jit(lambda x: jax.linear_transpose(A.adjoint, y)(x)[0])(x), _conj(_apply(A, _conj(x))))


@kinds
def test_two_derivatives_through_the_data_term(key, row):
    """The gradient of ||A x - y||^2 / 2 and its Hessian times v, for the real and the imaginary part of x."""
    A = row.make(key)
    (x, y), (v, _) = _draw(key, A, row.shape, row.dtype), _draw(jax.random.fold_in(key, 2), A, row.shape, row.dtype)
    slope_fn = jax.grad(lambda parts: _energy(A, _joined(parts), y))
    slope, curvature = jax.jit(lambda x, v: jax.jvp(slope_fn, (x,), (v,)))(_parts(x), _parts(v))
    _assert_close(_joined(slope), _adjoint(A, _sum(_apply(A, x), y, -1)))
    _assert_close(_joined(curvature), _adjoint(A, _apply(A, v)))


@kinds
def test_gradient_for_leaves(key, row):
    A = row.make(key)
    x, y = _draw(key, A, row.shape, row.dtype)
    values, rebuild = _real_leaves(A)
    direction = _random(jax.random.fold_in(key, 2), values)
    if row.constant:
        gradient = jax.grad(lambda values: linalg.vdot(rebuild(values)(x), y) + linalg.vdot(rebuild(values).adjoint(y), x))(values)
        assert not any(np.any(leaf) for leaf in gradient)
        return
    for loss in (lambda values: linalg.vdot(rebuild(values)(x), y), lambda values: linalg.vdot(rebuild(values).adjoint(y), x)):
        both = jax.jit(jax.value_and_grad(loss))
        moved = [both(_sum(values, direction, h))[0] for h in (1e-6, -1e-6)]
        difference, slope = (moved[0] - moved[1]) / 2e-6, _inner(both(values)[1], direction)
        # central differences with step 1e-6 are good to about 1e-10 / 1e-6 of the loss
        assert np.abs(difference - slope) <= 1e-5 * (np.abs(slope) + _norm(x))
        assert np.abs(slope) > 0


@kinds
def test_mixed_derivative(key, row):
    """How the gradient for x changes with the leaves, forward over reverse and reverse over reverse."""
    A = row.make(key)
    (x, y), (v, _) = _draw(key, A, row.shape, row.dtype), _draw(jax.random.fold_in(key, 2), A, row.shape, row.dtype)
    values, rebuild = _real_leaves(A)
    direction = _random(jax.random.fold_in(key, 3), values)
    if row.constant:
        pytest.skip("its leaves take no derivative")

    @jax.jit
    def explicit(values):
        A = rebuild(values)
        return linalg.vdot(A.adjoint(jax.tree.map(jnp.subtract, A(x), y)), v)

    def slope(values):
        parts = jax.grad(lambda parts: _energy(rebuild(values), _joined(parts), y))(_parts(x))
        return linalg.vdot(parts, _parts(v))

    difference = (explicit(_sum(values, direction, 1e-6)) - explicit(_sum(values, direction, -1e-6))) / 2e-6
    forward, backward = jax.jit(lambda values: (jax.jvp(slope, (values,), (direction,))[1], jax.grad(slope)(values)))(values)
    assert np.abs(forward - _inner(backward, direction)) <= 1e-10 * (np.abs(forward) + _norm(x))
    # central differences with step 1e-6, as for the gradient
    assert np.abs(difference - forward) <= 1e-5 * (np.abs(forward) + _norm(y) * _norm(v))


@kinds
def test_compiles_once(key, row):
    A = row.make(key)
    x, _ = _draw(key, A, row.shape, row.dtype)
    traces = []

    @jax.jit
    def apply(A, x):
        traces.append(1)
        return A(x)

    apply(A, x)
    apply(_moved_leaves(A), 2 * x)
    assert len(traces) == 1


def _wrong(shapes, shape):
    return [(3, *shape), shape[1:], (*shape[:-1], shape[-1] + 1)] if shapes is None else shapes


@cases
@pytest.mark.parametrize("promotion", ["allow", "raise"])
def test_refuses_wrong_shapes(key, row, promotion):
    """One line and no silent broadcasting, whatever the setting of rank promotion."""
    A = row.make(key)
    y = jax.eval_shape(A, jax.ShapeDtypeStruct(row.shape, row.dtype))
    calls = [(A, jax.ShapeDtypeStruct(shape, row.dtype)) for shape in _wrong(row.wrong, row.shape)]
    if not isinstance(y, tuple):
        calls += [(A.adjoint, jax.ShapeDtypeStruct(shape, y.dtype)) for shape in _wrong(row.wrong_data, y.shape)]
    for call, argument in calls:
        with jax.numpy_rank_promotion(promotion), pytest.raises((ValueError, TypeError)) as error:
            jax.eval_shape(call, argument)
        assert "\n" not in str(error.value)


def test_variants_are_rows():
    assert OPERATORS.keys() >= VARIANTS
