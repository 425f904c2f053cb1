"""How tests compile, which is what they take their time for: without the optimiser, in a quarter of the time. XLA_FLAGS of your own go before."""

import importlib.metadata
import os

VERSION = tuple(int(part) for part in importlib.metadata.version("jax").split(".")[:2])
EMITTERS = {"xla_cpu_use_fusion_emitters": False} if VERSION < (0, 12) else {}  # later compilers have no other way
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True} | EMITTERS
FULL = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False} | dict.fromkeys(EMITTERS, True)


def compile_quickly():
    """For this process, before it imports jax, and for those that it starts."""
    os.environ.setdefault("XLA_FLAGS", " ".join(f"--{name}={str(value).lower()}" for name, value in QUICK.items()))
