"""Weighted particles: how many they are worth, and drawing them anew."""

import jax
import jax.numpy as jnp


def effective_sample_size(log_weights):
    r""":math:`(\sum w)^2 / \sum w^2`, between 1 and the number of particles.

    Args:
      log_weights: `[p]` log w, up to a constant.

    Returns:
      A real scalar.

    Reference:
      Kong, Liu & Wong (1994), Sequential imputations and Bayesian missing data problems.
    """
    return 1 / jnp.sum(_weights(log_weights) ** 2)


def systematic(key, log_weights):
    """Ancestors of p new particles of equal weight, by one uniform number.

    Args:
      key: typed key.
      log_weights: `[p]` log w, up to a constant.

    Returns:
      `[p]` indices; particle i is chosen floor(p w_i) or ceil(p w_i) times.

    Reference:
      Kitagawa (1996); Douc, Cappe & Moulines (2005), section 2.4, https://arxiv.org/abs/cs/0507025
    """
    num = log_weights.shape[0]
    edges = jnp.cumsum(_weights(log_weights))
    places = (jnp.arange(num) + jax.random.uniform(key, dtype=edges.dtype)) / num * edges[-1]
    return jnp.minimum(jnp.searchsorted(edges, places, side="right"), num - 1)


def multinomial(key, log_weights):
    """Ancestors of p new particles of equal weight, drawn independently.

    Args:
      key: typed key.
      log_weights: `[p]` log w, up to a constant.

    Returns:
      `[p]` indices.
    """
    edges = jnp.cumsum(_weights(log_weights))
    places = jax.random.uniform(key, log_weights.shape, edges.dtype) * edges[-1]
    return jnp.minimum(jnp.searchsorted(edges, places, side="right"), log_weights.shape[0] - 1)


def drawn_anew(ancestors, log_weights, x):
    """The particles of the ancestors, in which a broken one stays in its place, as NaN, to be seen and to have no children.

    Args:
      ancestors: `[p]` indices, of `systematic` or `multinomial`.
      log_weights: `[p]` log w that they were drawn by; NaN or +infinity of a broken particle. Where none is finite all are broken.
      x: `[p, ...]` particles.

    Returns:
      Like x.
    """
    broken = _broken(log_weights) | ~jnp.any(jnp.isfinite(log_weights))
    return jnp.where(broken.reshape(-1, *(1,) * (x.ndim - 1)), jnp.nan, x[ancestors])


def of_images(x, A, y):
    """x, particles of images.

    Args:
      x: `[p, ...]` particles.
      A: operator.
      y: data.

    Returns:
      x.

    Raises:
      ValueError: where the operator does not take one of the particles.
    """
    wanted = jax.eval_shape(A.adjoint, y).shape
    if not x.ndim or x.shape[1:] != wanted:
        raise ValueError(f"x is {list(x.shape)}, particles [p, ...] of images {list(wanted)} are needed")
    return x


def _weights(log_weights):
    """Normalised, 0 of broken particles."""
    return jax.nn.softmax(jnp.where(_broken(log_weights), -jnp.inf, log_weights))


def _broken(log_weights):
    return jnp.isnan(log_weights) | (log_weights == jnp.inf)
