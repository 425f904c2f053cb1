"""Training: exact resume, weights in and out, the record."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medjax.config import Prior, Spec, build, taken
from medjax.diffusion.edm import edm
from medjax.diffusion.score_matching import score_matching
from medjax.experiment.prior import initialise, loss
from medjax.networks.unet import unet
from medjax.training import checkpoint, log
from medjax.training.flops import matrix_flops, peak_flops, speed
from medjax.training.state import batch_key, initial_state, make_optimizer, train_step
from medjax.training.weights import load_weights, save_weights


@pytest.fixture(scope="module")
def trainer():
    """A small prior of random squares, ready to step."""
    network = unet(width=8, multipliers=(1, 2), attention_levels=())

    def draw(key):
        return jnp.zeros((16, 16), jnp.float32).at[:8, :8].set(jax.random.normal(key, (), jnp.float32))

    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((16, 16), jnp.float32), jnp.float32(0))
    optimizer = make_optimizer(1e-2, 2, 10, 1.0)
    loss_fn = score_matching(lambda p: edm(lambda x, s: network.apply(p, x, s), 0.5), 0.5)
    one = train_step(loss_fn, optimizer, 0.9)

    def step(key, state):
        return one(key, state, jax.vmap(draw)(jax.random.split(batch_key(key, state.step), 2)))

    return SimpleNamespace(state=initial_state(params, optimizer), step=jax.jit(step), key=jax.random.key(7))


def same(a, b):
    """Bit-identical pytrees."""
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(u, v) for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_five_and_five_steps_are_ten(trainer, tmp_path):
    """A run stopped after 5 steps and restored by a fresh manager ends bit-identical, in parameters, average and optimiser."""
    straight = trainer.state
    for _ in range(10):
        straight, _ = trainer.step(trainer.key, straight)
    state = trainer.state
    for _ in range(5):
        state, _ = trainer.step(trainer.key, state)
    with checkpoint.open_checkpoints(tmp_path / "run") as manager:
        checkpoint.save(manager, state, {})
    with checkpoint.open_checkpoints(tmp_path / "run") as manager:
        state, *_ = checkpoint.restore(manager, trainer.state)
    assert int(state.step) == 5
    for _ in range(5):
        state, _ = trainer.step(trainer.key, state)
    assert same(state, straight) and not same(state.params, trainer.state.params)


def test_an_empty_folder_gives_the_start(trainer, tmp_path):
    with checkpoint.open_checkpoints(tmp_path / "run") as manager:
        assert checkpoint.restore(manager, trainer.state) == (trainer.state, {}, ())


def test_checkpoint_of_another_network(trainer, tmp_path):
    """One line, not a traceback of the reader."""
    with checkpoint.open_checkpoints(tmp_path / "run") as manager:
        checkpoint.save(manager, trainer.state, {})
        manager.wait_until_finished()
        other = trainer.state._replace(params=jax.tree.map(lambda a: jnp.zeros((*a.shape, 2), a.dtype), trainer.state.params))
        with pytest.raises(ValueError, match="does not fit this config's network") as caught:
            checkpoint.restore(manager, other)
    assert "\n" not in str(caught.value)


def test_average_follows_its_formula(trainer):
    """ema <- d ema + (1 - d) params with d = min(.9, (1 + t) / (10 + t))."""
    state, expected = trainer.state, trainer.state.params
    for t in range(3):
        state, _ = trainer.step(trainer.key, state)
        decay = min(0.9, (1 + t) / (10 + t))
        expected = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, expected, state.params)
    for a, b in zip(jax.tree.leaves(state.ema), jax.tree.leaves(expected), strict=True):
        assert np.allclose(a, b, atol=1e-6)  # f32


def test_weights_round_trip(trainer, tmp_path):
    """Names, values and metadata come back; missing, damaged and foreign files are told in one line."""
    path, params = tmp_path / "weights.safetensors", trainer.state.params
    save_weights(path, params, {"config": "{}"})
    assert same(load_weights(path, params), jax.tree.map(np.asarray, params)) and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="no such weights"):
        load_weights(tmp_path / "none.safetensors", params)
    other = jax.tree.map(lambda a: jnp.zeros((*a.shape, 2)), params)
    with pytest.raises(ValueError, match="weights of another network: params/.* in the file, the config's network wants"):
        load_weights(path, other)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="not a whole .safetensors file"):
        load_weights(path, params)


def test_what_is_carried_is_no_weight():
    """It takes no gradient and no average, and is what the loss says; the optimiser does not see it."""

    def loss_fn(params, key, batch):
        return jnp.sum((params["w"] - batch) ** 2) + jnp.sum(params["carried"] * params["w"]), {"carried": params["carried"] + 1}

    optimizer = optax.sgd(0.25)
    state = initial_state({"w": jnp.ones(2), "carried": jnp.zeros(2)}, optimizer)
    step = jax.jit(train_step(loss_fn, optimizer, 0.0))
    for expected, carried in (([1.5, 1.5], 1), ([1.5, 1.5], 2)):
        state, metrics = step(jax.random.key(0), state, jnp.full(2, 2.0))
        assert "carried" not in metrics and np.allclose(state.params["carried"], carried) and np.allclose(state.ema["carried"], carried)
        assert np.allclose(state.params["w"], expected) and np.allclose(state.ema["w"], expected)


def test_groups_take_turns():
    """As `Train.turns` asks: two steps of one, one of the other."""
    optimizer = make_optimizer(1e-2, 1, 10, 1.0, {"critic": 2, "generator": 1})
    state = initial_state({"critic": jnp.zeros(3), "generator": jnp.zeros(3)}, optimizer)
    step, moved = jax.jit(train_step(lambda p, key, batch: (jnp.sum(p["critic"]) + jnp.sum(p["generator"]), {}), optimizer, 0.9)), []
    for _ in range(7):
        before, state = state, step(jax.random.key(0), state, None)[0]
        moved.append("".join(name[0] for name in ("critic", "generator") if np.any(state.params[name] != before.params[name])))
    assert moved == ["", "c", "", "c", "c", "g", "c"]  # the warm-up of each begins at a rate of 0


def test_every_group_ends_at_a_small_rate():
    """The last step of a group that had one turn in six is as small as the others'. Adam's steps are the rate, the first Nesterov's share more."""
    optimizer = make_optimizer(1.0, 1, 120, 1e9, {"critic": 1, "generator": 5})
    state = initial_state({"critic": jnp.zeros(3), "generator": jnp.zeros(3)}, optimizer)
    step, sizes = jax.jit(train_step(lambda p, key, batch: (jnp.sum(p["critic"]) + jnp.sum(p["generator"]), {}), optimizer, 0.9)), []
    for _ in range(120):
        before, state = state, step(jax.random.key(0), state, None)[0]
        sizes.append([float(before.params[name][0] - state.params[name][0]) for name in ("critic", "generator")])
    for moves in np.array(sizes).T:
        moves = moves[moves > 0]
        assert np.isclose(moves.max(), 1, atol=0.2) and moves[-1] < 0.05, moves


