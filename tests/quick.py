"""`jit` for tests, which spend their time on compiling."""

import functools

import jax

OPTIONS = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
OPTIONS |= {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 12) else {}  # later compilers have no other way

quick_jit = functools.partial(jax.jit, compiler_options=OPTIONS)
"""Without the optimiser: a quarter of the time to compile."""
