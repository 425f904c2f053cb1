"""Training of a prior against PyTorch: python benchmarks/training.py [--only prior] [--json FILE].

`prior`: the U-Net of `ct_torso` at 128 px and a small one at 64 px, batches of 8, float32 on 2 threads of a processor; a step is noise, loss,
gradient, clipping, Adam and the moving average. PyTorch has the same layers, weights, loss and optimiser, channels last, its own kernels for all
of it. Before the race both are given one noisy batch, and their gradients are compared (`gap`). `x` is how many times faster medjax is, the median
over neighbours.

`scaling`: images a second on 1, 2, 4, 8 of the devices that there are, as many images on each, weights a copy on each and in shards; `efficiency` is
the speed over that of so many single devices; `reduced` and `gathered` are bytes that the compiled step reduces and gathers, over those of the
weights. Devices that share one processor (XLA_FLAGS=--xla_force_host_platform_device_count=8) share its speed.

`plan`: what `scaling` should find on hosts of 8 H200, predicted, not measured: arithmetic at 45 % of the peak, the optimiser's products (Muon's, on
each device, in float32) at 45 % of the peak of TF32, which is half; gradients in float32 summed by rings at the makers' bandwidths, 450 GB/s between
devices of a host and 50 GB/s a device between hosts, one after the other. `efficiency` at the least, for nothing is hidden. `scaling`, `plan`
and `accelerator` have the optimiser of `train.py`, `prior` has Adam, as PyTorch has.

`precision`: losses of networks in bfloat16 over those of the same in float32, on generated images that were not trained on: shipped weights, and
small networks after 500 steps in either, from the same start, images and draws; ± a standard error over batches or trainings.

`accelerator`: on one, the share of its peak that a step of a U-Net of 256 px reaches in bfloat16 (model FLOP utilisation), by batch size.
"""

import dataclasses
import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from race import faster, gap, main, milliseconds, race  # noqa: E402

from medjax.config import Spec, load  # noqa: E402
from medjax.diffusion.edm import edm  # noqa: E402
from medjax.diffusion.score_matching import score_matching  # noqa: E402
from medjax.experiment.task import task  # noqa: E402
from medjax.networks.bfloat16 import bfloat16  # noqa: E402
from medjax.networks.unet import unet  # noqa: E402
from medjax.training import mesh  # noqa: E402
from medjax.training.flops import matrix_flops, peak_flops, train_flops  # noqa: E402
from medjax.training.state import initial_state, make_optimizer, train_step  # noqa: E402
from medjax.training.traffic import sent  # noqa: E402
from medjax.training.weights import load_weights  # noqa: E402

BATCH, RATE, CLIP, DECAY = 8, 1e-4, 1.0, 0.999
SIGMA_DATA, MEAN_LOG, STD_LOG = 0.5, -1.2, 1.2
NETWORKS = {
    "ct_torso, 128 px": (128, {"width": 32, "multipliers": (1, 2, 3, 3), "attention_levels": (3,)}),
    "small, 64 px": (64, {"width": 32, "multipliers": (1, 2, 2), "attention_levels": (2,)}),
}
LARGE = {"width": 128, "multipliers": (1, 2, 3, 4), "num_blocks": 2, "attention_levels": (3,)}


