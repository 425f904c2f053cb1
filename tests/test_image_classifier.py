"""The classifier of images, its features, and the loss that trains it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medjax.networks.classification_loss import classification_loss
from medjax.networks.image_classifier import image_classifier


def moved(params, key):
    """Weights away from where they start, so that the head, scales, shifts and biases count."""
    leaves, tree = jax.tree.flatten(params)
    return jax.tree.unflatten(tree, [a + 0.1 * jax.random.normal(jax.random.fold_in(key, i), a.shape) for i, a in enumerate(leaves)])


def stripes(key, num):
    """Noisy images of stripes along rows (0), columns (1) or diagonals (2) at a random phase: no pixel tells the class by its mean."""
    keys = jax.random.split(key, 3)
    labels = jax.random.randint(keys[0], (num,), 0, 3)
    i, j = jnp.meshgrid(jnp.arange(8.0), jnp.arange(8.0), indexing="ij")
    phase = 2 * jnp.pi * jax.random.uniform(keys[1], (num, 1, 1))
    waves = jnp.sin(2 * jnp.pi / 4 * jnp.stack([i, j, (i + j) / 2**0.5])[labels] + phase)
    return waves + 0.3 * jax.random.normal(keys[2], waves.shape), labels


def test_features_are_what_the_logits_are_made_of(key):
    """The mean of the maps is pooled, the dense layer of it the logits; sides are halved at each level, an odd row or column being dropped."""
    network, image = image_classifier(5, width=8, multipliers=(1, 2, 3)), jax.random.normal(key, (13, 10))
    start = jax.jit(network.init)(key, image)
    assert not np.any(network.apply(start, image))
    params = moved(start, key)
    logits, pooled, maps = jax.jit(lambda p, x: network.apply(p, x, features=True))(params, image)
    assert logits.shape == (5,) and pooled.shape == (24,) and maps.shape == (3, 2, 24)
    assert np.allclose(pooled, np.mean(maps, (0, 1)), atol=1e-12)
    head = params["params"]["head"]
    assert np.allclose(logits, pooled @ head["kernel"] + head["bias"], atol=1e-12) and np.ptp(logits) > 1e-3
    run = jax.jit(network.apply)
    assert np.allclose(run(params, image), logits, atol=1e-12)
    assert np.allclose(run(params, image[..., None]), logits, atol=1e-12)


def test_levels_are_means_and_blocks_residuals(key):
    """A second block whose last convolution is 0 hands on the mean over 2 x 2 pixels of the first, but for the last row and column."""
    network, image = image_classifier(2, width=8, multipliers=(1, 1)), jax.random.normal(key, (5, 7))
    params = moved(network.init(key, image), key)
    params["params"]["Block_1"]["Conv3x3_1"] = jax.tree.map(jnp.zeros_like, params["params"]["Block_1"]["Conv3x3_1"])
    told = network.apply(params, image, capture_intermediates=True, mutable=["intermediates"])[1]["intermediates"]
    h = np.asarray(told["Block_0"]["__call__"][0])
    means = (h[:4:2, :6:2] + h[1:4:2, :6:2] + h[:4:2, 1:6:2] + h[1:4:2, 1:6:2]) / 4
    assert h.shape == (5, 7, 8) and np.allclose(told["Block_1"]["__call__"][0], means, atol=1e-12)


def test_two_channels_and_refusals(key):
    network, image = image_classifier(3, width=8, multipliers=(1, 1)), jax.random.normal(key, (8, 8, 2))
    params = moved(jax.jit(network.init)(key, image), key)
    run = jax.jit(network.apply)
    assert not np.allclose(run(params, image), run(params, image.at[..., 1].set(0)), atol=1e-6)
    for bad, message in ((image[0, 0], r"float64 \[2\]"), (image[:1], r"at least 2 x 2 pixels, got float64 \[1, 8, 2\]"), (image + 0j, "complex128")):
        with pytest.raises(ValueError, match=message):
            network.init(key, bad)
    with pytest.raises(ValueError, match="width of image_classifier is 12, a multiple of 8"):
        image_classifier(3, width=12)
    with pytest.raises(ValueError, match="num_classes of image_classifier is 0"):
        image_classifier(0)
    with pytest.raises(ValueError, match="number of levels of image_classifier is 0"):
        image_classifier(3, multipliers=())


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_loss_against_optax(key, smoothing):
    """The loss, the metrics and the gradient for the logits; at the start of training it is log C."""
    logits, labels = jax.random.normal(key, (6, 4)), jnp.array([0, 3, 1, 1, 2, 0])
    loss_fn = jax.jit(classification_loss(lambda params, image: params * image, smoothing))
    loss, metrics = loss_fn(2.0, key, (logits, labels))
    wanted = optax.softmax_cross_entropy(2 * logits, optax.smooth_labels(jax.nn.one_hot(labels, 4), smoothing))
    assert np.allclose(loss, np.mean(wanted), rtol=1e-12)
    assert np.allclose(metrics["cross_entropy"], np.mean(optax.softmax_cross_entropy_with_integer_labels(2 * logits, labels)), rtol=1e-12)
    assert np.allclose(metrics["accuracy"], np.mean(np.argmax(np.asarray(logits), 1) == np.asarray(labels)))
    assert np.allclose(loss_fn(0.0, key, (logits, labels))[0], np.log(4))
    for wrong in (4, -1):
        loss, metrics = loss_fn(2.0, key, (logits, labels.at[0].set(wrong)))
        assert np.isnan(loss) and np.isnan(metrics["accuracy"]) and np.isnan(metrics["cross_entropy"])
    with pytest.raises(ValueError, match="label_smoothing is 1.5"):
        classification_loss(lambda params, image: image, 1.5)


def test_it_learns(key):
    """Three kinds of stripes from 60 steps; images that it has not seen are told apart."""
    network, optimizer = image_classifier(3, width=8, multipliers=(1, 2)), optax.adam(1e-2)
    loss_fn = classification_loss(network.apply, 0.05)
    params = jax.jit(network.init)(key, jnp.zeros((8, 8)))

    @jax.jit
    def step(carry, step_key):
        params, state = carry
        gradient, _ = jax.grad(loss_fn, has_aux=True)(params, step_key, stripes(step_key, 16))
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    carry = (params, optimizer.init(params))
    for i in range(60):
        carry, _ = step(carry, jax.random.fold_in(key, i))
    loss, metrics = jax.jit(loss_fn)(carry[0], key, stripes(jax.random.fold_in(key, 1000), 200))
    assert metrics["accuracy"] > 0.97 and metrics["cross_entropy"] < 0.2 < np.log(3)
