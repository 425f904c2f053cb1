"""Contract rows of what is learned without a network: masks and strengths."""

import jax
import jax.numpy as jnp
import numpy as np
from learned_row import LearnedRow
from rows_learned_mri import centred
from scipy.optimize import brentq, lsq_linear
from scipy.special import expit

from medjax.learned.learned_mask import learned_mask
from medjax.learned.learned_strength import learned_strength
from medjax.operators.algebra import compose, identity
from medjax.operators.complex_channels import complex_channels
from medjax.operators.masked_fourier import masked_fourier
from medjax.operators.zero_filled import zero_filled
from medjax.solvers.tv_reconstruction import tv_reconstruction
from medjax.typing import Examples, Reconstruction

DIRECT = Reconstruction(lambda key, A, y: {}, lambda params, A, y, sigma_y: (zero_filled(A, y), {}))
STRENGTH = 1.3


def kspace_examples(key, num=4, width=8):
    """Images whose energy lies in columns 1 and 6 of k-space, beside the centre 4, all of it sampled."""
    A = compose(masked_fourier(jnp.ones((width, width))), complex_channels())
    share = jnp.array([0.1, 1.0, 0.1, 0.2, 2.0, 0.15, 0.9, 0.05])
    parts = jax.random.normal(key, (2, num, width, width))
    y = share[None, None] * jax.lax.complex(*parts)
    return Examples(A, jax.vmap(A.adjoint)(y), y, jnp.full(num, 0.01))


def weighted_lines(A, y, sigma_y):
    """The zero-filled image of k-space times p^2, p of three lines by scipy: one in the centre, and the logistic function elsewhere."""
    logits = np.linspace(-1, 1, 8) ** 3
    p = np.ones(8)
    shift = brentq(lambda c: np.sum(expit(5 * logits + c)[np.arange(8) != 4]) - 2, -20, 20, xtol=1e-14)
    p[np.arange(8) != 4] = expit(5 * logits + shift)[np.arange(8) != 4]
    image = centred(np.fft.ifft2, np.asarray(y) * p**2)
    params = {"mask": {"logits": jnp.asarray(logits)}, "reconstruction": {}}
    return learned_mask(DIRECT, 8 / 3, 1 / 8), params, jnp.stack([image.real, image.imag], -1)


def steps(key):
    """Noisy columns `[16, 1]` of four levels."""
    x = jnp.repeat(jax.random.normal(key, (2, 4, 1)), 4, 1)
    return Examples(identity(), x, x + 0.3 * jax.random.normal(jax.random.fold_in(key, 1), x.shape), jnp.full(2, 0.3))


def dual_of_total_variation(A, y, sigma_y):
    """In one dimension the dual is a least-squares problem in a box, |p| <= lambda sigma^2, x = y - D^T p: by scipy's active sets."""
    D = np.diff(np.eye(16), axis=0)
    bound = STRENGTH * float(sigma_y) ** 2
    dual = lsq_linear(D.T, np.asarray(y)[:, 0], (-bound, bound), method="bvls", tol=1e-15)
    made = learned_strength(tv_reconstruction, zero_filled, tolerance=1e-13, max_steps=20_000)
    return made, {"log_strength": jnp.log(STRENGTH)}, jnp.asarray(y - (D.T @ dual.x)[:, None])


LEARNED_PARAMETERS = {
    "learned_mask": LearnedRow(lambda: learned_mask(DIRECT, 8 / 3, 1 / 8), kspace_examples, weighted_lines, learning_rate=0.05),
    "learned_strength": LearnedRow(
        lambda: learned_strength(tv_reconstruction, zero_filled, 0.1, tolerance=1e-11, max_steps=5000),
        steps,
        dual_of_total_variation,
        learning_rate=0.3,
    ),
}