class Torch:
    """The peer: the U-Net of `networks/unet.py` in PyTorch's functions, from its weights."""

    def __init__(self, options, params, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch, self.options, self.F = torch, options, torch.nn.functional
        self.tree = jax.tree_util.tree_map_with_path(self._own, params["params"])
        self.weights = jax.tree.leaves(self.tree)
        self.average = [p.detach().clone() for p in self.weights]
        self.optimizer = torch.optim.Adam(self.weights, lr=RATE, betas=(0.9, 0.999))

    def _own(self, path, leaf):
        """A weight in PyTorch's layout; folded channels are (c p q) there and (p q c) here."""
        names, a = [key.key for key in path], np.asarray(leaf)
        if a.ndim == 4:
            a = a.transpose(3, 2, 0, 1)
        elif names[-2].startswith("Dense") and len(names) == 2:  # of a change of level
            down = int(names[0].split("_")[1]) < len(self.options["multipliers"]) - 1
            if down:
                a = a if a.ndim == 1 else a.reshape(4, -1, a.shape[-1]).transpose(2, 1, 0).reshape(a.shape[-1], -1)
            else:
                a = a.reshape(4, -1).T.ravel() if a.ndim == 1 else a.reshape(a.shape[0], 4, -1).transpose(2, 1, 0).reshape(-1, a.shape[0])
        elif a.ndim == 2:
            a = a.T
        found = self.torch.tensor(a.copy(), requires_grad=True)
        return found.detach().to(memory_format=self.torch.channels_last).requires_grad_() if a.ndim == 4 else found

    def _norm(self, w, h):
        return self.F.group_norm(h, h.shape[1] // 8, w["scale"], w["shift"], 1e-5)

    def _conv(self, w, h):
        return self.F.conv2d(h, w["kernel"], w["bias"], padding=1)

    def _point(self, w, h):
        return self.F.conv2d(h, w["kernel"][..., None, None], w.get("bias"))

    def _block(self, w, h, embedding):
        kernels = [w[f"Dense_{i}"] for i in range(2) if f"Dense_{i}" in w]
        skip = self._point(kernels[0], h) if len(kernels) == 2 else h
        scale, shift = self.F.linear(embedding, kernels[-1]["kernel"], kernels[-1]["bias"])[..., None, None].chunk(2, 1)
        h = self._conv(w["Conv3x3_0"], self.F.silu(self._norm(w["GroupNorm_0"], h)))
        h = self._norm(w["GroupNorm_1"], h) * (1 + scale) + shift
        h = skip + self._conv(w["Conv3x3_1"], self.F.silu(h))
        return self._attention(w["SelfAttention_0"], h) if "SelfAttention_0" in w else h

    def _attention(self, w, h):
        b, c, height, width = h.shape
        heads = max((n for n in range(1, c // 32 + 1) if c % n == 0), default=1)
        qkv = self._point(w["Dense_0"], self._norm(w["GroupNorm_0"], h)).reshape(b, 3, heads, c // heads, height * width)
        q, k, v = qkv.transpose(3, 4).unbind(1)
        out = self.F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(b, c, height, width)
        return h + self._point(w["Dense_1"], out)

    def network(self, x, noise):
        """x `[b, 1, h, w]`, noise `[b]`."""
        w, torch, F = self.tree, self.torch, self.F
        names, changes = (itertools.count() for _ in range(2))
        block = lambda h: self._block(w[f"ResidualBlock_{next(names)}"], h, embedding)  # noqa: E731
        angles = 0.5 * np.pi * noise[:, None] * torch.exp(torch.linspace(0, float(np.log(32)), 16))
        embedding = torch.cat([torch.cos(angles), torch.sin(angles)], 1)
        for i in range(2):
            dense = w["NoiseEmbedding_0"][f"Dense_{i}"]
            embedding = F.silu(F.linear(embedding, dense["kernel"], dense["bias"]))
        h = self._conv(w["stem"], F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        skips, levels, blocks = [h], len(self.options["multipliers"]), self.options.get("num_blocks", 1)
        for level in range(levels):
            for _ in range(blocks):
                h = block(h)
                skips.append(h)
            if level < levels - 1:
                h = self._point(w[f"Dense_{next(changes)}"], F.pixel_unshuffle(h, 2))
                skips.append(h)
        h = block(h)
        for level in reversed(range(levels)):
            for _ in range(blocks + 1):
                h = block(torch.cat([h, skips.pop()], 1))
            if level > 0:
                h = F.pixel_shuffle(self._point(w[f"Dense_{next(changes)}"], h), 2)
        return F.pixel_shuffle(self._conv(w["head"], F.silu(self._norm(w["GroupNorm_0"], h))), 2)

    def loss(self, x, noise, sigma):
        """EDM's loss of images `[b, 1, h, w]`."""
        s = sigma[:, None, None, None]
        total = s**2 + SIGMA_DATA**2
        noisy = x + s * noise
        out = self.network(noisy / total.sqrt(), sigma.log() / 4)
        found = SIGMA_DATA**2 / total * noisy + s * SIGMA_DATA / total.sqrt() * out
        return self.torch.mean(total / (s * SIGMA_DATA) ** 2 * (found - x) ** 2)

    def step(self, x):
        """One of training."""
        torch = self.torch
        sigma = torch.exp(MEAN_LOG + STD_LOG * torch.randn(len(x)))
        self.optimizer.zero_grad()
        loss = self.loss(x, torch.randn_like(x), sigma)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, CLIP)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.weights, 1 - DECAY)
        return float(loss.detach())


def prepared(size, options, dtype=None, optimizer=None):
    """Network, weights none of which is 0, loss and optimiser, that of the race or another."""
    network = unet(**options)
    x = jnp.zeros((size, size))
    params = jax.jit(network.init)(jax.random.key(0), x, jnp.zeros(()))
    params = jax.tree.map(lambda leaf: leaf + 0.02 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)
    used = bfloat16(network) if dtype == "bfloat16" else network
    loss_fn = score_matching(lambda p: edm(lambda x, s: used.apply(p, x, s), SIGMA_DATA), SIGMA_DATA, MEAN_LOG, STD_LOG)
    return network, params, loss_fn, optimizer or optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(RATE))


def gradients(network, params, peer, x, noise, sigma):
    """Those of both for one noisy batch, joined."""

    def loss(p):
        def one(x, noise, sigma):
            total = sigma**2 + SIGMA_DATA**2
            denoise = edm(lambda x, s: network.apply(p, x, s), SIGMA_DATA)
            return total / (sigma * SIGMA_DATA) ** 2 * jnp.mean((denoise(x + sigma * noise, sigma) - x) ** 2)

        return jnp.mean(jax.vmap(one)(x, noise, sigma))

    ours = jax.jit(jax.grad(loss))(params)["params"]
    tensors = (peer.torch.tensor(np.asarray(a)) for a in (x[:, None], noise[:, None], sigma))
    peer.loss(*tensors).backward()
    theirs = np.concatenate([p.grad.numpy().ravel() for p in peer.weights])
    laid = jax.tree_util.tree_map_with_path(peer._own, ours)
    return np.concatenate([p.detach().numpy().ravel() for p in jax.tree.leaves(laid)]), theirs


def prior(threads=2):
    """Rows of the race."""
    rows = []
    for name, (size, options) in NETWORKS.items():
        network, params, loss_fn, optimizer = prepared(size, options)
        keys = jax.random.split(jax.random.key(1), 3)
        x, noise = (0.5 * jax.random.normal(k, (BATCH, size, size)) for k in keys[:2])
        sigma = jnp.exp(MEAN_LOG + STD_LOG * jax.random.normal(keys[2], (BATCH,)))
        peer = Torch(options, params, threads)
        difference = gap(*gradients(network, params, peer, x, noise, sigma))
        step, tx = jax.jit(train_step(loss_fn, optimizer, DECAY), donate_argnums=1), peer.torch.tensor(np.asarray(x[:, None]))
        state = [initial_state(params, optimizer)]

        def ours(step=step, state=state, x=x):
            state[0], metrics = step(jax.random.key(2), state[0], x)
            return metrics

        times, _ = race({"medjax": ours, "PyTorch": lambda peer=peer, tx=tx: peer.step(tx)}, turns=9, seconds=60)
        flops = train_flops(loss_fn, params, jax.random.key(2), x)
        for contender, t in times.items():
            row = {
                "network": name,
                "contender": contender,
                "threads": threads,
                "ms a step": milliseconds(t),
                "images/s": 1e3 * BATCH / milliseconds(t),
            }
            rows.append(row | {"GFLOP/s": flops / milliseconds(t) / 1e6, "x": faster(t, times["PyTorch"]), "gap": difference})
    return rows


def scaling():
    """Rows by number of devices."""
    rows, alone = [], 0.0
    real = peak_flops(jax.devices()[0]) is not None
    size, options, dtype, each = (256, LARGE, "bfloat16", 32) if real else (*NETWORKS["small, 64 px"], None, 2)
    _, params, loss_fn, optimizer = prepared(size, options, dtype, make_optimizer(RATE, 0, 1000, CLIP))
    for num in (n for n in (1, 2, 4, 8, 16, 32, 64) if n <= jax.device_count()):
        for shards in sorted({1, num}):
            kinds = (jax.sharding.AxisType.Auto,) * 2
            grid = jax.make_mesh((num // shards, shards), ("data", "shard"), devices=jax.devices()[:num], axis_types=kinds)
            state = initial_state(params, optimizer)
            places, everywhere = mesh.state_sharding(grid, state), mesh.replicated(grid)
            x = mesh.spread(0.5 * jax.random.normal(jax.random.key(1), (each * num, size, size)), mesh.batch_sharding(grid))
            key, held = mesh.spread(jax.random.key(2), everywhere), [mesh.spread(jax.tree.map(jnp.copy, state), places)]
            step = jax.jit(train_step(loss_fn, optimizer, DECAY), donate_argnums=1, out_shardings=(places, everywhere))
            step = step.lower(key, held[0], x).compile()
            moved, size_of_weights = sent(step.as_text()), sum(leaf.nbytes for leaf in jax.tree.leaves(params))

            def ours(step=step, held=held, x=x, key=key):
                held[0], metrics = step(key, held[0], x)
                return metrics

            times, _ = race({"medjax": ours}, turns=5, seconds=60)
            speed = 1e3 * each * num / milliseconds(times["medjax"])
            alone = alone or speed
            row = {"devices": num, "weights in": shards, "images a step": each * num, "images/s": speed, "efficiency": speed / num / alone}
            reduced = moved.get("all-reduce", 0) + shards * moved.get("reduce-scatter", 0)  # the result of the latter is one of as many shards
            gathered = moved.get("all-gather", 0) + moved.get("all-to-all", 0)
            rows.append(row | {"reduced": reduced / size_of_weights, "gathered": gathered / size_of_weights})
    return rows


def plan(each=32, share=0.45, peak=989.4e12, inside=450e9, between=50e9, host=8, gathered=4.0):
    """Rows by number of devices, predicted.

    `gathered` is bytes over those of weights in shards: what `scaling` finds on 8 virtual devices, less that of whole weights, which are activations.
    """
    _, params, loss_fn, optimizer = prepared(256, LARGE, "bfloat16", make_optimizer(RATE, 0, 1000, CLIP))
    rows, size = [], sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    compute = train_flops(loss_fn, params, jax.random.key(2), jax.ShapeDtypeStruct((each, 256, 256), jnp.float32)) / share / peak
    update = matrix_flops(optimizer.update, params, jax.eval_shape(optimizer.init, params), params) / share / (peak / 2)
    for num in (1, 8, 64, 512):
        near, far = 1 - 1 / min(num, host), 1 - host / max(num, host)
        for shards in sorted({1, min(num, host)}):
            reduce = 2 * near * size / inside + 2 * far * size / host / between
            gather = gathered * near * size / inside if shards > 1 else 0.0
            row = {"devices": num, "weights in": shards, "images a step": each * num, "compute [ms]": 1e3 * compute, "update [ms]": 1e3 * update}
            efficiency = (compute + update) / (compute + update + reduce + gather)
            rows.append(row | {"reduce [ms]": 1e3 * reduce, "gather [ms]": 1e3 * gather, "efficiency": efficiency})
    return rows


def precision(num_steps=500, num_seeds=3):
    """Rows by network: its losses in float32, and how much bfloat16 changes them."""
    rows = []
    for name in ("ct_torso", "mri_brain"):
        both = _in_both(load(ROOT / f"configs/{name}.py"))
        work = both["float32"]
        params = load_weights(ROOT / f"checkpoints/{name}.safetensors", jax.eval_shape(work.initialise, jax.random.key(0)))
        losses = {dtype: _held_out(each, jax.jit(each.loss_fn), params, 16) for dtype, each in both.items()}
        rows += _changes(f"{name}, shipped weights", losses)
    found = load(ROOT / "configs/debug.py")
    network = Spec("unet", {"width": 16, "multipliers": (1, 2), "attention_levels": (1,), "patch": 2})
    train = dataclasses.replace(found.train, num_steps=num_steps, batch_size=8, num_validation=64)
    both = _in_both(dataclasses.replace(found, prior=dataclasses.replace(found.prior, network=network), train=train))
    losses = {dtype: _trained(each, num_seeds) for dtype, each in both.items()}
    return rows + _changes(f"small, 32 px, {num_steps} steps", losses)


def _in_both(config):
    """dtype -> the training of a config's prior with its network in it."""
    half = Spec("bfloat16", {"network": config.prior.network})
    return {"float32": task(config, ""), "bfloat16": task(dataclasses.replace(config, prior=dataclasses.replace(config.prior, network=half)), "")}


def _held_out(work, loss_fn, params, num):
    """Losses `[num, 3]` of batches that are never trained on: of all levels of noise, of the higher half and of the lower."""
    over, keys = mesh.batch_sharding(mesh.device_mesh(1, 1)), jax.random.split(jax.random.key(0), num)
    found = [loss_fn(params, keys[i], work.held_out(work.source, i, over)) for i in range(num)]
    return np.array([[loss, told["loss_high_noise"], told["loss_low_noise"]] for loss, told in found])


def _trained(work, num_seeds):
    """Losses `[num_seeds, 3]` after trainings from these seeds."""
    optimizer, over = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(1e-3)), mesh.batch_sharding(mesh.device_mesh(1, 1))
    step, loss_fn, rows = jax.jit(train_step(work.loss_fn, optimizer, DECAY), donate_argnums=1), jax.jit(work.loss_fn), []
    for key in map(jax.random.key, range(num_seeds)):
        state = initial_state(work.initialise(key), optimizer)
        for batch, _ in itertools.islice(work.stream(work.source, key, 0, over), work.settings.num_steps):
            state, _ = step(key, state, batch)
        rows.append(_held_out(work, loss_fn, state.ema, 8).mean(0))
    return np.stack(rows)


def _changes(name, losses):
    """Rows of `losses`, dtype -> `[n, 3]`."""
    whole, half = losses["float32"], losses["bfloat16"]
    change = 100 * (half / whole - 1)
    errors = change.std(0, ddof=1) / np.sqrt(len(change))
    columns = zip(("all", "higher", "lower"), whole.mean(0), half.mean(0), change.mean(0), errors, strict=True)
    return [
        {"network": name, "noise": noise, "float32": float(a), "bfloat16": float(b), "change [%]": float(c), "±": float(e)}
        for noise, a, b, c, e in columns
    ]


def accelerator():
    """Utilisation by batch size; a processor has no known peak, and the table is left out there."""
    if peak_flops(jax.devices()[0]) is None:
        return [{"device": jax.devices()[0].device_kind, "utilisation": float("nan")}]
    rows = []
    for batch, remat in ((16, False), (32, False), (64, True)):
        _, params, loss_fn, optimizer = prepared(256, LARGE | {"remat": remat}, "bfloat16", make_optimizer(RATE, 0, 1000, CLIP))
        x = 0.5 * jax.random.normal(jax.random.key(1), (batch, 256, 256))
        step, state = jax.jit(train_step(loss_fn, optimizer, DECAY), donate_argnums=1), [initial_state(params, optimizer)]

        def ours(step=step, state=state, x=x):
            for _ in range(5):
                state[0], metrics = step(jax.random.key(2), state[0], x)
            return metrics

        times, _ = race({"medjax": ours}, turns=9, seconds=60)
        seconds = milliseconds(times["medjax"]) / 5e3
        share = train_flops(loss_fn, params, jax.random.key(2), x) / seconds / peak_flops(jax.devices()[0])
        size = sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6
        rows.append({"M weights": size, "batch": batch, "remat": str(remat), "images/s": batch / seconds, "utilisation": share})
    return rows


if __name__ == "__main__":
    main(__doc__, {"prior": prior, "scaling": scaling, "plan": plan, "precision": precision, "accelerator": accelerator})
