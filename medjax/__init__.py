"""medjax: medical image reconstruction and generation with learned priors, as pure functions in JAX."""

__version__ = "0.1.0"
