"""Settings and fixtures of all tests."""

import zlib

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key(request):
    """A key fixed by the test's own name: reproducible, and different for each test."""
    return jax.random.key(zlib.crc32(request.node.name.encode()))
