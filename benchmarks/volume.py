"""One step of each volume sampler at 256^3, and the memory it takes: python benchmarks/volume.py [--json FILE].

A volume of 256 slices of 256 x 256 in single precision, 60 parallel views of each slice, and the untrained network of configs/debug.py slice by
slice; patches of 64^3 go through two convolutions with 16 features. Temporaries are what XLA allocates beside x, the state of the kernel, the data
and the result, at 64 and at 256 slices; seconds are of one call.
"""

import functools
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from race import main  # noqa: E402

from medjax.config import load  # noqa: E402
from medjax.diffusion.patchwise import patchwise  # noqa: E402
from medjax.diffusion.slicewise import slicewise  # noqa: E402
from medjax.experiment.prior import denoiser, initialise  # noqa: E402
from medjax.guides.dps import dps  # noqa: E402
from medjax.operators.algebra import each  # noqa: E402
from medjax.operators.parallel_beam import parallel_beam  # noqa: E402
from medjax.operators.uniform_views import uniform_views  # noqa: E402
from medjax.samplers.ddim import ddim  # noqa: E402
from medjax.samplers.dds_volume import dds_volume  # noqa: E402
from medjax.samplers.diffusion_mbir import diffusion_mbir  # noqa: E402
from medjax.samplers.tpdm import tpdm  # noqa: E402

SIZE, SIGMA_Y = 256, 0.5


def _patch_network(params, x, sigma, where):
    """Two convolutions that see the patch and where it lies."""
    h = jnp.concatenate([x[..., None], where], -1)[None]
    for kernel in params:
        h = jnp.tanh(jax.lax.conv_general_dilated(h, kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")))
    return x + sigma * h[0, ..., 0]


def _methods(make, A, y):
    """name -> `params -> (kernel, denoiser)`."""

    def slices(params, axis=0):
        return slicewise(make(params[0]), axis)

    def patches(params):
        return patchwise(lambda x, sigma, where: _patch_network(params[1], x, sigma, where), (64, 64, 64), (48, 48, 48))

    return {
        "prior alone": lambda params: (ddim(1.0), slices(params)),
        "diffusion_mbir": lambda params: (diffusion_mbir(A, y, SIGMA_Y), slices(params)),
        "dds_volume": lambda params: (dds_volume(A, y, SIGMA_Y), slices(params)),
        "tpdm with dps": lambda params: (tpdm(slices(params, axis=1)), dps(A, y, SIGMA_Y, zeta=0.005)(slices(params))),
        "patches of 64^3": lambda params: (ddim(1.0), patches(params)),
    }


def _compiled(name, make, A, params, x, y):
    """One step of a method from its first state, arrays as arguments."""

    def step(params, A, x, y, state):
        kernel, denoise = _methods(make, A, y)[name](params)
        return kernel.step(jax.random.key(0), x, state, jnp.float32(2), jnp.float32(1), denoise)

    state = jax.eval_shape(lambda params, A, x, y: _methods(make, A, y)[name](params)[0].init(x), params, A, x, y)
    return jax.jit(step).lower(params, A, x, y, state).compile(), state


def rows_of(name):
    """Temporaries at both depths and seconds at the larger one."""
    prior = load(Path(__file__).parents[1] / "configs/debug.py").prior
    A = each(parallel_beam(SIZE, uniform_views(60, 0.0, 180.0)))
    kernels = [0.1 * jax.random.normal(jax.random.key(i), (3, 3, 3, *shape)) for i, shape in enumerate(((4, 16), (16, 1)))]
    params, make = (jax.jit(lambda key: initialise(prior, key))(jax.random.key(0)), kernels), denoiser(prior)
    row = {"one step": name, "volume [MB]": SIZE**3 * 4 / 1e6}
    for depth in (64, SIZE):
        x = jax.ShapeDtypeStruct((depth, SIZE, SIZE), jnp.float32)
        y = jax.eval_shape(A, x)
        step, state = _compiled(name, make, A, params, x, y)
        row[f"temporaries at {depth} [MB]"] = step.memory_analysis().temp_size_in_bytes / 1e6
    row["state [MB]"] = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) / 1e6
    x, y, state = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), (x, y, state))
    clock = time.perf_counter()
    jax.block_until_ready(step(params, A, x, y, state))
    return [row | {"seconds": time.perf_counter() - clock}]


if __name__ == "__main__":
    main(__doc__, {name: functools.partial(rows_of, name) for name in _methods(None, None, None)})
