"""Contract of denoisers, of the network under its preconditioning, and of the loss that trains it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.diffusion.edm import edm
from medjax.diffusion.gaussian import gaussian
from medjax.diffusion.score_matching import score_matching
from medjax.networks.unet import unet


def test_gaussian_is_the_conditional_mean(key):
    """Against importance sampling of E[x0 | x] over 400,000 draws of the prior."""
    mean, covariance = jnp.array([1.0, -1.0]), jnp.array([[1.0, 0.6], [0.6, 0.5]])
    x, sigma = jnp.array([0.3, 0.4]), 0.8
    draws = mean[None] + jax.random.normal(key, (400_000, 2)) @ jnp.linalg.cholesky(covariance).T
    weights = jax.nn.softmax(-jnp.sum((draws - x[None]) ** 2, 1) / (2 * sigma**2))
    assert np.allclose(weights @ draws, gaussian(mean, covariance)(x, sigma), atol=6e-3)  # four standard errors
    with pytest.raises(ValueError, match=r"needs a covariance \[2, 2\], got \[3, 3\]"):
        gaussian(mean, jnp.eye(3))


def test_gaussian_of_any_shape(key):
    """An image keeps its shape; no noise leaves it, endless noise gives the mean."""
    mean = jax.random.normal(key, (3, 4))
    denoise = gaussian(mean, jnp.eye(12) * 2.0)
    x = jax.random.normal(jax.random.fold_in(key, 1), (3, 4))
    assert np.allclose(denoise(x, 0.0), x, atol=1e-12) and np.allclose(denoise(x, 1e8), mean, atol=1e-12)
    assert np.allclose(denoise(x, 1.0), mean + (x - mean) * 2 / 3, atol=1e-12)


def test_edm_wraps_the_exact_network(key):
    """The raw network that EDM's coefficients ask for gives back the exact denoiser: the wrapper's round trip."""
    mean, sigma_data, variance = 0.4, 0.7, 0.2
    exact = gaussian(jnp.full(5, mean), variance * jnp.eye(5))

    def network(z, noise):
        sigma = jnp.exp(4 * noise)
        total = sigma**2 + sigma_data**2
        x = mean + z * jnp.sqrt(total)
        skip = mean + sigma_data**2 / total * (x - mean)
        return (exact(x, sigma) - skip) * jnp.sqrt(total) / (sigma * sigma_data)

    x = jax.random.normal(key, (5,))
    for sigma in (0.01, 0.5, 20.0):
        assert np.allclose(edm(network, sigma_data, mean)(x, sigma), exact(x, sigma), rtol=0, atol=1e-10)


def test_score_matching_of_exact_and_zero_networks(key):
    """A zero network scores 1 on Gaussian data of sigma_data; the exact denoiser scores its posterior variance, nothing less."""
    sigma_data, num = 0.5, 4096
    batch = sigma_data * jax.random.normal(key, (num, 1))

    def loss(denoise):
        return score_matching(lambda params: denoise, sigma_data)({}, key, batch)[0]

    zero = loss(edm(lambda x, noise: jnp.zeros_like(x), sigma_data))
    exact = loss(gaussian(jnp.zeros(1), jnp.full((1, 1), sigma_data**2)))
    off = loss(lambda x, sigma: 1.05 * x * sigma_data**2 / (sigma_data**2 + sigma**2))
    assert abs(zero - 1) < 0.06  # 4 standard errors of chi-square over 4096
    assert abs(exact - 1) < 0.06 and exact < off
    assert np.allclose(exact, zero, atol=1e-10)  # on Gaussian data c_skip x is already exact


@pytest.mark.parametrize("channels", [1, 2])
def test_unet_starts_at_zero_and_uses_everything(key, channels):
    """Zero at initialisation; with random weights each input pixel and the noise level reach the output, in f32 and under vmap."""
    network = unet(channels=channels, width=16, multipliers=(1, 2), attention_levels=(1,))
    shape = (16, 16) if channels == 1 else (16, 16, channels)
    x = jax.random.normal(key, shape, jnp.float32)
    params = jax.jit(network.init)(key, x, jnp.float32(0.1))
    apply = jax.jit(network.apply)
    assert jnp.all(apply(params, x, jnp.float32(0.1)) == 0)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    params = jax.tree.unflatten(tree, [0.3 * jax.random.normal(k, v.shape, v.dtype) for k, v in zip(keys, leaves, strict=True)])
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(network.apply(params, x, jnp.float32(0.1)) ** 2)))(x)
    assert gradient.dtype == jnp.float32 and jnp.all(gradient != 0)
    alone = apply(params, x, jnp.float32(0.1))
    assert not np.allclose(alone, apply(params, x, jnp.float32(0.9)), rtol=1e-3)
    batch = jax.jit(jax.vmap(network.apply, (None, 0, None)))(params, jnp.stack([x, -x]), jnp.float32(0.1))
    assert np.allclose(batch[0], alone, rtol=2e-3, atol=2e-3 * float(jnp.abs(batch).max()))  # f32 convolutions in another order


def test_unet_refuses_images_that_do_not_fit(key):
    """One line with both shapes."""
    with pytest.raises(ValueError, match=r"sides divisible by 4, got \[18, 16\]"):
        unet(width=8, multipliers=(1, 2), attention_levels=()).init(key, jnp.zeros((18, 16)), jnp.zeros(()))
    with pytest.raises(ValueError, match=r"takes images \[h, w, 2\], got \[16, 16\]"):
        unet(channels=2, width=8, multipliers=(1,)).init(key, jnp.zeros((16, 16)), jnp.zeros(()))


def test_training_lowers_the_loss(key):
    """Thirty Adam steps on one image beat the zero network's loss of 1."""
    import optax

    network = unet(width=8, multipliers=(1, 2), attention_levels=())
    image = jnp.where((jnp.arange(16)[:, None] + jnp.arange(16)[None, :]) % 8 < 4, 0.5, -0.5).astype(jnp.float32)
    batch = jnp.stack([image] * 4)
    params = jax.jit(network.init)(key, image, jnp.float32(0))
    loss_fn = score_matching(lambda p: edm(lambda x, s: network.apply(p, x, s), 0.5), 0.5, 0.0, 1.0)
    optimizer = optax.adam(1e-2)
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state, key):
        (loss, _), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, key, batch)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    losses = []
    for i in range(30):
        params, opt_state, loss = step(params, opt_state, jax.random.fold_in(key, i))
        losses.append(float(loss))
    assert abs(losses[0] - 1) < 0.5 and np.mean(losses[-5:]) < 0.5 * losses[0]
