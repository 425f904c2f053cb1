"""Noise of any reconstruction, pixel by pixel."""

import jax
import jax.numpy as jnp
from jax import lax


def noise_map(key, reconstruct, y, num_probes=100, blocks=None, covariance=None):
    r"""Standard deviation of each pixel of `reconstruct(y + n)` for small complex noise n, by the derivative J at y.

    .. math::
        \sigma_i = \sqrt{[J \Psi J^H]_{ii}}, \qquad E[n n^H] = \Psi \otimes I

    Two unbiased estimates of :math:`\sigma^2`, from P probes:

    * `blocks=None` sends noise forward, the mean of :math:`|J n|^2`. Relative standard error of sigma: :math:`1 / (2 \sqrt P)`, and :math:`\sqrt 2`
      times that for a real image.
    * With blocks, a probe z has random phases on one block of pixels and is 0 elsewhere: :math:`\operatorname{Re} \bar z_i (C z)_i, C = J \Psi J^H`.
      It errs by noise correlations *within* the block alone: relative variance of :math:`\sigma^2` is :math:`\sum_{j \neq i} |C_{ij}|^2 / (2 P
      C_{ii}^2)` where J is linear over the complex numbers. So for every R-th column `blocks=(1, R)` is **exact with one probe**, for aliases lie w
      / R apart, and `blocks=(h, w)` is exact for every such J.

    Args:
      key: typed key.
      reconstruct: `y -> image [h, w]`, real or complex, differentiable; in reverse, too, where blocks are asked for. Noise lies on all of y: it must
        multiply by its own mask.
      y: `[c, ...]` complex data. Iterations of conjugate gradients are not linear in y: of a solver run to convergence take the derivative of its
        solution (`lax.custom_linear_solve`), else J is that of the iterations, which on special data leave out what those data do not hold.
      num_probes: P, of each block.
      blocks: None, or (b_y, b_x), how many blocks the image is cut into along each axis; b_y b_x P probes cost one J^H and one J each.
      covariance: Psi `[c, c]`; None for whitened channels, of unit noise.

    Returns:
      `[h, w]` real, sqrt(E |x - E x|^2).

    Raises:
      ValueError: when y is real, or the blocks do not lie in [1, h] x [1, w].

    Reference:
      Noise replicas through the reconstruction itself: Robson et al. (2008), https://doi.org/10.1002/mrm.21728. Probes for a diagonal: Bekas,
      Kokiopoulou & Saad (2007), https://doi.org/10.1016/j.apnum.2007.01.003
    """
    if not jnp.iscomplexobj(y):
        raise ValueError(f"noise_map needs complex data, got {y.dtype}")
    image = jax.eval_shape(reconstruct, y)
    if blocks is not None and (len(image.shape) != 2 or not all(1 <= b <= n for b, n in zip(blocks, image.shape, strict=True))):
        raise ValueError(f"noise_map needs blocks that cut an image [h, w], got {blocks} for {image.shape}")
    _, push = jax.linearize(reconstruct, y)
    probe = _replica(push, y, covariance) if blocks is None else _block_probe(jax.vjp(reconstruct, y)[1], push, image, blocks, covariance)
    total = num_probes if blocks is None else num_probes * blocks[0] * blocks[1]

    def add(i, variance):
        return variance + probe(jax.random.fold_in(key, i), i)

    variance = lax.fori_loop(0, total, add, jnp.zeros(image.shape, jnp.finfo(image.dtype).dtype)) / num_probes
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), 0)


def _replica(push, y, covariance):
    """`|J n|^2` of one draw."""
    factor = None if covariance is None else jnp.linalg.cholesky(covariance)

    def probe(key, i):
        n = jax.random.normal(key, y.shape, y.dtype)
        x = push(n if factor is None else jnp.tensordot(factor, n, 1))
        return jnp.real(x) ** 2 + jnp.imag(x) ** 2

    return probe


def _block_probe(pull, push, image, blocks, covariance):
    """`Re conj(z) (J Psi J^H z)` of one block."""
    height, width = image.shape
    rows, columns = jnp.arange(height) * blocks[0] // height, jnp.arange(width) * blocks[1] // width
    which = rows[:, None] * blocks[1] + columns[None, :]
    complex_image = jnp.issubdtype(image.dtype, jnp.complexfloating)

    def probe(key, i):
        # of complex noise each real component has variance 1/2, which a real image sees half of
        draw = jax.random.rademacher(key, image.shape, image.dtype) / jnp.sqrt(2).astype(image.dtype)
        phase = jax.random.uniform(key, image.shape, jnp.finfo(image.dtype).dtype, 0, 2 * jnp.pi)
        z = jnp.exp(1j * phase) if complex_image else draw
        z = jnp.where(which == i % (blocks[0] * blocks[1]), z, 0)
        back = jnp.conj(pull(jnp.conj(z))[0])
        x = push(back if covariance is None else jnp.tensordot(covariance, back, 1))
        return jnp.real(jnp.conj(z) * x)

    return probe
