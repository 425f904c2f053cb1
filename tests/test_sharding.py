"""Samples are the same however they are spread over devices: jit, vmap, pmap, shard_map and a sharded array over a mesh of eight."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from medjax.diffusion.karras import karras
from medjax.diffusion.likelihood import likelihood
from medjax.operators.inpaint import inpaint
from medjax.samplers.diffusion_mbir import diffusion_mbir
from medjax.samplers.sample import sample
from rows_posterior import METHODS, prepared
from test_samplers import KERNELS, SHAPE, denoiser, gaussian_pixels

NUM, PARTICLES = 8, 3
assert jax.device_count() == NUM
sigmas, A = karras(3, 0.1, 5.0), inpaint(jnp.arange(32).reshape(SHAPE) % 2)
y = A(jnp.ones(SHAPE))
runs = {name: (kernel, denoiser(name)) for name, (kernel, _, _) in KERNELS.items()}
for name, row in METHODS.items():
    guide, kernel = row.make(*(prepared(A, y, 0.2) if row.svd else (A, y, 0.2)))
    runs[name] = kernel, guide(gaussian_pixels)
runs["diffusion_mbir"] = diffusion_mbir(A, y, 0.2), gaussian_pixels


def one(key, x):
    out = {}
    for name, (kernel, denoise) in runs.items():
        start = jnp.stack([x * (1 + i) for i in range(PARTICLES)]) if kernel.particles else x
        out[name] = sample(key, kernel, denoise, jnp.append(sigmas[:-1], 0) if kernel.ends_at_zero else sigmas, start)
    for probes in (0, 2):
        out[f"likelihood {probes}"] = likelihood(key, gaussian_pixels, jnp.array([0.1, 0.5, 5.0]), x, num_probes=probes)
    return out


keys, x = jax.random.split(jax.random.key(0), NUM), 5 * jax.random.normal(jax.random.key(1), (NUM, *SHAPE))
mesh = jax.make_mesh((NUM,), ("sample",), axis_types=(jax.sharding.AxisType.Auto,))
spread = jax.device_put((keys, x), NamedSharding(mesh, P("sample")))
alone, over = jax.jit(one), {"mesh": mesh, "in_specs": P("sample"), "out_specs": P("sample")}
expected = jax.tree.map(lambda *rows: np.stack(rows), *[alone(k, v) for k, v in zip(keys, x)])
programs = {
    "pmap": (jax.pmap(one), (keys, x)),
    "sharded": (jax.jit(jax.vmap(one)), spread),
    "shard_map": (jax.jit(jax.shard_map(jax.vmap(one), **over)), spread),
}
for way, (program, inputs) in programs.items():
    found = program(*inputs)
    for name, rows in found.items():
        assert np.allclose(rows, expected[name], rtol=0, atol=1e-10), (way, name, np.abs(rows - expected[name]).max())
        assert len(rows.sharding.device_set) == NUM, (way, name)
print("equal", len(runs))
"""


def test_samples_are_equal_on_a_mesh():
    """Every kernel and posterior sampler, and the likelihood, to 1e-10 in double precision; no way gathers the samples on one device."""
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "XLA_FLAGS": flags}
    environment["NPROC"] = "64"  # threads of XLA: eight programs that wait for their own parts in a pool as small as the machine wait for ever
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    words = [sys.executable, "-W", "error", "-c", PROGRAM]
    result = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0 and result.stdout.startswith("equal"), result.stderr[-2000:]