def test_log_is_one_json_object_a_line(tmp_path):
    """Appending keeps what is there."""
    log.append(tmp_path / "log.jsonl", step=1, loss=0.5)
    log.append(tmp_path / "log.jsonl", step=2, loss=0.25)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2] and all(line["time"] > 0 for line in lines)


@pytest.mark.parametrize(
    "spec",
    [Spec("score_matching"), Spec("flow_matching"), Spec("ddpm_loss", {"betas": Spec("ddpm.linear_betas", {"num_steps": 50, "last": 0.3})})],
    ids=lambda spec: spec.name,
)
def test_every_loss_of_a_config_trains_its_denoiser(monkeypatch, spec):
    """Each is given what it takes, begins at the value of the denoiser it is told to train, and falls on one batch."""
    module = SimpleNamespace(init=lambda key, x, noise: {"gain": jnp.zeros(())}, apply=lambda params, x, noise: params["gain"] * x)
    monkeypatch.setattr("medjax.networks.unet.unet", lambda: module)
    config = Prior((8,), Spec("torso"), Spec("hounsfield"), Spec("unet"), sigma_data=0.5, mean=0.2, checkpoint="")
    batch, key = 0.2 + 1.5 * jax.random.normal(jax.random.key(1), (16, 8)), jax.random.key(2)  # thrice the sigma_data that is told
    loss_fn = loss(config, spec)
    step = jax.jit(train_step(lambda params, _, batch: loss_fn(params, key, batch), optax.adam(0.05), 0.9))
    state, values = initial_state(initialise(config, key), optax.adam(0.05)), []
    for _ in range(20):
        state, metrics = step(key, state, batch)
        values.append(float(metrics["loss"]))
    untrained = edm(lambda x, noise: jnp.zeros_like(x), 0.5, 0.2)
    start = build(spec, lambda params: untrained, **taken(spec, {"sigma_data": 0.5}))({}, key, batch)[0]
    assert np.all(np.isfinite(values)) and np.isclose(values[0], start, rtol=1e-10)
    assert values[-1] < 0.8 * values[0]


def quadratic(params, key, batch):
    """A loss that is a mean over the examples and draws nothing."""
    A, x = batch
    errors = jax.vmap(lambda x: jnp.sum((A @ params["w"] - x) ** 2))(x)
    return jnp.mean(errors), {"largest": jnp.max(errors)}


