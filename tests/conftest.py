"""Settings and fixtures of all tests."""

import gc
import itertools
import os
import zlib

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # idle threads of several workers spin: a decomposition of .1 s took 24

from compiler import compile_quickly

compile_quickly()

import jax  # noqa: E402
import pytest  # noqa: E402

gc.set_threshold(100_000, 50, 100)  # tracing makes many objects that live: looking for dead ones took a twentieth of the time

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def few_programs(counter=itertools.count(1)):  # noqa: B008
    """Drop the compiled programs now and then: a whole run would hold several GB of them."""
    if next(counter) % 200 == 0:
        jax.clear_caches()


@pytest.fixture
def key(request):
    """A key fixed by the test's own name: reproducible, and different for each test."""
    return jax.random.key(zlib.crc32(request.node.name.encode()))
