"""A joint prior of several contrasts, of which a part was measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.diffusion.gaussian import gaussian
from medjax.diffusion.karras import karras
from medjax.guides.mmps import mmps
from medjax.operators.algebra import identity
from medjax.operators.blur import blur
from medjax.operators.inpaint import inpaint
from medjax.operators.measured_channels import measured_channels
from medjax.samplers.heun import heun
from medjax.samplers.sample import sample

SIZE, SIGMA_Y = (3, 4), 0.2


@pytest.fixture(scope="module")
def prior():
    """Mean `[3, 4, 2]` and covariance of two contrasts that agree in 0.8 of their variance, with neighbours correlated."""
    places = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"), -1).reshape(-1, 2)
    near = np.exp(-np.linalg.norm(places[:, None] - places, axis=-1) / 2)
    mean = np.random.default_rng(0).normal(size=(*SIZE, 2))
    return jnp.asarray(mean), jnp.asarray(np.kron(near, [[1.0, -0.8], [-0.8, 1.0]]))


@pytest.fixture(scope="module")
def measured():
    """Known pixels of contrast 0, mask and data."""
    rng = np.random.default_rng(1)
    mask = jnp.asarray((rng.random(SIZE) < 0.6) * 1.0)
    return mask, mask * jnp.asarray(rng.normal(size=SIZE))


def _exact(prior, measured, x=None, sigma=np.inf):
    """E[x0 | y], or E[x0 | x, y], by the precision of all pixels."""
    (mean, covariance), (mask, y) = prior, measured
    rows = np.kron(np.eye(12), [[1.0, 0.0]])[np.asarray(mask).ravel() > 0]
    precision = np.linalg.inv(covariance) + np.eye(24) / sigma**2 + rows.T @ rows / SIGMA_Y**2
    known = np.asarray(y).ravel()[np.asarray(mask).ravel() > 0]
    force = np.linalg.solve(covariance, np.ravel(mean)) + rows.T @ known / SIGMA_Y**2 + (0 if x is None else np.ravel(x) / sigma**2)
    return np.linalg.solve(precision, force).reshape(*SIZE, 2)


def _ways(mask, y):
    """The same scan told in three ways: without the contrast that was not measured, with it at infinite sigma_y, and with the mask in sigma_y."""
    one = measured_channels({0: inpaint(mask)}, 2)
    both = measured_channels({1: inpaint(mask), 0: inpaint(mask)}, 2)
    everywhere = measured_channels({0: identity()}, 2)
    return {
        "left_out": (one, y[None], SIGMA_Y),
        "infinite": (both, jnp.stack([jnp.full_like(y, 7.0), y]), jnp.array([jnp.inf, SIGMA_Y])[:, None, None]),
        "mask_in_noise": (everywhere, y[None], jnp.where(mask > 0, SIGMA_Y, jnp.inf)[None]),
    }


@pytest.mark.parametrize("way", ["left_out", "infinite", "mask_in_noise"])
def test_the_other_contrast_has_its_exact_posterior_mean(prior, measured, way):
    """`mmps` on the noisy pair at any level is E[x0 | x, y]; from pure noise it is E[x0 | y], where contrast 1 comes from contrast 0 alone."""
    A, y, sigma_y = _ways(*measured)[way]
    guided = jax.jit(mmps(A, y, sigma_y, num_krylov=40)(gaussian(*prior)))
    x = jnp.asarray(np.random.default_rng(2).normal(size=(*SIZE, 2)))
    assert np.allclose(guided(x, 0.7), _exact(prior, measured, x, 0.7), rtol=0, atol=1e-6)
    exact = _exact(prior, measured)
    assert np.allclose(guided(x, 1e5), exact, rtol=0, atol=1e-5)  # the noisy pair still tells 1e-5 of a standard deviation
    assert np.abs(exact - prior[0])[..., 1].max() > 0.3  # it is not the prior's


def test_samples_of_the_other_contrast(key, prior, measured):
    """A sample by Heun's method spreads around that mean: 400 of them, within 5 standard errors."""
    A, y, sigma_y = _ways(*measured)["left_out"]
    guided, sigmas = mmps(A, y, sigma_y, num_krylov=24)(gaussian(*prior)), karras(20, 0.01, 20.0)

    def one(key):
        return sample(key, heun(), guided, sigmas, prior[0] + 20.0 * jax.random.normal(key, (*SIZE, 2)))

    samples = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(key, 400)))
    error = (samples.mean(0) - _exact(prior, measured)) / (samples.std(0) / 20)
    assert np.abs(error).max() < 5


def test_a_channel_may_be_measured_twice():
    """The adjoint adds up what two operators say of one channel."""
    rng = np.random.default_rng(3)
    kernel, mask, x = (jnp.asarray(rng.normal(size=shape)) for shape in ((3, 3), SIZE, (*SIZE, 3)))
    first, second = blur(kernel, SIZE), inpaint(mask)
    A = measured_channels({2: first, (0,): measured_channels({0: second}, 1)}, 3)
    with pytest.raises(ValueError, match=r"one shape and dtype, got \[1, 3, 4\] of float64 and \[3, 4\] of float64"):
        A(x)
    A = measured_channels({2: first, 0: second}, 3)
    y = A(x)
    assert np.allclose(y, jnp.stack([first(x[..., 2]), mask * x[..., 0]]), rtol=0, atol=1e-14)
    twice = measured_channels({(2, 1): measured_channels({0: first}, 2), (2,): measured_channels({0: second}, 1)}, 3)
    back = twice.adjoint(y[:, None])
    wanted = jnp.stack([jnp.zeros(SIZE), jnp.zeros(SIZE), first.adjoint(y[0]) + mask * y[1]], -1)
    assert np.allclose(back, wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: measured_channels({}, 2), r"channels from 0 to 1, got \[\]"),
        (lambda: measured_channels({2: identity()}, 2), r"channels from 0 to 1, got \[2\]"),
        (lambda: measured_channels({(0, -1): identity()}, 2), r"got \[\(0, -1\)\]"),
        (lambda: measured_channels({0: identity()}, 2)(jnp.zeros((3, 4, 3))), r"image is \[3, 4, 3\], 2 channels"),
        (lambda: measured_channels({0: identity()}, 2).adjoint(jnp.zeros((3, 4))), r"data are \[3, 4\], 1 are needed"),
    ],
)
def test_refuses(call, text):
    with pytest.raises(ValueError, match=text) as error:
        call()
    assert "\n" not in str(error.value)