def test_gradients_of_parts_add_up():
    """Two, three and six parts give the step of the whole batch; what has no examples on its first axis goes to every part."""
    batch = jax.random.normal(jax.random.key(1), (4, 3)), jax.random.normal(jax.random.key(2), (6, 4))
    start = initial_state({"w": jnp.ones(3)}, optax.sgd(0.1))
    ends = {n: jax.jit(train_step(quadratic, optax.sgd(0.1), 0.9, n, (False, True)))(jax.random.key(0), start, batch) for n in (1, 2, 3, 6)}
    for state, metrics in ends.values():
        assert np.allclose(state.params["w"], ends[1][0].params["w"], rtol=1e-12) and np.allclose(metrics["loss"], ends[1][1]["loss"], rtol=1e-12)
        assert np.allclose(metrics["grad_norm"], ends[1][1]["grad_norm"], rtol=1e-12)
    with pytest.raises(ValueError, match="a batch of 6 cannot be taken in 4 parts"):
        train_step(quadratic, optax.sgd(0.1), 0.9, 4, (False, True))(jax.random.key(0), start, batch)


def test_parts_have_keys_of_their_own_and_hand_on_what_is_carried():
    def loss_fn(params, key, batch):
        return jnp.sum(params["w"][None] * batch), {"drawn": jax.random.normal(key), "carried": params["carried"] + jnp.sum(batch)}

    start = initial_state({"w": jnp.ones(2), "carried": jnp.zeros(())}, optax.sgd(0.1))
    state, metrics = jax.jit(train_step(loss_fn, optax.sgd(0.1), 0.9, 2))(jax.random.key(0), start, jnp.arange(8.0).reshape(4, 2))
    key = jax.random.split(jax.random.fold_in(jax.random.key(0), 0))[1]
    wanted = np.mean([jax.random.normal(jax.random.fold_in(key, i)) for i in range(2)])
    assert np.isclose(state.params["carried"], 28) and np.isclose(metrics["drawn"], wanted) and "carried" not in metrics


def test_arithmetic_is_counted():
    """Products, convolutions and batches by hand; a loop as often as it runs, a branch by its largest."""
    a, b = jnp.zeros((3, 4)), jnp.zeros((4, 5))
    assert matrix_flops(lambda a, b: a @ b, a, b) == 2 * 3 * 4 * 5
    assert matrix_flops(lambda a, b: jax.vmap(lambda row: row @ b)(a), a, b) == 2 * 3 * 4 * 5
    assert matrix_flops(lambda a, b: jax.lax.scan(lambda c, _: (c, a @ b), 0, None, length=7)[1], a, b) == 7 * 2 * 3 * 4 * 5
    assert matrix_flops(lambda a, b: jax.lax.cond(a[0, 0] > 0, lambda: (a @ b)[0, 0], lambda: 0.0), a, b) == 2 * 3 * 4 * 5
    network = unet(width=8, multipliers=(1,), attention_levels=())
    x = jnp.zeros((16, 16))
    params = jax.eval_shape(network.init, jax.random.key(0), x, jnp.zeros(()))
    channels = [(4, 8), *[(8, 8)] * 2, *[(8, 8)] * 2, *[(16, 8), (8, 8)] * 2, (8, 4)]  # stem, down, middle, two up (each behind a skip), head
    maps = 2 * 64 * (9 * sum(i * o for i, o in channels) + 2 * 16 * 8) + 2 * 64 * (8 * 24 + 8 * 8) + 2 * 2 * 64 * 64 * 8
    vectors = 2 * (32 * 32 + 32 * 32 + 4 * 32 * 16)
    assert matrix_flops(network.apply, params, x, jnp.zeros(())) == maps + vectors


def test_speed_of_a_known_device(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(device_kind="NVIDIA H100 PCIe")] * 2)
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    found = speed(100, 378e12, 2.0, 0.5)
    assert found == {"images_per_second": 50.0, "teraflops": 189.0, "input_share": 0.25, "utilisation": 0.125}


@pytest.mark.parametrize(
    "kind, tera",
    [
        *(("TPU v5 lite", 197), ("TPU v5e", 197), ("TPU v5", 459), ("TPU v5p", 459), ("TPU v6 lite", 918), ("TPU v6e", 918), ("TPU v4", 275)),
        *(("TPU v3", 123 / 2), ("TPU7x", 2307 / 2)),  # two devices a chip
        *(("NVIDIA H100 PCIe", 756), ("NVIDIA H100 80GB HBM3", 989.4), ("NVIDIA H200", 989.4), ("NVIDIA A100-SXM4-80GB", 312)),
        *((name, None) for name in ("TPU v4 lite", "NVIDIA H100 NVL", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA RTX A1000", "Tesla V100", "cpu")),
    ],
)
def test_peaks_go_by_whole_names(kind, tera):
    """Names that begin alike are of devices that are twice as fast or half of one."""
    assert peak_flops(SimpleNamespace(device_kind=kind)) == (tera and 1e12 * tera)
