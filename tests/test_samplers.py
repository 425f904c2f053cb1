"""Contract of every kernel: carries a Gaussian exactly to its law at its order, and composes with every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.diffusion.gaussian import gaussian
from medjax.diffusion.karras import karras
from medjax.samplers.chain import chain
from medjax.samplers.ddim import ddim
from medjax.samplers.heun import heun
from medjax.samplers.sample import sample

# name -> (kernel, order in the number of steps, deterministic)
KERNELS = {
    "ddim_0": (ddim(0.0), 1, True),
    "ddim_0.85": (ddim(0.85), 1, False),
    "ddim_1": (ddim(1.0), 1, False),
    "heun": (heun(), 2, True),
    "heun_churn": (heun(0.05), 2, False),
    "chain": (chain(ddim(1.0)), 1, False),
}
cases = pytest.mark.parametrize("kernel, order, deterministic", KERNELS.values(), ids=KERNELS)

VARIANCES = jnp.array([0.01, 0.3, 1.0, 4.0])
MEAN = jnp.array([1.0, -2.0, 0.0, 3.0])
HIGH, LOW = 10.0, 0.1


def denoise(x, sigma):
    return gaussian(MEAN, jnp.diag(VARIANCES))(x, sigma)


def run(key, kernel, num_steps, num_samples=1, uneven=0.0):
    """Start and end of a run over levels whose steps are longer and shorter in turn by `uneven`, in log sigma."""
    levels = jnp.linspace(jnp.log(HIGH), jnp.log(LOW), num_steps + 1)
    sigmas = jnp.exp(levels.at[1:-1:2].add(uneven * (levels[1] - levels[0])))
    start = MEAN[None] + jnp.sqrt(VARIANCES + HIGH**2)[None] * jax.random.normal(key, (num_samples, 4))
    end = jax.jit(jax.vmap(lambda k, x: sample(k, kernel, denoise, sigmas, x)))(jax.random.split(key, num_samples), start)
    return start, end


@cases
def test_law(key, kernel, order, deterministic):
    """Mean and variance of x0 + LOW n after 100 steps, over 20,000 samples."""
    _, end = run(key, kernel, 100, 20_000)
    std = jnp.sqrt(VARIANCES + LOW**2)
    assert np.allclose(end.mean(0), MEAN, atol=4 * np.max(std) / 141)  # four standard errors of a mean of 20,000
    tolerance = 0.02 + (0.05 if order == 1 else 0)  # Monte Carlo error .005; the first-order bias at 100 steps is 2-5 %
    assert np.allclose(end.std(0) / std, 1, atol=tolerance)


@pytest.mark.parametrize("name", [name for name, (_, _, deterministic) in KERNELS.items() if deterministic])
def test_order(key, name):
    """Twice the steps divide the error of the path by 2 ** order, also for uneven steps, where a multistep kernel must know their lengths."""
    kernel, order, _ = KERNELS[name]
    errors = []
    for num_steps in (40, 80):
        start, end = run(key, kernel, num_steps, uneven=0.4)
        exact = MEAN[None] + jnp.sqrt((VARIANCES + LOW**2) / (VARIANCES + HIGH**2))[None] * (start - MEAN[None])
        errors.append(jnp.linalg.norm(end - exact))
    assert abs(jnp.log2(errors[0] / errors[1]) - order) < 0.25  # the next order's share at 40 steps


@cases
def test_ends_on_the_denoised_image_at_level_zero(key, kernel, order, deterministic):
    """The last step to sigma = 0 returns D(x, sigma) for a kernel without churn."""
    x = jax.random.normal(key, (4,))
    end = sample(key, kernel, denoise, jnp.array([0.5, 0.0]), x)
    assert jnp.all(jnp.isfinite(end))
    if kernel is not KERNELS["heun_churn"][0]:
        assert np.allclose(end, denoise(x, 0.5), rtol=0, atol=1e-12)


@cases
def test_composes(key, kernel, order, deterministic):
    """jit, vmap and pmap give the plain answer; gradients reach the start."""
    sigmas = karras(5, 0.1, 5.0)
    keys, x = jax.random.split(key, 3), 5 * jax.random.normal(key, (3, 4))

    def one(k, x):
        return sample(k, kernel, denoise, sigmas, x)

    plain = jnp.stack([one(k, v) for k, v in zip(keys, x, strict=True)])
    assert np.allclose(jax.jit(jax.vmap(one))(keys, x), plain, rtol=0, atol=1e-10)
    assert np.allclose(jax.pmap(one)(keys[:1], x[:1]), plain[:1], rtol=0, atol=1e-10)
    gradient = jax.grad(lambda x: jnp.sum(one(keys[0], x)))(x[0])
    direction = jnp.array([1.0, -1.0, 2.0, 0.5])
    difference = (jnp.sum(one(keys[0], x[0] + 1e-5 * direction)) - jnp.sum(one(keys[0], x[0] - 1e-5 * direction))) / 2e-5
    assert np.allclose(gradient @ direction, difference, rtol=1e-5)  # central difference in f64


def test_memory_does_not_grow_with_steps(key):
    """The compiled loop of 1000 steps holds what that of 10 does, and the levels themselves; stacking x would add 8 MB."""

    def temporary_bytes(num_steps):
        sigmas, x = jnp.geomspace(HIGH, LOW, num_steps + 1), jnp.zeros(1000)
        run_fn = jax.jit(lambda key, sigmas, x: sample(key, heun(), lambda x, sigma: x / (1 + sigma**2), sigmas, x))
        return run_fn.lower(key, sigmas, x).compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(1000) <= temporary_bytes(10) + 4 * 8 * 1000


def test_chain_passes_states_and_needs_kernels(key):
    """Each kernel of a chain gets its own key and state."""
    x = jnp.ones(4)
    kernel = ddim(1.0)
    expected, _ = kernel.step(jax.random.fold_in(key, 0), x, (), 1.0, 0.5, denoise)
    got, states = chain(kernel).step(key, x, chain(kernel).init(x), 1.0, 0.5, denoise)
    assert np.allclose(got, expected, rtol=0, atol=1e-14) and states == ((),)
    with pytest.raises(ValueError, match="at least one kernel"):
        chain()


def test_karras_levels():
    """Ends, order and the rho-th root spacing; bad levels are named."""
    sigmas = karras(10, 0.002, 80.0)
    assert sigmas.shape == (11,) and sigmas[-1] == 0
    assert np.allclose(sigmas[0], 80.0) and np.allclose(sigmas[9], 0.002)
    assert np.allclose(np.diff(np.asarray(sigmas[:-1]) ** (1 / 7), n=2), 0, atol=1e-12)
    with pytest.raises(ValueError, match="0 < sigma_min < sigma_max, got 1.0 and 0.5"):
        karras(10, 1.0, 0.5)
    with pytest.raises(ValueError, match="at least 2 steps"):
        karras(1, 0.1, 1.0)
