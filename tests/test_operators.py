"""Contract of every linear operator. A new operator adds one row to OPERATORS of rows_ct, rows_mri or rows_image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rows_ct
import rows_image
import rows_mri

from medjax import linalg
from medjax.operators.algebra import compose, scale
from medjax.operators.parallel_beam import parallel_beam

OPERATORS = {**rows_ct.OPERATORS, **rows_mri.OPERATORS, **rows_image.OPERATORS}
cases = pytest.mark.parametrize("make, shape, dtype", [row[:3] for row in OPERATORS.values()], ids=OPERATORS)


_apply = jax.jit(lambda A, x: A(x))
_adjoint = jax.jit(lambda A, y: A.adjoint(y))


def _draw(key, A, shape, dtype):
    """Random x in the domain and y in the range of A."""
    x = jax.random.normal(key, shape, dtype)
    out = jax.eval_shape(A, x)
    return x, jax.random.normal(jax.random.fold_in(key, 1), out.shape, out.dtype)


def _assert_close(a, b, tolerance=1e-11):
    assert a.shape == b.shape and a.dtype == b.dtype
    assert jnp.linalg.norm(a - b) <= tolerance * jnp.linalg.norm(b)


def _assert_adjoint(A, x, y, tolerance):
    Ax, Aty = _apply(A, x), _adjoint(A, y)
    assert Aty.shape == x.shape and Aty.dtype == x.dtype
    gap = jnp.vdot(Ax, y) - jnp.vdot(x, Aty)
    gap = gap if jnp.iscomplexobj(x) else jnp.real(gap)  # only the real inner product exists on a real domain
    assert jnp.abs(gap) <= tolerance * jnp.linalg.norm(Ax) * jnp.linalg.norm(y)


def _real_leaves(A):
    """The floating leaves of A and how to put others in their place."""
    leaves, tree = jax.tree.flatten(A)
    places = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]

    def rebuild(values):
        changed = dict(zip(places, values, strict=True))
        return jax.tree.unflatten(tree, [changed.get(i, leaf) for i, leaf in enumerate(leaves)])

    return [leaves[i] for i in places], rebuild


@pytest.mark.parametrize("row", OPERATORS.values(), ids=OPERATORS)
def test_is_the_map_it_says(key, row):
    """A x against the same map written another way."""
    A = row.make(key)
    x = jax.random.normal(jax.random.fold_in(key, 1), row.shape, row.dtype)
    expected = row.truth(A, x)
    assert np.linalg.norm(_apply(A, x) - expected) <= row.tolerance * np.linalg.norm(expected)


@cases
def test_adjoint(key, make, shape, dtype):
    A = make(key)
    _assert_adjoint(A, *_draw(key, A, shape, dtype), 1e-12)


@cases
def test_adjoint_in_single_precision(key, make, shape, dtype):
    single = {jnp.dtype("float64"): jnp.float32, jnp.dtype("complex128"): jnp.complex64}
    A = jax.tree.map(lambda leaf: leaf.astype(single.get(leaf.dtype, leaf.dtype)), make(key))
    x, y = _draw(key, A, shape, single[jnp.dtype(dtype)])
    assert y.dtype in single.values()
    _assert_adjoint(A, x, y, 1e-6)


@cases
def test_linear(key, make, shape, dtype):
    A = make(key)
    (x, y), (z, w) = _draw(key, A, shape, dtype), _draw(jax.random.fold_in(key, 2), A, shape, dtype)
    _assert_close(_apply(A, 2 * x - 3 * z), 2 * _apply(A, x) - 3 * _apply(A, z))
    _assert_close(_adjoint(A, 2 * y - 3 * w), 2 * _adjoint(A, y) - 3 * _adjoint(A, w))


@cases
def test_jit_and_vmap(key, make, shape, dtype):
    A = make(key)
    x, y = _draw(key, A, shape, dtype)
    xs, ys = jnp.stack([x, 2j * x if jnp.iscomplexobj(x) else 2 * x]), jnp.stack([0 * y, y])
    for mapped in (A(x), jax.jit(jax.vmap(lambda x: A(x)))(xs)[0]):
        _assert_close(_apply(A, x), mapped)
    for mapped in (A.adjoint(y), jax.jit(jax.vmap(lambda y: A.adjoint(y)))(ys)[1]):
        _assert_close(_adjoint(A, y), mapped)


@cases
def test_vmap_over_leaves(key, make, shape, dtype):
    A = make(key)
    x, y = _draw(key, A, shape, dtype)
    other = jax.tree.map(lambda leaf: 1.1 * leaf if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, A)
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), A, other)
    if not jax.tree.leaves(A):
        pytest.skip("no leaves")
    outs, backs = jax.jit(lambda both: (jax.vmap(lambda A: A(x))(both), jax.vmap(lambda A: A.adjoint(y))(both)))(both)
    for i, each in enumerate((A, other)):
        _assert_close(outs[i], _apply(each, x))
        _assert_close(backs[i], _adjoint(each, y))


@cases
def test_derivative_is_the_operator(key, make, shape, dtype):
    A = make(key)
    (x, y), (v, _) = _draw(key, A, shape, dtype), _draw(jax.random.fold_in(key, 2), A, shape, dtype)

    def energy(x):
        return linalg.vdot(A(x) - y, A(x) - y) / 2

    _assert_close(jax.jit(lambda x, v: jax.jvp(A, (x,), (v,))[1])(x, v), _apply(A, v))
    wanted = _adjoint(A, _apply(A, x) - y)
    _assert_close(jnp.conj(jax.jit(jax.grad(energy))(x)), wanted)  # JAX's gradient is the conjugate
    if not jnp.iscomplexobj(x):
        curvature = jax.jit(lambda x, v: jax.jvp(jax.grad(energy), (x,), (v,))[1])(x, v)
        _assert_close(curvature, _adjoint(A, _apply(A, v)))
    if jnp.iscomplexobj(x) == jnp.iscomplexobj(y):
        _assert_close(jax.jit(lambda y: jax.linear_transpose(A, x)(y)[0])(y), jnp.conj(_adjoint(A, jnp.conj(y))))
        _assert_close(jax.jit(lambda x: jax.linear_transpose(A.adjoint, y)(x)[0])(x), jnp.conj(_apply(A, jnp.conj(x))))


@cases
def test_gradient_for_leaves(key, make, shape, dtype):
    A = make(key)
    x, y = _draw(key, A, shape, dtype)
    values, rebuild = _real_leaves(A)
    if not values:
        pytest.skip("no real leaves")
    direction = [jax.random.normal(jax.random.fold_in(key, i), v.shape, v.dtype) for i, v in enumerate(values)]
    for loss in (lambda values: linalg.vdot(rebuild(values)(x), y), lambda values: linalg.vdot(rebuild(values).adjoint(y), x)):
        loss = jax.jit(loss)
        moved = [loss([v + h * d for v, d in zip(values, direction, strict=True)]) for h in (1e-6, -1e-6)]
        difference, slope = (moved[0] - moved[1]) / 2e-6, linalg.vdot(jax.jit(jax.grad(loss))(values), direction)
        # central differences with step 1e-6 are good to about 1e-10 / 1e-6 of the loss
        assert jnp.abs(difference - slope) <= 1e-5 * (jnp.abs(slope) + linalg.norm(x))
        assert jnp.abs(slope) > 0


@cases
def test_compiles_once(key, make, shape, dtype):
    A = make(key)
    x, _ = _draw(key, A, shape, dtype)
    traces = []

    @jax.jit
    def apply(A, x):
        traces.append(1)
        return A(x)

    apply(A, x)
    apply(jax.tree.map(lambda leaf: leaf * 1 if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, make(key)), 2 * x)
    assert len(traces) == 1


def test_scale_multiplies_and_composition_applies_the_inner_first(key):
    A, x = parallel_beam(12, rows_ct.ANGLES), jax.random.normal(key, (12, 12))
    _assert_close(scale(0.0193, A)(x), 0.0193 * A(x))
    _assert_close(compose(A, rows_image.Flip())(x), A(x[::-1]))
