"""Bad input is told in one line."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows_solvers import normal

from medjax import checks
from medjax.checks import check_adjoint, count, measured, nonnegative, positive
from medjax.operators.downsample import downsample
from medjax.operators.inpaint import inpaint
from medjax.operators.masked_fourier import masked_fourier


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Pair:
    """A map and what is claimed to be its adjoint."""

    w: jax.Array
    back: Callable = dataclasses.field(metadata={"static": True})

    def __call__(self, x):
        return self.w @ x

    def adjoint(self, y):
        return self.back(self.w, y)


def _true(w, y):
    return jnp.conj(w).T @ y


WRONG = {  # what a programmer gets wrong -> the adjoint
    "scaled": lambda w, y: 1.001 * _true(w, y),
    "shifted": lambda w, y: jnp.roll(_true(w, y), 1),
    "not conjugated": lambda w, y: w.T @ y,
    "with an offset": lambda w, y: _true(w, y) + 1,
    "one pixel lost": lambda w, y: _true(w, y).at[0].set(0),
    "not finite": lambda w, y: _true(w, y).at[0].set(jnp.nan),
}
X = jax.ShapeDtypeStruct((5,), jnp.complex128)


@pytest.mark.parametrize("dtype, most", [("complex128", 1e-14), ("float64", 1e-14), ("complex64", 1e-5), ("float32", 1e-5)])
def test_a_true_adjoint_passes(key, dtype, most):
    w = normal(key, (7, 5), jnp.dtype(dtype)).astype(dtype)
    gap = jax.jit(lambda w: check_adjoint(_Pair(w, _true), jax.ShapeDtypeStruct((5,), dtype), key))(w)
    assert gap.dtype == w.real.dtype and 0 <= gap <= most  # a few roundings


@pytest.mark.parametrize("back", WRONG.values(), ids=WRONG)
def test_a_wrong_adjoint_is_refused(key, back):
    with pytest.raises(ValueError, match="the adjoint does not match its operator: ") as error:
        check_adjoint(_Pair(normal(key, (7, 5), X.dtype), back), X, key)
    assert "\n" not in str(error.value)


def test_a_wrong_shape_is_refused(key):
    w = normal(key, (7, 7), X.dtype)
    with pytest.raises(ValueError, match=r"the adjoint gives \(7, 1\), the operator takes \(7,\)"):
        check_adjoint(_Pair(w, lambda w, y: _true(w, y)[:, None]), jax.ShapeDtypeStruct((7,), X.dtype))


def test_the_tolerance_counts_and_the_gap_is_what_it_says(key):
    """<A x, y> - 1.01 <A x, y> over |A x| |y|, on the pair that the check draws."""
    pair = _Pair(normal(key, (7, 5), X.dtype), lambda w, y: 1.01 * _true(w, y))
    seen = []

    class _Spy(_Pair):
        def __call__(self, x):
            seen.append(x)
            return super().__call__(x)

        def adjoint(self, y):
            seen.append(y)
            return super().adjoint(y)

    gap = check_adjoint(_Spy(pair.w, pair.back), X, key, tolerance=1.0)
    x, y = (a for a in seen if checks.is_concrete(a))
    product = jnp.real(jnp.vdot(pair.w @ x, y))
    assert jnp.allclose(gap, 0.01 * jnp.abs(product) / jnp.linalg.norm(pair.w @ x) / jnp.linalg.norm(y), rtol=1e-9)


def test_pytrees_and_zero_operators(key):
    @dataclasses.dataclass(frozen=True)
    class _Blocks:
        scale: float

        def __call__(self, x):
            return {"a": self.scale * x[0], "b": 2 * self.scale * x[1]}

        def adjoint(self, y):
            return self.scale * y["a"], 2 * self.scale * y["b"]

    like = (jnp.zeros(3), jnp.zeros((2, 2)))
    assert check_adjoint(_Blocks(3.0), like, key) < 1e-14
    assert check_adjoint(_Blocks(0.0), like, key) == 0


def test_under_jit_the_gap_is_returned(key):
    """Nothing can be raised there."""
    gap = jax.jit(lambda w: check_adjoint(_Pair(w, WRONG["scaled"]), X, key))(normal(key, (7, 5), X.dtype))
    assert gap > 1e-5


@pytest.mark.parametrize(
    "check, bad, found", [(nonnegative, -0.5, "-0.5, at least 0"), (positive, 0.0, "0, more than 0"), (positive, -2, "-2, more than 0")]
)
def test_signs(check, bad, found):
    assert check(3.0, "strength") == 3.0
    assert nonnegative(0.0, "strength") == 0.0 and positive(jnp.inf, "sigma_y", finite=False) == jnp.inf
    with pytest.raises(ValueError, match="strength is infinite, a finite number is needed"):
        check(jnp.inf, "strength")
    for value in (bad, jnp.array([1.0, bad])):
        with pytest.raises(ValueError, match=f"^strength is {found} is needed$"):
            check(value, "strength")
    with pytest.raises(ValueError, match="strength is nan"):
        check(jnp.array([1.0, jnp.nan]), "strength")
    assert jax.jit(lambda v: check(v, "strength"))(bad) == bad  # traced: not known now


@pytest.mark.parametrize(
    "y, sigma_y, found",
    [
        (jnp.ones((5, 5)), 0.1, r"takes no y of \[5, 5\]"),  # downsample refuses it with an error of its own
        (jnp.ones((4, 4)), None, "sigma_y is None, a number or an array is needed"),
        (jnp.ones((4, 4)), "0.1", "sigma_y is '0.1', a number"),
        (jnp.ones((4, 4)), jnp.ones((3, 4)), r"sigma_y is \[3, 4\], a scalar or \[4, 4\] is needed"),
    ],
)
def test_data_that_do_not_fit(y, sigma_y, found):
    """By their shape, their kind or their noise, in one line."""
    with pytest.raises(ValueError, match=found) as caught:
        measured(downsample((8, 8), 2), y, sigma_y)
    assert "\n" not in str(caught.value)


def test_data_of_another_operator():
    """One that takes y and gives other data, and real data of an operator that gives complex ones."""

    class _Thrice:
        def __call__(self, x):
            return x[None] * jnp.ones((3, 1, 1))

        def adjoint(self, y):
            return y.sum(0)

    with pytest.raises(ValueError, match=r"gives data \[3, 4, 4\], got y \[1, 4, 4\]"):
        measured(_Thrice(), jnp.ones((1, 4, 4)), 0.1)
    with pytest.raises(ValueError, match="gives complex data, got y of float64"):
        measured(masked_fourier(jnp.ones((4, 4))), jnp.ones((4, 4)), 0.1)


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, jnp.ones(()), "3"])
def test_count(bad):
    """Whole numbers from 1 on, none that only rounds to one."""
    assert count(3, "num_krylov") == count(np.int64(3), "num_krylov") == 3
    with pytest.raises(ValueError, match="^num_krylov is .*, a whole number of at least 1 is needed$"):
        count(bad, "num_krylov")


def test_data_that_are_lost():
    """NaN in data that count is refused where it is known; where nothing was measured the data may hold anything."""
    A, y = inpaint(jnp.ones(3)), jnp.array([1.0, jnp.nan, 2.0])
    with pytest.raises(ValueError, match="y is not finite everywhere"):
        measured(A, y, 0.1)
    known, root = measured(A, y, jnp.array([0.1, jnp.inf, 0.1]))
    assert np.array_equal(known, [1, 0, 2]) and root[1] == 0
    for nothing in ((None, y), (A, None), (3, y)):
        with pytest.raises(ValueError, match="an operator with an adjoint and its data are needed"):
            measured(*nothing, 0.1)
    with pytest.raises(ValueError, match="sigma_y is"):
        measured(A, jnp.ones(3), 1j)
