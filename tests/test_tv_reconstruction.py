"""Total variation reconstruction: its optimum, and its steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.functionals.total_variation import total_variation
from medjax.iterate import iterate
from medjax.operators.parallel_beam import parallel_beam
from medjax.phantoms.shepp_logan import shepp_logan
from medjax.solvers.tv_reconstruction import tv_reconstruction
from medjax.typing import Leaf


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
