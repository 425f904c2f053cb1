"""Networks for large priors: their layers written another way, what they keep, what they refuse, how large they are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import quad
from scipy.ndimage import correlate
from scipy.special import erf, ndtri

from medjax import config as configs
from medjax.experiment.prior import initialise
from medjax.networks import dit as transformer
from medjax.networks import edm2_unet as edm2
from medjax.networks.bfloat16 import bfloat16
from medjax.networks.dit import dit
from medjax.networks.edm2_unet import edm2_unet
from medjax.training.forced_normalisation import forced_normalisation
from medjax.training.state import initial_state, make_optimizer, train_step

MAKE = {"edm2_unet": edm2_unet, "dit": dit}
SMALL = {
    "edm2_unet": {"width": 8, "multipliers": (1,), "num_blocks": 1, "attention_levels": (0,), "patch": 4},
    "dit": {"patch": 4, "width": 16, "depth": 2, "heads": 2},
}
NOISE = jnp.float32(0.3)


def drawn(network, *inputs, size=0.3):
    """Weights none of which is 0, so that gains, biases and gates count."""
    normal = np.random.default_rng(0).normal
    return jax.tree.map(lambda a: jnp.asarray(normal(0, size, a.shape)), jax.eval_shape(network.init, jax.random.key(0), *inputs))


def distance(one, other):
    """Of pytrees, relative to the first."""
    flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (one, other)]
    return np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[0])


@pytest.fixture(scope="module", params=list(MAKE))
def case(request):
    """A network of three classes by name, an image and weights none of which is 0."""
    network, x = MAKE[request.param](num_classes=3, **SMALL[request.param]), jax.random.normal(jax.random.key(0), (16, 8))
    return request.param, network, x, drawn(network, x, NOISE)


def test_zero_at_first_then_of_every_input(case):
    """The output is 0 at initialisation; then image, noise level and class each change it, and no class is -1, None and what is beyond."""
    _, network, x, params = case
    run, fresh = jax.jit(network.apply), jax.jit(network.init)(jax.random.key(1), x, NOISE)
    assert not np.any(run(fresh, x, NOISE)) and run(fresh, x, NOISE).shape == x.shape
    none, first, second = (run(params, x, NOISE, jnp.int32(k)) for k in (-1, 0, 1))
    assert distance(none, run(params, x, NOISE)) < 1e-6 and np.array_equal(none, run(params, x, NOISE, jnp.int32(3)))
    assert min(distance(none, first), distance(first, second), distance(none, run(params, x, NOISE + 0.1))) > 1e-3
    assert np.any(np.abs(run(params, x.at[0, 0].add(1.0), NOISE) - none)[-1] > 1e-9)  # attention reaches the other end


@pytest.mark.parametrize("name", MAKE)
def test_refuses_in_one_line(name, key):
    """Images, classes and sizes that do not fit."""
    make, small = MAKE[name], SMALL[name]
    plain, coloured = make(**small), make(channels=2, **small)
    with pytest.raises(ValueError, match=r"^the network takes images \[h, w\], got \[8, 8, 1\]"):
        plain.init(key, jnp.ones((8, 8, 1)), NOISE)
    with pytest.raises(ValueError, match=r"^the network takes images \[h, w, 2\], got \[8, 8\]"):
        coloured.init(key, jnp.ones((8, 8)), NOISE)
    with pytest.raises(ValueError, match=r"^the network takes images with sides divisible by 4, got \[8, 6\]"):
        plain.init(key, jnp.ones((8, 6)), NOISE)
    with pytest.raises(ValueError, match=r"^the network has no classes, got a label; num_classes of at least 1 is needed"):
        plain.init(key, jnp.ones((8, 8)), NOISE, jnp.int32(0))
    with pytest.raises(ValueError, match=r"^a label is one whole number, got float32 of shape \[\]"):
        make(num_classes=2, **small).init(key, jnp.ones((8, 8)), NOISE, jnp.float32(0))
    with pytest.raises(ValueError, match=rf"^width of {name} is 0, a whole number of at least 1 is needed$"):
        make(width=0)
    shape = jax.eval_shape(lambda x: coloured.init_with_output(key, x, NOISE)[0], jnp.ones((8, 8, 2))).shape
    assert shape == (8, 8, 2)


def test_checkpointing_changes_nothing_but_memory(case):
    """The weights have the same names, and answers and gradients are equal."""
    name, network, x, params = case
    again = MAKE[name](num_classes=3, remat=True, **SMALL[name])
    assert jax.tree.map(jnp.shape, jax.eval_shape(again.init, jax.random.key(1), x, NOISE)) == jax.tree.map(jnp.shape, params)
    loss = [jax.value_and_grad(lambda p, n=n: jnp.sum(n.apply(p, x, NOISE, jnp.int32(1)) ** 2)) for n in (network, again)]
    (one, grads), (other, same) = (jax.jit(fn)(params) for fn in loss)
    assert np.isclose(one, other, rtol=1e-10) and distance(grads, same) < 1e-9
    marked = [str(jax.make_jaxpr(fn)(params)).count("remat2[") for fn in loss]
    assert marked[0] == 0 < marked[1]


def test_bfloat16_is_used_and_near(case):
    """Answers of 16 bits in the precision of the image; 5e-2 is some ten units of 2^-8, of which each layer adds some."""
    _, network, x, params = case
    x, params = jax.tree.map(lambda a: a.astype(jnp.float32), (x, params))
    one, other = (jax.jit(n.apply)(params, x, NOISE, jnp.int32(1)) for n in (network, bfloat16(network)))
    assert one.dtype == other.dtype == jnp.float32 and 1e-4 < distance(one, other) < 5e-2
    program = str(jax.make_jaxpr(bfloat16(network).apply)(params, x, NOISE))
    assert program.count("bf16") > 100 and "bf16[16,8]" in program


def test_magnitudes_of_the_primitives(key):
    """SiLU of normal numbers, sums and joins of what is not correlated and Fourier features have the magnitude of what enters."""

    def square(z):
        return float(edm2.mp_silu(z)) ** 2 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)

    assert abs(quad(square, -9, 9, epsabs=1e-6)[0] - 1) < 2e-3  # the constant has three digits
    a, b = np.eye(2)
    for share in (0.0, 0.3, 0.5, 1.0):
        whole = edm2.mp_sum(a, b, share)
        assert np.isclose(np.sum(whole**2), 1, rtol=1e-12) and np.isclose(whole[1] * (1 - share), whole[0] * share, rtol=1e-12)
    joined = edm2.mp_concatenate(jnp.ones((2, 3)), jnp.ones((2, 12)), 0.3)
    assert np.isclose(np.mean(joined**2), 1, rtol=1e-12)
    assert np.isclose(np.sum(joined[0, 3:] ** 2) / np.sum(joined[0, :3] ** 2), (0.3 / 0.7) ** 2, rtol=1e-12)
    features = np.stack([edm2.fourier(jnp.float64(noise), 128) for noise in np.linspace(-1.5, 1.5, 13)])
    assert np.all(np.abs(np.mean(features**2, 1) - 1) < 0.1)  # one draw of 128 cosines would be off by 0.06
    levels = np.cumsum(np.bincount(np.clip((ndtri((np.arange(128) + 0.5) / 128) + 3) // 1, 0, 5).astype(int))) / 128
    assert np.allclose(levels[:-1], 0.5 + 0.5 * erf(np.arange(-2, 3) / np.sqrt(2)), atol=0.01)  # 128 quantiles
    for layer in (edm2.Product(5), edm2.Convolution(5)):
        h = jax.random.normal(key, (6, 6, 4))
        params = layer.init(key, h)
        slopes = jax.jacobian(lambda h, layer=layer, params=params: jnp.asarray(layer.apply(params, h))[2, 2])(h)
        powers = np.sum(np.square(slopes), (1, 2, 3))
        assert np.allclose(powers, 1, rtol=1e-12), powers  # of independent inputs of variance 1


def test_magnitudes_through_the_network(key):
    """At random initialisation all that passes has nearly the magnitude of the image."""
    network, x = edm2_unet(width=32, multipliers=(1, 2), num_blocks=1, attention_levels=(1,)), jax.random.normal(key, (16, 16))
    params = jax.tree.map(lambda a: a if a.ndim else 0 * a, drawn(network, x, NOISE))  # gains as they are at first
    params = {"params": params["params"] | {"gain": jnp.ones(())}}
    _, kept = jax.jit(lambda p: network.apply(p, x, NOISE, capture_intermediates=True))(params)
    sizes = {name: float(jnp.sqrt(jnp.mean(found["__call__"][0] ** 2))) for name, found in kept["intermediates"].items() if "__call__" in found}
    few = [sizes.pop(name) for name in ("head", "Embedding_0")]
    assert len(sizes) == 11 and all(0.8 < size < 1.25 for size in sizes.values()), str(sizes)  # means over at least 32 features of 64 pixels
    assert all(0.5 < size < 2 for size in few), few  # of one feature, and of 64 numbers after SiLU


def convolved(h, weight):
    """Zero-padded correlation with normalised weights, channel by channel."""
    weight = weight / np.sqrt(np.sum(weight**2, (0, 1, 2)))
    planes = [sum(correlate(h[..., c], weight[..., c, f], mode="constant") for c in range(h.shape[-1])) for f in range(weight.shape[-1])]
    return np.stack(planes, -1)


def multiplied(h, weight):
    return h @ (weight / np.sqrt(np.sum(weight**2, 0)))


def silu(h):
    return h / (1 + np.exp(-h))


def softmax(a):
    a = np.exp(a - a.max(-1, keepdims=True))
    return a / a.sum(-1, keepdims=True)


@pytest.mark.parametrize("encoder", [True, False])
def test_an_edm2_block_is_its_formula(encoder, key):
    """Figure 21 of the code in numpy: norm of pixels in the encoder alone, balance of 0.3, cosine attention, halved or doubled first."""
    block, h, e = edm2.Block(4, encoder, True, "down" if encoder else "up"), jax.random.normal(key, (6, 4, 3)), jax.random.normal(key, (5,))
    params = drawn(block, h, e)
    p, low = jax.tree.map(np.asarray, params["params"]), np.asarray(h).reshape(3, 2, 2, 2, 3).mean((1, 3))
    low = low if encoder else np.asarray(h).repeat(2, 0).repeat(2, 1)
    skip = multiplied(low, p["skip"]["mp_weight"])
    if encoder:
        skip = skip / np.sqrt(np.mean(skip**2, -1, keepdims=True))
    y = convolved(silu(skip if encoder else low) / 0.596, p["first"]["mp_weight"])
    y = silu(y * (1 + p["gain"] * multiplied(np.asarray(e), p["embedding"]["mp_weight"]))) / 0.596
    out = (0.7 * skip + 0.3 * convolved(y, p["second"]["mp_weight"])) / np.sqrt(0.58)
    q, k, v = np.split(multiplied(out, p["attention"]["qkv"]["mp_weight"]).reshape(-1, 12), 3, -1)
    q, k, v = (a / np.sqrt(np.mean(a**2, -1, keepdims=True)) for a in (q, k, v))
    heeded = multiplied(softmax(q @ k.T / 2) @ v, p["attention"]["projection"]["mp_weight"]).reshape(out.shape)
    assert distance((0.7 * out + 0.3 * heeded) / np.sqrt(0.58), jax.jit(block.apply)(params, h, e)) < 1e-10


def test_forced_normalisation(key):
    """Magnitude 1 after a step, the function of the weights as the optimiser left them, the rest and its state as without."""
    network, x = edm2_unet(**SMALL["edm2_unet"]), jax.random.normal(key, (8, 8))
    run, params = jax.jit(network.apply), drawn(network, x, NOISE)

    def scaled(path, p):
        return 3 * p if path[-1].key == "mp_weight" else p

    one = run(params, x, NOISE)
    assert distance(one, run(jax.tree_util.tree_map_with_path(scaled, params), x, NOISE)) < 1e-12
    plain, forced, grads = optax.adam(0.1), forced_normalisation(optax.adam(0.1)), jax.tree.map(jnp.cos, params)
    ends = {}
    for name, optimizer in {"plain": plain, "forced": forced}.items():
        updates, state = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
        ends[name] = optax.apply_updates(params, updates), state
    assert distance(ends["plain"][1], ends["forced"][1]) == 0
    assert distance(run(ends["plain"][0], x, NOISE), run(ends["forced"][0], x, NOISE)) < 1e-12 < distance(one, run(ends["plain"][0], x, NOISE))
    for (path, before), (_, after) in zip(*(jax.tree_util.tree_leaves_with_path(ends[name][0]) for name in ends), strict=True):
        marked = path[-1].key == "mp_weight"
        assert marked or np.array_equal(before, after)
        assert not marked or np.allclose(np.mean(np.square(after), tuple(range(after.ndim - 1))), 1, rtol=1e-12)


def test_a_training_keeps_magnitudes(key):
    """By the optimiser of `train.py`: Muon and Adam; a step of Muon turns each feature of a tall weight by nearly the same angle."""
    block, h, e = edm2.Block(8, True, False, "keep"), jax.random.normal(key, (8, 8, 8)), jnp.ones(4)
    optimizer = make_optimizer(0.02, 1, 10, 1.0)
    state = initial_state(drawn(block, h, e), optimizer)
    step = jax.jit(train_step(lambda p, key, batch: (jnp.mean((block.apply(p, batch, e) - batch[::-1]) ** 2), {}), optimizer, 0.9))
    losses, weights = [], []
    for _ in range(3):
        state, metrics = step(key, state, h)
        weights.append(np.asarray(state.params["params"]["first"]["mp_weight"]).reshape(72, 8))
        losses.append(float(metrics["loss"]))
    assert losses[2] < losses[1] and all(np.allclose(np.mean(w**2, 0), 1, rtol=1e-10) for w in weights)
    turned = np.linalg.norm(weights[2] - weights[1], axis=0) / np.sqrt(72)
    assert np.all(turned > 0.003) and turned.max() < 1.7 * turned.min(), turned  # five Newton-Schulz steps leave singular values of 0.7 to 1.2


def test_positions_and_frequencies():
    """Sines and cosines of column and row, each written out."""
    found = np.asarray(transformer.positions(3, 5, 12)).reshape(3, 5, 12)
    omega = [1.0, 10000 ** (-1 / 3), 10000 ** (-2 / 3)]
    for row, column in np.ndindex(3, 5):
        wanted = [f(place * w) for place in (column, row) for f in (np.sin, np.cos) for w in omega]
        assert np.allclose(found[row, column], wanted, rtol=0, atol=1e-12)
    time = np.asarray(transformer.frequencies(jnp.float64(0.25)))
    assert np.isclose(time[0], np.cos(250), atol=1e-10) and np.isclose(time[128 + 64], np.sin(2.5), atol=1e-10)


def normalised(h):
    return (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)


def dense(p, name, h):
    return h @ p[name]["kernel"] + p[name]["bias"]


def transformed(p, h, c, heads):
    """One adaLN-Zero block in numpy, token by token and head by head."""
    b1, s1, g1, b2, s2, g2 = np.split(dense(p, "modulation", silu(c)), 6)
    q, k, v = np.split(dense(p, "qkv", normalised(h) * (1 + s1) + b1), 3, -1)
    size = h.shape[-1] // heads
    parts = [slice(size * i, size * (i + 1)) for i in range(heads)]
    out = np.concatenate([softmax(q[:, n] @ k[:, n].T / np.sqrt(size)) @ v[:, n] for n in parts], -1)
    h = h + g1 * dense(p, "projection", out)
    y = dense(p, "mlp_0", normalised(h) * (1 + s2) + b2)
    y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
    return h + g2 * dense(p, "mlp_1", y)


def test_a_transformer_is_its_formula(key):
    """The whole network with one block: patches in rows, places, noise level and class, block, head."""
    network, x = dit(patch=2, width=8, depth=1, heads=2, num_classes=2), jax.random.normal(key, (4, 6))
    params, run = drawn(network, x, NOISE), jax.jit(network.apply)
    p, image = jax.tree.map(np.asarray, params["params"]), np.asarray(x)
    tokens = np.stack([image[r : r + 2, c : c + 2].ravel() for r in (0, 2) for c in (0, 2, 4)])
    h = dense(p, "patches", tokens) + np.asarray(transformer.positions(2, 3, 8))
    time = np.asarray(transformer.frequencies(jnp.float64(0.3)))
    for label, row in ((-1, 2), (1, 1)):
        c = dense(p, "noise_1", silu(dense(p, "noise_0", time))) + p["classes"][row]
        shift, scale = np.split(dense(p, "modulation", silu(c)), 2)
        last = dense(p, "head", normalised(transformed(p["Block_0"], h, c, 2)) * (1 + scale) + shift)
        wanted = np.block([[last[3 * r + c].reshape(2, 2) for c in range(3)] for r in range(2)])
        assert distance(wanted, run(params, x, jnp.float64(0.3), jnp.int32(label))) < 1e-10


def millions(init, *inputs):
    """Numbers in the weights, of which none is drawn."""
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(init, *inputs))) / 1e6


def test_sizes():
    """The published ones of EDM2-XS and DiT-B on their latents, and those of the configs."""
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    for network, side, size in ((edm2_unet(channels=4, num_classes=1000), 64, 124.7), (dit(channels=4, patch=2, num_classes=1000), 32, 130.3)):
        found = millions(network.init, jax.random.key(0), jax.ShapeDtypeStruct((side, side, 4), jnp.float32), scalar)
        assert abs(found - size) < 0.1
    for name, least, most in (("ct_chest_edm2", 50, 150), ("ct_chest_dit", 120, 140)):
        prior = configs.load(configs.ROOT / f"configs/{name}.py").prior
        assert least < millions(lambda key, prior=prior: initialise(prior, key), jax.random.key(0)) < most
